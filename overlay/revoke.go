package overlay

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// RevokeOptions say how far a revocation goes. The zero value puts out one member
// or one invite.
type RevokeOptions struct {
	// WithAdmittedSince puts out as well whom the admin or the invite admitted
	// from then on. Zero puts out nobody else that this node knows of.
	WithAdmittedSince time.Time
}

// Revoke puts a member or an invite out of the mesh for good: a member by name or
// peer ID, an invite by its ID. It returns once this node has cut all ties and
// has sent word to the others it is connected to. They cut theirs when they hear
// of it, and pass it on; who is away hears of it before it serves anyone.
//
// Of an admin all that it signed is void too. Those it admitted, and whom this
// node knows of, stay in; anybody else with a credential of that admin needs
// another.
//
// Only an admin can revoke. The error is [ErrNotAdmin], or [ErrNotPermitted] for
// an admin that is nearer to the root than this node.
func (m *Mesh) Revoke(ctx context.Context, who string, o RevokeOptions) error {
	if err := m.revoke(ctx, who, o); err != nil {
		return fmt.Errorf("revoke %.80s: %w", who, m.fault(ctx, err))
	}
	return nil
}

func (m *Mesh) revoke(ctx context.Context, who string, o RevokeOptions) error {
	if err := m.alive(); err != nil {
		return err
	}
	if _, _, err := m.issuer(); err != nil {
		return err
	}
	terms, err := m.revokeTerms(ctx, who)
	if err != nil {
		return err
	}
	if !o.WithAdmittedSince.IsZero() && len(terms.Key) == 0 {
		return fmt.Errorf("%w: only the admin that made this invite knows whom it admitted", ErrUnknownInvite)
	}
	terms.Since = o.WithAdmittedSince
	if err := m.keep(&terms); err != nil {
		return err
	}
	return m.publishRevocation(ctx, terms)
}

var (
	// ErrUnknownInvite says that no invite of an ID is known to this node.
	ErrUnknownInvite = errors.New("no such invite")

	// ErrNoEffect says that a revocation was not taken, since all that this node
	// may revoke is too much to keep.
	ErrNoEffect = errors.New("no more revocations can be kept")
)

// revokeTerms finds out whom a text means: a member that is known by that name,
// an invite, or a member that can be found.
func (m *Mesh) revokeTerms(ctx context.Context, who string) (credential.RevokeTerms, error) {
	if serial, err := credential.ParseSerial(who); err == nil && len(m.membersNamed(who)) == 0 {
		return credential.RevokeTerms{Key: m.inviteKey(serial), Invite: serial}, nil
	}
	id, err := m.find(ctx, who)
	if err != nil {
		return credential.RevokeTerms{}, err
	}
	key, err := credential.KeyOf(id)
	return credential.RevokeTerms{Key: key}, err
}

// keep fills in what stays in force of what rests on the key of an admin or an
// invite: the members that this node knows of and those the admin has put out.
func (m *Mesh) keep(terms *credential.RevokeTerms) error {
	terms.Keep = m.rests(terms.Key, terms.Invite, terms.Since)
	if len(terms.Key) > 0 {
		terms.KeepMade = m.revoked.madeBy(terms.Key)
	}
	if n := len(terms.Keep) + len(terms.KeepMade); n > credential.MaxKept {
		return fmt.Errorf("%d members and revocations would have to be named that stay in force; at most %d: once the members have met another admin there are fewer", n, credential.MaxKept)
	}
	return nil
}

// rests returns the credentials that rest on a key and were not given since.
func (m *Mesh) rests(key ed25519.PublicKey, invite credential.Serial, since time.Time) []*credential.Credential {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*credential.Credential
	for member, c := range m.holdersLocked() {
		rests := slices.ContainsFunc(member.Issuers, func(g credential.Grant) bool {
			return g.Key.Equal(key) || len(key) == 0 && g.Serial == invite
		})
		if rests && (since.IsZero() || member.Admitted.Before(since)) {
			out = append(out, c)
		}
	}
	return out
}

// holdersLocked yields this node and the members that it knows of, each with its
// credential.
func (m *Mesh) holdersLocked() iter.Seq2[credential.Member, *credential.Credential] {
	return func(yield func(credential.Member, *credential.Credential) bool) {
		if !yield(m.self, m.credential) {
			return
		}
		for _, e := range m.roster.entries {
			if !yield(e.member, e.credential) {
				return
			}
		}
	}
}

// publishRevocation makes a revocation, acts on it, and tells the others.
func (m *Mesh) publishRevocation(ctx context.Context, terms credential.RevokeTerms) error {
	issuer, _, err := m.issuer()
	if err != nil {
		return err
	}
	if m.keys.root != nil {
		issuer = m.keys.root.Issuer()
	}
	return m.publishRevocationBy(ctx, issuer, terms)
}

func (m *Mesh) publishRevocationBy(ctx context.Context, issuer *credential.Issuer, terms credential.RevokeTerms) error {
	r, err := issuer.Revoke(time.Now(), terms)
	if err != nil {
		return err
	}
	if len(terms.Key) > 0 {
		if err := m.mayRevoke(r, terms.Key); err != nil {
			return err
		}
	}
	if _, err := m.revoked.take(r); err != nil {
		return err
	}
	if !m.revoked.has(r) {
		return ErrNoEffect
	}
	if !m.isLeaving() { // or else it could not tell the others
		m.enforce()
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	if err := m.gossip.revocations.publish(ctx, r.Marshal()); err != nil {
		m.log.Warn("publish revocation", "err", err)
	}
	if missed := m.tellRevocation(ctx, r); missed > 0 {
		m.log.Warn("some members did not say that they heard of the revocation", "members", missed)
	}
	return nil
}

// tellTimeout is how long the others that this node is connected to have to say
// that they have a revocation.
const tellTimeout = 2 * time.Second

// mayRevoke refuses what would count for nothing.
func (m *Mesh) mayRevoke(r *credential.Revocation, key ed25519.PublicKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for member, c := range m.holdersLocked() {
		if member.Key.Equal(key) && !r.Reaches(c) {
			return fmt.Errorf("%w: it is an admin nearer to the root than this node; one above it can revoke it", ErrNotPermitted)
		}
	}
	return nil
}

// Leave gives up this node's membership for good, tells the others, and forgets
// it: the directory's state and key are of no use then and are removed. A root
// key stays. The mesh ends with [ErrLeft]; what is left to do is Close.
func (m *Mesh) Leave(ctx context.Context) error {
	if err := m.leave(ctx); err != nil {
		return fmt.Errorf("leave: %w", m.fault(ctx, err))
	}
	m.end(ErrLeft)
	return nil
}

func (m *Mesh) leave(ctx context.Context) error {
	if err := m.alive(); err != nil {
		return err
	}
	m.mu.Lock()
	own, key := m.credential, m.self.Key
	m.leaving = true
	m.mu.Unlock()
	issuer, err := credential.NewIssuer(m.id, m.keys.key, own)
	if err != nil {
		return err
	}
	terms := credential.RevokeTerms{Key: key}
	if err := m.keep(&terms); err != nil {
		return err
	}
	if err := m.publishRevocationBy(ctx, issuer, terms); err != nil {
		return err
	}
	m.pause(farewell) // in which gossip may be written
	return m.forgetMembership()
}

// forgetMembership removes what a node that is out has no use for.
func (m *Mesh) forgetMembership() error {
	err := errors.Join(forgetKept(m.store), m.store.put(selfBucket, map[string][]byte{keyMesh: nil, keyCredential: nil}))
	if m.dir == "" {
		return err
	}
	return errors.Join(err, os.Remove(filepath.Join(m.dir, nodeKeyFile)))
}

// find returns the peer ID of a member by name or peer ID.
func (m *Mesh) find(ctx context.Context, member string) (peer.ID, error) {
	t, err := ParseTarget(member + "/any") // any service will do: only the member counts
	if err != nil || member == "" {
		return "", fmt.Errorf("%w: %.80q", ErrUnknownMember, member)
	}
	return m.resolve(ctx, t)
}
