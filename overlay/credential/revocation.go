package credential

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

const (
	// MaxKept is how many credentials and revocations one revocation leaves in force.
	MaxKept = 1024

	// MaxRevocation is the most bytes an encoded revocation has.
	MaxRevocation = MaxKept*(sha256.Size+2) + MaxSize + 512
)

// A Hash is a SHA-256, which names a revocation by its encoding.
type Hash [sha256.Size]byte

// A Revocation puts a key out of the mesh for good: a member, or an invite. Of an
// admin it undoes all that it signed too, but for what the revocation keeps: the
// admin's key can't say any more when it signed something. It is itself signed by
// an admin, by the root, or by the member whose key it is, on leaving.
//
// [Issuer.Revoke] and [ParseRevocation] make one. What it is worth beside others
// is for [Revocations] to say.
type Revocation struct {
	wire revocationWire
	data []byte
	id   Hash
}

type revocationWire struct {
	_         struct{} `cbor:",toarray"`
	Claims    revocationClaims
	Signature [ed25519.SignatureSize]byte
}

// revocationClaims is the signed part.
type revocationClaims struct {
	Target []byte  `cbor:"1,keyasint"`           // a public key, or an invite's serial
	Made   int64   `cbor:"2,keyasint"`           // Unix seconds
	Since  int64   `cbor:"3,keyasint,omitempty"` // who was admitted by Target from then on goes too
	Kept   []Hash  `cbor:"4,keyasint,omitempty"` // who stays, see holderOf, and revocations that do; sorted
	Issuer []grant `cbor:"5,keyasint,omitempty"` // the issuer's chain; none of the root
}

// revocationContext is to revocations what grantContext is to grants.
const revocationContext = "p2pnode revocation v1\x00"

func (c revocationClaims) message(mesh MeshID) ([]byte, error) {
	data, err := wire.Marshal(c)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(revocationContext), mesh[:], data), nil
}

func (c revocationClaims) checkForm() error {
	switch {
	case len(c.Target) != ed25519.PublicKeySize && len(c.Target) != len(Serial{}):
		return fmt.Errorf("%w: a target of %d bytes is neither a key nor a serial", ErrInvalid, len(c.Target))
	case bytes.Count(c.Target, []byte{0}) == len(c.Target):
		return fmt.Errorf("%w: no target", ErrInvalid)
	case c.Since != 0 && len(c.Target) != ed25519.PublicKeySize:
		return fmt.Errorf("%w: of a serial nobody can tell whom it admitted", ErrInvalid)
	case c.Made < 0 || c.Made > maxTime || c.Since < 0 || c.Since > maxTime:
		return fmt.Errorf("%w: made at second %d for those since %d", ErrInvalid, c.Made, c.Since)
	case len(c.Kept) > MaxKept || !slices.IsSortedFunc(c.Kept, compareHashes) || hasTwins(c.Kept):
		return fmt.Errorf("%w: %d to keep; there are at most %d, in order", ErrInvalid, len(c.Kept), MaxKept)
	case len(c.Issuer) == 0: // the root
		return nil
	}
	return checkChain(c.Issuer)
}

func compareHashes(a, b Hash) int { return bytes.Compare(a[:], b[:]) }

func hasTwins(sorted []Hash) bool {
	return len(slices.Compact(slices.Clone(sorted))) != len(sorted)
}

// RevokeTerms say what is revoked, and how far.
type RevokeTerms struct {
	// Key is that of the member or the invite. If it is not known, Invite is what
	// names the invite.
	Key    ed25519.PublicKey
	Invite Serial

	// Since takes along whom the key admitted from then on, whatever credential
	// they have by now. It needs Key. Zero takes along only those whose
	// credential rests on the key and is not kept.
	Since time.Time

	// Keep are credentials that rest on the key and stay good, and with each any
	// other of the same key, name, roles and services. With KeepMade they are at most
	// [MaxKept].
	Keep []*Credential

	// KeepMade are revocations that the key made, or one whose credential rested on
	// it, and that are to count for all that. Others don't any more, and whom they
	// put out is in again.
	KeepMade []*Revocation
}

func (t RevokeTerms) claims(now time.Time) revocationClaims {
	c := revocationClaims{Target: slices.Clone(t.Key), Made: now.Unix()}
	if len(t.Key) == 0 {
		c.Target = slices.Clone(t.Invite[:])
	}
	if !t.Since.IsZero() {
		c.Since = max(t.Since.Unix(), 1)
	}
	for _, k := range t.Keep {
		c.Kept = append(c.Kept, holderOf(k.chain))
	}
	for _, r := range t.KeepMade {
		c.Kept = append(c.Kept, r.ID())
	}
	slices.SortFunc(c.Kept, compareHashes)
	c.Kept = slices.Compact(c.Kept)
	return c
}

// Revoke makes a revocation. An admin may revoke invites, members, and admins
// that are not nearer to the root than itself; anybody may revoke its own key. The
// error is one of those of [Credential.Verify].
func (i *Issuer) Revoke(now time.Time, terms RevokeTerms) (*Revocation, error) {
	c := terms.claims(now)
	c.Issuer = i.chain
	r, err := i.revoke(c, now)
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	return r, nil
}

func (i *Issuer) revoke(c revocationClaims, now time.Time) (*Revocation, error) {
	if err := i.checkOwn(now); err != nil {
		return nil, err
	}
	message, err := c.message(i.mesh)
	if err != nil {
		return nil, err
	}
	data, err := wire.Marshal(revocationWire{Claims: c, Signature: i.key.sign(message)})
	if err != nil {
		return nil, err
	}
	r, err := ParseRevocation(data)
	if err != nil {
		return nil, err
	}
	return r, r.verify(i.mesh)
}

// ParseRevocation decodes a revocation and sees that the form is right. An error
// is [ErrInvalid].
func ParseRevocation(data []byte) (*Revocation, error) {
	if len(data) > MaxRevocation {
		return nil, fmt.Errorf("parse revocation: %w: %d bytes; at most %d", ErrInvalid, len(data), MaxRevocation)
	}
	r := &Revocation{data: slices.Clone(data), id: sha256.Sum256(data)}
	if err := wire.Unmarshal(data, &r.wire); err != nil {
		return nil, fmt.Errorf("parse revocation: %w: %w", ErrInvalid, err)
	}
	if err := r.wire.Claims.checkForm(); err != nil {
		return nil, fmt.Errorf("parse revocation: %w", err)
	}
	return r, nil
}

// Marshal returns the encoding. It is the inverse of [ParseRevocation].
func (r *Revocation) Marshal() []byte { return slices.Clone(r.data) }

// ID names the revocation.
func (r *Revocation) ID() Hash { return r.id }

// Made is when it was made, by the clock of who made it.
func (r *Revocation) Made() time.Time { return time.Unix(r.wire.Claims.Made, 0).UTC() }

// By is the name of who made it, or "the root".
func (r *Revocation) By() string {
	if len(r.wire.Claims.Issuer) == 0 {
		return "the root"
	}
	return r.wire.Claims.Issuer[0].Claims.Name
}

// String says what the revocation claims.
func (r *Revocation) String() string {
	return fmt.Sprintf("revocation by %.80q, made %s", r.By(), stamp(r.wire.Claims.Made))
}

// Verify sees that the mesh's root stands behind whoever made the revocation, who
// had the right to when it was made. The error is one of those of
// [Credential.Verify].
func (r *Revocation) Verify(mesh MeshID) error {
	if err := r.verify(mesh); err != nil {
		return fmt.Errorf("verify %v: %w", r, err)
	}
	return nil
}

func (r *Revocation) verify(mesh MeshID) error {
	c := r.wire.Claims
	if len(c.Issuer) > 0 {
		if err := r.verifyIssuer(mesh); err != nil {
			return fmt.Errorf("its issuer: %w", err)
		}
	} else if mesh == (MeshID{}) {
		return fmt.Errorf("%w: the mesh ID is zero", ErrWrongMesh)
	}
	message, err := c.message(mesh)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	key := r.issuer(mesh)
	if !ed25519.Verify(key[:], message, r.wire.Signature[:]) {
		return fmt.Errorf("%w: the signature is not by the issuer's key", cmpWrong(len(c.Issuer) == 0))
	}
	return nil
}

// cmpWrong is the error for a signature that does not fit: nobody can tell an
// altered statement of the root from one of another mesh.
func cmpWrong(byRoot bool) error {
	if byRoot {
		return ErrWrongMesh
	}
	return ErrInvalid
}

func (r *Revocation) verifyIssuer(mesh MeshID) error {
	c := r.wire.Claims
	if err := verify(c.Issuer, mesh, time.Unix(c.Made, 0)); err != nil {
		return err
	}
	own := c.Issuer[0].Claims
	switch {
	case own.Kind != KindNode:
		return fmt.Errorf("%w: an invite cannot revoke", ErrNotAllowed)
	case len(c.Issuer) > 1 && c.Issuer[1].Claims.Uses > 0:
		return ErrUnredeemed
	case !own.Roles.Has(RoleAdmin) && (!r.leaves() || c.Since > 0 || len(c.Kept) > 0):
		return fmt.Errorf("%w: %v is no admin and can revoke itself alone", ErrNotAllowed, own)
	}
	return nil
}

// issuer returns the key that signs.
func (r *Revocation) issuer(mesh MeshID) [ed25519.PublicKeySize]byte {
	if len(r.wire.Claims.Issuer) == 0 {
		return mesh
	}
	return r.wire.Claims.Issuer[0].Claims.Subject
}

// leaves tells whether a member put out itself.
func (r *Revocation) leaves() bool {
	c := r.wire.Claims
	return len(c.Issuer) > 0 && bytes.Equal(c.Target, c.Issuer[0].Claims.Subject[:])
}

// depth is how far the issuer is from the root.
func (r *Revocation) depth() int { return len(r.wire.Claims.Issuer) }

// rank orders revocations by who made them: by depth, and members that are no
// admins after all admins.
func (r *Revocation) rank() int {
	if r.plain() {
		return MaxGrants + 1
	}
	return r.depth()
}

// plain tells whether the issuer is no admin, so that it can but leave.
func (r *Revocation) plain() bool {
	return r.depth() > 0 && !r.wire.Claims.Issuer[0].Claims.Roles.Has(RoleAdmin)
}

// holderOf names who holds a credential and what it gives, by a hash: whatever
// else the same key is given by the same admin is another matter, but not that it
// is given the same again, as it is when it is renewed.
func holderOf(chain []grant) Hash {
	own := chain[0].Claims
	data, err := wire.Marshal(holder{Subject: own.Subject, Name: own.Name, Roles: own.Roles, Services: own.Services})
	if err != nil {
		return Hash{} // of nobody; claims that were encoded before can be
	}
	return sha256.Sum256(data)
}

type holder struct {
	_        struct{} `cbor:",toarray"`
	Subject  [ed25519.PublicKeySize]byte
	Name     string
	Roles    Roles
	Services []string
}

func (r *Revocation) keeps(h Hash) bool {
	_, found := slices.BinarySearchFunc(r.wire.Claims.Kept, h, compareHashes)
	return found
}

// Reaches reports whether the issuer may put out the holder of a credential, whom
// the revocation is of.
func (r *Revocation) Reaches(c *Credential) bool { return r.reaches(c.chain, 0) }

// reaches tells whether the issuer may put out the holder of a grant of a chain.
// Anybody's own key is within reach, and so is an invite of anybody's, but not an
// admin nearer to the root that came by it.
func (r *Revocation) reaches(chain []grant, i int) bool {
	if r.leaves() && bytes.Equal(r.wire.Claims.Target, chain[i].Claims.Subject[:]) {
		return true
	}
	if i > 0 && chain[i].Claims.Kind == KindInvite {
		i--
	}
	c := chain[i].Claims
	return r.depth() <= len(chain)-i || c.Kind == KindInvite || !c.Roles.Has(RoleAdmin)
}

// RestsOn reports whether the revocation was made by a key, or by one whose
// credential rested on it.
func (r *Revocation) RestsOn(key ed25519.PublicKey) bool {
	return slices.ContainsFunc(r.wire.Claims.Issuer, func(g grant) bool { return key.Equal(ed25519.PublicKey(g.Claims.Subject[:])) })
}
