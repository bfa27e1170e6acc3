package credential

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// InviteLifetime is how long an invite lasts unless its [Terms] say otherwise. A
// text forgotten in a chat or a mailbox should not open the mesh for long.
const InviteLifetime = 24 * time.Hour

// Terms are what an admin gives. The zero Terms are those of an invite for
// anyone.
type Terms struct {
	// Name is what the member is to be called. Left empty in an invite, the
	// holder chooses; a node's credential needs one.
	Name string

	// Roles are given to the node, or by the invite. Zero means DefaultRoles.
	Roles Roles

	// NotAfter is when it ends, to the second. Zero means, for a node, when the
	// issuer's own credential ends; for an invite the same or InviteLifetime
	// from now, whichever is sooner. What joins by an invite ends with it.
	NotAfter time.Time

	// Uses is how many nodes an invite admits, at most [MaxUses]. Zero is any
	// number, and nobody to ask.
	Uses uint16

	// Services are the only ones the member may use, at most [MaxServices].
	// Empty is no restriction.
	Services []string
}

// An Issuer gives credentials and invites by the authority of a credential of
// its own. However an Issuer is printed or logged, its key does not show.
type Issuer struct {
	mesh  MeshID
	key   privateKey
	chain []grant // where the authority comes from; empty in the root
}

// NewIssuer makes an issuer of a member's private key and its credential. Whether
// the member may issue anything at all is seen when it does, not here.
func NewIssuer(mesh MeshID, key ed25519.PrivateKey, own *Credential) (*Issuer, error) {
	private, err := privateKeyOf(key)
	if err != nil {
		return nil, fmt.Errorf("issuer with %v: %w", own, err)
	}
	if len(own.chain) == 0 || private.public() != own.chain[0].Claims.Subject {
		return nil, fmt.Errorf("issuer with %v: %w: it is about another key", own, ErrInvalid)
	}
	return &Issuer{mesh: mesh, key: private, chain: own.chain}, nil
}

// IssueNode gives a node, by its public key, a credential: to join, or again to
// renew. The 16 bytes it draws from rand, which is crypto/rand.Reader outside
// tests, name the credential.
//
// What Verify would refuse is refused here, with the same errors.
func (i *Issuer) IssueNode(rand io.Reader, now time.Time, node ed25519.PublicKey, terms Terms) (*Credential, error) {
	if len(node) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("issue credential of %.80q: %w: a public key of %d bytes, not %d", terms.Name, ErrInvalid, len(node), ed25519.PublicKeySize)
	}
	c := i.claims(KindNode, terms, now)
	copy(c.Subject[:], node)
	return i.issueNode(rand, now, c)
}

// Renew gives a member another credential with the same name, roles and
// restrictions, which ends at until. It says how the member came in, as the
// present one does, and who said so until now: an admin that has lied about it is
// found by its own key. Its errors are those of IssueNode.
func (i *Issuer) Renew(rand io.Reader, now time.Time, m *Member, until time.Time) (*Credential, error) {
	c := i.claims(KindNode, Terms{Name: m.Name, Roles: m.Roles, Services: m.Services, NotAfter: until}, now)
	copy(c.Subject[:], m.Key)
	c.Admitted, c.NameChosen, c.AdmittedBy = max(m.Admitted.Unix(), 1), m.NameChosen, i.vouchers(m)
	return i.issueNode(rand, now, c)
}

// vouchers returns the keys on whose word it rests how a member came in, but for
// those that the issuer's own chain rests on anyway.
func (i *Issuer) vouchers(m *Member) [][ed25519.PublicKeySize]byte {
	var keys [][ed25519.PublicKeySize]byte
	for _, key := range m.admittedBy {
		keys = append(keys, [ed25519.PublicKeySize]byte(key))
	}
	if len(keys) == 0 {
		keys = append(keys, i.mesh) // the root itself
	}
	for _, above := range m.Issuers {
		key := [ed25519.PublicKeySize]byte(above.Key)
		own := slices.ContainsFunc(i.chain, func(g grant) bool { return g.Claims.Subject == key })
		if !own && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (i *Issuer) issueNode(rand io.Reader, now time.Time, c claims) (*Credential, error) {
	chain, err := i.issue(rand, now, c)
	if err != nil {
		return nil, fmt.Errorf("issue %v: %w", c, err)
	}
	return newCredential(chain)
}

// IssueInvite makes an invite, which it gives a key of its own: it draws 48
// bytes from rand. The start addresses are where the invite's holder finds the
// mesh, at most [MaxPeers] with [MaxAddrs] each. There may be none, and a peer
// may be there without an address, if it is found on the same machine. A peer's
// addresses are without the /p2p part that names the peer itself.
//
// What [Invite.Verify] would refuse is refused here, with the same errors.
func (i *Issuer) IssueInvite(rand io.Reader, now time.Time, terms Terms, start []peer.AddrInfo) (*Invite, error) {
	var seed [ed25519.SeedSize]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("draw an invite's key: %w", err)
	}
	key := newPrivateKey(seed)
	c := i.claims(KindInvite, terms, now)
	c.Subject = key.public()
	chain, err := i.issue(rand, now, c)
	if err != nil {
		return nil, fmt.Errorf("issue invite: %w", err)
	}
	invite, err := newInvite(key, i.mesh, chain, start)
	if err != nil {
		return nil, fmt.Errorf("issue invite: %w", err)
	}
	return invite, nil
}

// claims fills in what the terms leave open. The subject and serial are missing.
func (i *Issuer) claims(kind Kind, terms Terms, now time.Time) claims {
	c := claims{
		Kind:      kind,
		Name:      terms.Name,
		Roles:     terms.Roles,
		NotBefore: now.Unix(),
		NotAfter:  terms.NotAfter.Unix(),
		Uses:      terms.Uses,
		Services:  slices.Compact(slices.Sorted(slices.Values(terms.Services))),
	}
	if c.Roles == 0 {
		c.Roles = DefaultRoles
	}
	if terms.NotAfter.IsZero() {
		c.NotAfter = i.end(kind, now)
	}
	// This clock may be behind that of whoever made this issuer one.
	if len(i.chain) > 0 {
		c.NotBefore = max(c.NotBefore, i.chain[0].Claims.NotBefore)
	}
	return c
}

// end is when a grant ends whose terms don't say.
func (i *Issuer) end(kind Kind, now time.Time) int64 {
	end := now.Add(FounderLifetime).Unix()
	if len(i.chain) > 0 {
		end = i.chain[0].Claims.NotAfter
	}
	if kind == KindInvite {
		end = min(end, now.Add(InviteLifetime).Unix())
	}
	return end
}

// issue signs c and puts it before the issuer's own chain. It leaves the
// judgement to verify, so that no rule is written twice.
func (i *Issuer) issue(rand io.Reader, now time.Time, c claims) ([]grant, error) {
	if err := i.checkOwn(now); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(rand, c.Serial[:]); err != nil {
		return nil, fmt.Errorf("draw a serial: %w", err)
	}
	message, err := c.message(i.mesh)
	if err != nil {
		return nil, err
	}
	leaf := grant{Claims: c, Signature: i.key.sign(message)}
	chain := slices.Concat([]grant{leaf}, i.chain)
	if err := verify(chain, i.mesh, now); err != nil {
		return nil, err
	}
	return chain, nil
}

// checkOwn sees that the issuer's own chain is good, so that an error says so
// and does not seem to be about what it was to issue. Past its end an issuer has
// no time left to give, clock tolerance or not.
func (i *Issuer) checkOwn(now time.Time) error {
	if len(i.chain) == 0 {
		return nil
	}
	own := i.chain[0].Claims
	if err := verify(i.chain, i.mesh, now); err != nil {
		return fmt.Errorf("issuer's own %v: %w", own, err)
	}
	if now.Unix() >= own.NotAfter {
		return fmt.Errorf("issuer's own %v: %w: ended %s", own, ErrExpired, stamp(own.NotAfter))
	}
	return nil
}
