package credential

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// What a set holds at most, in bytes of encoded revocations: enough for several
// thousand, and few enough to be held by every member.
const (
	MaxRevocations       = 4 << 20
	MaxIssuerRevocations = 1 << 20 // by one issuer
)

// Revocations is all that has been revoked in a mesh, as far as somebody knows.
// It only grows, and depends on what was added and not on the order: two who know
// the same agree on who is out. Where the bounds cut something off, it is what
// comes from furthest below the root.
//
// Who is out follows from the whole set. A revocation counts unless one by
// somebody nearer to the root puts its issuer out; of two admins at the same
// distance who revoke each other, both are out. An admin nearer to the root is
// never put out by one further away.
//
// It is not safe for use by several goroutines at once.
type Revocations struct {
	mesh   MeshID
	byID   map[Hash]*Revocation
	counts map[string][]*Revocation // those that count, by target
	digest Hash
}

// NewRevocations returns a set with nothing in it.
func NewRevocations(mesh MeshID) *Revocations {
	s := &Revocations{mesh: mesh, byID: map[Hash]*Revocation{}}
	s.settle()
	return s
}

// Add takes in revocations, which must have been verified for the set's mesh
// before, and returns those that are new and have room.
func (s *Revocations) Add(rs ...*Revocation) []*Revocation {
	var added []*Revocation
	for _, r := range rs {
		if s.byID[r.id] == nil {
			s.byID[r.id] = r
			added = append(added, r)
		}
	}
	if len(added) == 0 {
		return nil
	}
	s.settle()
	return slices.DeleteFunc(added, func(r *Revocation) bool { return s.byID[r.id] == nil })
}

// All returns the set, those by the root first.
func (s *Revocations) All() []*Revocation {
	all := make([]*Revocation, 0, len(s.byID))
	for _, r := range s.byID {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Revocation) int {
		return cmp.Or(cmp.Compare(a.depth(), b.depth()), compareHashes(a.id, b.id))
	})
	return all
}

// Has reports whether a revocation is in the set.
func (s *Revocations) Has(id Hash) bool { return s.byID[id] != nil }

// Len returns how many there are.
func (s *Revocations) Len() int { return len(s.byID) }

// Digest is the same for two sets exactly if they are.
func (s *Revocations) Digest() Hash { return s.digest }

// settle works out what follows from the set: what it has room for, which of
// that counts, and its digest. Those nearer to the root come first, so that what
// decides about a revocation is decided before it.
func (s *Revocations) settle() {
	s.counts = map[string][]*Revocation{}
	ids := sha256.New()
	var size int
	sizes := map[[ed25519.PublicKeySize]byte]int{}
	for _, r := range s.All() {
		key := r.issuer(s.mesh)
		// Where one has no room, nor have those after it, however small: what is
		// kept must not depend on the order in which it came.
		if sizes[key] += len(r.data); sizes[key] <= MaxIssuerRevocations {
			size += len(r.data)
		}
		if sizes[key] > MaxIssuerRevocations || size > MaxRevocations {
			delete(s.byID, r.id)
			continue
		}
		ids.Write(r.id[:])
		if s.against(r.wire.Claims.Issuer, r.depth()) == nil {
			target := string(r.wire.Claims.Target)
			s.counts[target] = append(s.counts[target], r)
		}
	}
	s.digest = Hash(ids.Sum(nil))
}

// Check returns nil unless a credential is revoked. The error is [ErrRevoked] and
// says by whom.
func (s *Revocations) Check(c *Credential) error { return s.check(c.chain) }

// CheckInvite is Check for an invite.
func (s *Revocations) CheckInvite(inv *Invite) error { return s.check(inv.chain) }

func (s *Revocations) check(chain []grant) error {
	r := s.against(chain, MaxGrants+1)
	if r == nil {
		return nil
	}
	if r.leaves() {
		return fmt.Errorf("%w: %v left %s", ErrRevoked, chain[0].Claims, stamp(r.wire.Claims.Made))
	}
	return fmt.Errorf("%w: %v, by %s, %s", ErrRevoked, chain[0].Claims, r.By(), stamp(r.wire.Claims.Made))
}

// against returns a revocation by somebody less deep than that which puts a chain
// out.
func (s *Revocations) against(chain []grant, depth int) *Revocation {
	for i, g := range chain {
		for _, target := range []string{string(g.Claims.Subject[:]), string(g.Claims.Serial[:])} {
			for _, r := range s.counts[target] {
				if r.depth() < depth && r.reaches(g.Claims, len(chain)-i) && (i == 0 || !r.keeps(holderOf(chain))) {
					return r
				}
			}
		}
	}
	if len(chain) == 0 {
		return nil
	}
	leaf := chain[0].Claims
	for _, key := range leaf.AdmittedBy {
		for _, r := range s.counts[string(key[:])] {
			since := r.wire.Claims.Since
			if r.depth() < depth && since > 0 && leaf.Admitted >= since && r.reaches(leaf, len(chain)) {
				return r
			}
		}
	}
	return nil
}

// reaches tells whether the issuer may put out the holder of a grant at some
// distance from the root.
func (r *Revocation) reaches(c claims, depth int) bool {
	return r.leaves() || r.depth() <= depth || c.Kind == KindInvite || !c.Roles.Has(RoleAdmin)
}

// AdmittedSince reports whether a member came in by a key, at or after a time.
func (m *Member) AdmittedSince(key ed25519.PublicKey, since time.Time) bool {
	by := slices.ContainsFunc(m.admittedBy, func(k ed25519.PublicKey) bool { return k.Equal(key) })
	return by && !m.Admitted.Before(since)
}

// Targets reports whether a revocation of a key counts.
func (s *Revocations) Targets(key ed25519.PublicKey) bool { return len(s.counts[string(key)]) > 0 }

// RestsOnRevoked reports whether a credential is good only because the
// revocation of a key above it keeps it. It should be renewed.
func (s *Revocations) RestsOnRevoked(c *Credential) bool {
	return slices.ContainsFunc(c.chain[1:], func(g grant) bool {
		return len(s.counts[string(g.Claims.Subject[:])]) > 0 || len(s.counts[string(g.Claims.Serial[:])]) > 0
	})
}
