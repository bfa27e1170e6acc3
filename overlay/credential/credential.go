package credential

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

// MaxSize is the most bytes an encoded credential has. The longest chain there can
// be needs less, and the usual one a tenth of it.
const MaxSize = 4 << 10

// A Credential is what a member shows the others: a chain of grants, its own
// first, the last signed by the mesh's root. It holds no secret. [Parse] and the
// issuing functions make one; only Verify says what it is worth.
type Credential struct {
	chain []grant
	data  []byte // its encoding
}

// newCredential takes a chain that checkChain has seen.
func newCredential(chain []grant) (*Credential, error) {
	data, err := wire.Marshal(chain)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes; at most %d", ErrInvalid, len(data), MaxSize)
	}
	return &Credential{chain, data}, nil
}

// Parse decodes a credential. It sees that the form is right and checks nothing
// that needs the mesh: signatures, authority and time are for
// [Credential.Verify]. An error is [ErrInvalid].
func Parse(data []byte) (*Credential, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("parse credential: %w: %d bytes; at most %d", ErrInvalid, len(data), MaxSize)
	}
	var chain []grant
	if err := wire.Unmarshal(data, &chain); err != nil {
		return nil, fmt.Errorf("parse credential: %w: %w", ErrInvalid, err)
	}
	if err := checkChain(chain); err != nil {
		return nil, fmt.Errorf("parse credential: %w", err)
	}
	return &Credential{chain, slices.Clone(data)}, nil
}

// Marshal returns the encoding, at most [MaxSize] bytes. It is the inverse of
// [Parse].
func (c *Credential) Marshal() []byte { return slices.Clone(c.data) }

// Grants returns what the chain says, the member's own grant first, whether or
// not any of it is true. It is for showing a credential that does not verify.
func (c *Credential) Grants() []Grant { return grantsOf(c.chain) }

// A Member is what a verified credential says.
type Member struct {
	// ID is the peer that the credential is about, and no other: whoever is
	// shown a credential must see that it talks with this peer.
	ID   peer.ID
	Mesh MeshID

	// The member's own grant. Its NotAfter is when the membership ends: no grant
	// above it ends sooner.
	Grant

	// Issuers are the grants above, the one that issued the member's own first.
	// Empty if the root itself did.
	Issuers []Grant

	// Admitted is when the member came in, whichever credential it has by now.
	Admitted time.Time

	// NameChosen says that the member chose its name itself, so that the name is
	// no reason to trust it.
	NameChosen bool

	admittedBy []ed25519.PublicKey
}

// AdmittedBy returns the keys of the invite and the admins by whose authority the
// member came in, and of those who have renewed its credential since but for the
// last: they vouch for it. That of the mesh is the root's.
func (m *Member) AdmittedBy() []ed25519.PublicKey { return slices.Clone(m.admittedBy) }

// ByInvite reports whether an invite gave the membership, so that it ends with
// the invite unless an admin renews it.
func (m *Member) ByInvite() bool {
	return len(m.Issuers) > 0 && m.Issuers[0].Kind == KindInvite
}

// Verify is [Parse] and then [Credential.Verify], for what comes from a peer.
func Verify(data []byte, mesh MeshID, now time.Time) (*Member, error) {
	c, err := Parse(data)
	if err != nil {
		return nil, err
	}
	return c.Verify(mesh, now)
}

// Verify says who is a member by this credential in this mesh at this time.
// Every signature is checked up to the mesh's root, each grant against what its
// issuer may give, and the member's time against now, give or take
// [ClockTolerance].
//
// The error is [ErrWrongMesh], [ErrInvalid], [ErrNotAllowed], [ErrNotYetValid],
// [ErrExpired] or [ErrUnredeemed]; the last three only if all else is in order.
func (c *Credential) Verify(mesh MeshID, now time.Time) (*Member, error) {
	m, err := c.holder(mesh, now)
	if err == nil && c.counted() {
		err = ErrUnredeemed
	}
	if err != nil {
		return nil, fmt.Errorf("verify %v: %w", c, err)
	}
	return m, nil
}

// Redeem says to whom an admin may give a credential in exchange for this one,
// which somebody made with an invite whose uses are counted. How often that was
// done is for the admin to know. The error is one of those of Verify, or
// [ErrNotAllowed] if there is nothing to count.
func (c *Credential) Redeem(mesh MeshID, now time.Time) (*Member, error) {
	m, err := c.holder(mesh, now)
	if err == nil && !c.counted() {
		err = fmt.Errorf("%w: it is not by an invite whose uses are counted", ErrNotAllowed)
	}
	if err != nil {
		return nil, fmt.Errorf("redeem %v: %w", c, err)
	}
	return m, nil
}

// counted tells whether the credential is of no use but to redeem it.
func (c *Credential) counted() bool { return len(c.chain) > 1 && c.chain[1].Claims.Uses > 0 }

func (c *Credential) holder(mesh MeshID, now time.Time) (*Member, error) {
	if err := verify(c.chain, mesh, now); err != nil {
		return nil, err
	}
	own := c.chain[0].Claims
	if own.Kind != KindNode {
		return nil, fmt.Errorf("%w: an invite gives membership and has none", ErrNotAllowed)
	}
	id, err := idOf(ed25519.PublicKey(own.Subject[:]))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m := &Member{ID: id, Mesh: mesh, Grant: own.grant(), Issuers: grantsOf(c.chain[1:])}
	if own.renewed() {
		m.Admitted, m.NameChosen = time.Unix(own.Admitted, 0).UTC(), own.NameChosen
		for _, key := range own.AdmittedBy {
			m.admittedBy = append(m.admittedBy, slices.Clone(key[:]))
		}
		return m, nil
	}
	m.Admitted = m.NotBefore
	for _, g := range m.Issuers {
		m.admittedBy = append(m.admittedBy, g.Key)
	}
	m.NameChosen = m.ByInvite() && m.Issuers[0].Name == ""
	return m, nil
}

// String says whose credential it claims to be, for logs.
func (c *Credential) String() string {
	if len(c.chain) == 0 {
		return "no credential"
	}
	return c.chain[0].Claims.String()
}

// IsFor reports whether the credential is about the key of a peer.
func (c *Credential) IsFor(id peer.ID) bool {
	own, err := idOf(ed25519.PublicKey(c.chain[0].Claims.Subject[:]))
	return err == nil && own == id
}
