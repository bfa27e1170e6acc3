package overlay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// A check is one that a mutant skips.
type check int

const (
	nothing check = iota
	skipRevoked
	skipExpiry
	skipUnredeemed
	skipServices
	skipDeny
	skipAllow
	skipChosen
	skipClaims
	skipSince
	skipKeep
	skipEnforce
	skipCatchUp
	skipRevokedRedeem
	skipUsedUp
	forgetRevocations
	forgetClaims
)

// A simNode is a Mesh without a network: the same decisions on the same state, and
// its own way to meet others.
type simNode struct {
	*Mesh
	history  *history
	disk     *memoryStore
	key      ed25519.PrivateKey
	root     *credential.Root
	id       peer.ID
	running  bool
	gone     bool // out, left or expired: it does not come back by itself
	part     int  // nodes in different parts can't reach each other
	services map[string]*simService

	// What the model holds.
	gift  *gift
	knows *knowledge
	seen  map[*simNode]*gift // the latest of each that it let in and did not put out

	saved *backup
}

type simService struct {
	access Access
	rules  rules
}

// A backup is a copy of a store, and what the model had then.
type backup struct {
	disk  *memoryStore
	gift  *gift
	knows *knowledge
}

func cloneStore(s *memoryStore) *memoryStore {
	out := newMemoryStore()
	for name, b := range s.buckets {
		out.buckets[name] = maps.Clone(b)
	}
	return out
}

// load makes the Mesh of what is on the disk. The error is why there is none.
func (n *simNode) load(mutant check) error {
	proof, err := n.disk.get(selfBucket, keyCredential)
	if err != nil {
		return err
	}
	c, err := credential.Parse(proof)
	if err != nil {
		return err
	}
	return n.start(c, mutant)
}

func (n *simNode) start(c *credential.Credential, mutant check) error {
	mesh := n.history.root.Mesh()
	member, err := c.Verify(mesh, time.Now())
	if errors.Is(err, credential.ErrUnredeemed) {
		member, err = c.Redeem(mesh, time.Now())
	}
	if err != nil {
		return err
	}
	switch mutant {
	case forgetRevocations:
		delete(n.disk.buckets, revocationsBucket)
	case forgetClaims:
		delete(n.disk.buckets, claimsBucket)
	}
	m := &Mesh{
		id: mesh, keys: &identity{key: n.key, mesh: mesh, root: n.root}, store: n.disk, roster: newRoster(),
		changed: make(chan struct{}), log: slog.New(slog.DiscardHandler), self: *member, credential: c,
	}
	if m.revoked, err = loadRevoked(n.disk, mesh); err != nil {
		return err
	}
	if m.claims, err = loadClaims(n.disk, time.Now()); err != nil {
		return err
	}
	if err := m.revoked.check(c); err != nil {
		return err
	}
	n.Mesh, n.seen = m, map[*simNode]*gift{}
	m.admission = newAdmission(n, c.Marshal())
	close(m.admission.ready)
	n.running = true
	return nil
}

// verify is Mesh.verify, less what a mutant skips.
func (n *simNode) verify(c *credential.Credential) (*credential.Member, error) {
	switch n.history.mutant {
	case skipRevoked:
		return c.Verify(n.Mesh.id, time.Now())
	case skipExpiry:
		if member, err := c.Verify(n.Mesh.id, c.Grants()[0].NotAfter); err == nil {
			return member, n.revoked.check(c)
		}
	case skipUnredeemed:
		if member, err := c.Redeem(n.Mesh.id, time.Now()); err == nil {
			return member, n.revoked.check(c)
		}
	}
	return n.Mesh.verify(c)
}

// learn is Mesh.learn, less what a mutant skips.
func (n *simNode) learn(m credential.Member, c *credential.Credential, revoked credential.Hash) error {
	if n.history.mutant == skipRevoked {
		n.roster.learn(m, c, time.Now())
		return nil
	}
	return n.Mesh.learn(m, c, revoked)
}

// redeem is Mesh.redeem among those that can be reached.
func (n *simNode) redeem(ctx context.Context, c *credential.Credential) ([]byte, error) {
	for _, by := range n.history.askable(n) {
		if proof, err := by.redeemHere(ctx, c); !errors.Is(err, ErrNoAdmin) {
			return proof, err
		}
	}
	return nil, ErrNoAdmin
}

func (n *simNode) redeemHere(ctx context.Context, c *credential.Credential) ([]byte, error) {
	member, err := c.Redeem(n.Mesh.id, time.Now())
	if err != nil {
		return nil, err
	}
	if n.history.mutant != skipRevokedRedeem {
		if err := n.revoked.check(c); err != nil {
			return nil, err
		}
	}
	given, err := n.exchangeFor(member)
	if err != nil {
		return nil, err
	}
	tell := func(context.Context, credential.Serial) {
		for _, other := range n.history.admins(n) {
			n.exchangeClaims(other)
		}
	}
	invite := member.Issuers[0]
	if n.history.mutant == skipUsedUp {
		invite.Uses++
	}
	if err := n.claims.take(ctx, invite, [ed25519.PublicKeySize]byte(member.Key), tell); err != nil {
		return nil, err
	}
	tell(ctx, invite.Serial)
	return given.Marshal(), nil
}

// over runs both ends of an exchange.
func over(serve func(net.Conn) error, ask func(net.Conn) error) {
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer b.Close()
		done <- serve(b)
	}()
	err := ask(a)
	a.Close()
	if err := errors.Join(err, <-done); err != nil {
		panic(err)
	}
}

func (n *simNode) exchangeClaims(other *simNode) {
	if n.history.mutant == skipClaims {
		return
	}
	over(func(c net.Conn) error { return other.answerClaims(c) }, func(c net.Conn) error {
		if err := writeClaims(c, credential.Serial{}, n.claims.of(credential.Serial{})); err != nil {
			return err
		}
		_, err := n.readClaims(c)
		return err
	})
}

func (n *simNode) fetchRevocations(other *simNode) {
	if n.digest() == other.digest() {
		return
	}
	var got []*credential.Revocation
	over(func(c net.Conn) error { return other.answerRevocations(c) }, func(c net.Conn) (err error) {
		if err := writeHeld(c, n.digest(), n.revoked.all(), nil); err != nil {
			return err
		}
		got, err = readRevocations(c)
		return err
	})
	if _, err := n.revoked.take(got...); err != nil {
		panic(err)
	}
}

// enforce is Mesh.enforce without connections.
func (n *simNode) enforce() {
	if n.history.mutant == skipEnforce {
		return
	}
	for id, e := range n.roster.entries {
		if n.standing(&e.member, e.credential, time.Now()) != nil {
			delete(n.roster.entries, id)
		}
	}
	if n.revoked.check(n.credential) != nil {
		n.running, n.gone = false, true
	}
}

// revoke is Mesh.publishRevocation without a network.
func (n *simNode) revoke(issuer *credential.Issuer, terms credential.RevokeTerms) error {
	if n.history.mutant == skipSince {
		terms.Since = time.Time{}
	}
	if n.history.mutant == skipKeep {
		terms.Keep, terms.KeepMade = nil, nil
	}
	r, err := issuer.Revoke(time.Now(), terms)
	if err != nil {
		return err
	}
	if len(terms.Key) > 0 {
		if err := n.mayRevoke(r, terms.Key); err != nil {
			return err
		}
	}
	_, err = n.revoked.take(r)
	return err
}

// permits is the decision of Mesh.admitStream.
func (n *simNode) permits(from peer.ID, service string) bool {
	e := n.roster.entries[from]
	if e == nil {
		return false
	}
	m := Member{ID: from, Name: e.member.Name, Roles: e.member.Roles, NameChosen: e.member.NameChosen, Services: e.member.Services}
	access := n.services[service].access
	switch n.history.mutant {
	case skipServices:
		m.Services = nil
	case skipChosen:
		m.NameChosen = false
	case skipDeny:
		access.Deny = nil
	case skipAllow:
		access.Allow = []Rule{Everyone}
	}
	return access.permits(m, service)
}

// meet has two nodes show each other their credentials.
func meet(a, b *simNode) error {
	if err := a.admission.Check(b.id, b.admission.Proof(a.id)); err != nil {
		return fmt.Errorf("by %s: %w", a.self.Name, err)
	}
	if err := b.admission.Check(a.id, a.admission.Proof(b.id)); err != nil {
		return fmt.Errorf("by %s: %w", b.self.Name, err)
	}
	return nil
}

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func keyText(key ed25519.PublicKey) string { return string(key) }

func idOf(key ed25519.PrivateKey) peer.ID {
	id, err := credential.PeerID(publicOf(key))
	if err != nil {
		panic(err)
	}
	return id
}

func sortedIDs(nodes []*simNode) []*simNode {
	slices.SortFunc(nodes, func(a, b *simNode) int { return slices.Compare([]byte(a.id), []byte(b.id)) })
	return nodes
}
