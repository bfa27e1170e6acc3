package credential

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// What a set has room for, in bytes of encoded revocations: enough for several
// thousand, and few enough to be held by every member. The one that fills it up is
// still taken, whatever its size.
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

// All returns the set, those by the root first, and members that left last.
func (s *Revocations) All() []*Revocation {
	all := make([]*Revocation, 0, len(s.byID))
	for _, r := range s.byID {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Revocation) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), compareHashes(a.id, b.id))
	})
	return all
}

// Has reports whether a revocation is in the set.
func (s *Revocations) Has(id Hash) bool { return s.byID[id] != nil }

// Len returns how many there are.
func (s *Revocations) Len() int { return len(s.byID) }

// Digest is the same for two sets exactly if they are.
func (s *Revocations) Digest() Hash { return s.digest }

// An account is what the room that an issuer takes is charged to.
type account struct {
	key   [ed25519.PublicKeySize]byte
	plain bool
}

// maxLeave is charged to a member that is no admin, for the one revocation that it
// may make.
const maxLeave = MaxSize + 512

// settle works out what follows from the set: what it has room for, which of
// that counts, and its digest. Those nearer to the root come first, so that what
// decides about a revocation is decided before it.
func (s *Revocations) settle() {
	s.counts = map[string][]*Revocation{}
	ids := sha256.New()
	var size int
	sizes := map[account]int{}
	for _, r := range s.All() {
		// There is room until it is filled, by what comes before alone and by no
		// issuer for more than its part. So the bounds are passed by a little, and
		// what has no room never has any beside more, in whatever order that came.
		a := account{r.issuer(s.mesh), r.plain()}
		limit, needs := MaxIssuerRevocations, len(r.data)
		if a.plain {
			limit, needs = maxLeave, maxLeave // one alone
		}
		if sizes[a] >= limit || size >= MaxRevocations {
			delete(s.byID, r.id)
			continue
		}
		size += min(needs, limit-sizes[a])
		sizes[a] += needs
		ids.Write(r.id[:])
		if !s.void(r) {
			target := string(r.wire.Claims.Target)
			s.counts[target] = append(s.counts[target], r)
		}
	}
	s.digest = Hash(ids.Sum(nil))
}

// void tells whether one by somebody nearer to the root puts out who made x. A key
// never undoes what it revoked itself.
func (s *Revocations) void(x *Revocation) bool {
	chain := x.wire.Claims.Issuer
	return s.against(chain, func(r *Revocation, i int) bool {
		return r.rank() >= x.rank() || r.issuer(s.mesh) == x.issuer(s.mesh) || r.keeps(x.id) || keepsLeaf(r, chain, i)
	}) != nil
}

// Check returns nil unless a credential is revoked. The error is [ErrRevoked] and
// says by whom.
func (s *Revocations) Check(c *Credential) error { return s.check(c.chain) }

func (s *Revocations) check(chain []grant) error {
	r := s.against(chain, func(r *Revocation, i int) bool { return keepsLeaf(r, chain, i) })
	if r == nil {
		return nil
	}
	if r.leaves() && r.issuer(s.mesh) == chain[0].Claims.Subject {
		return fmt.Errorf("%w: %v left %s", ErrRevoked, chain[0].Claims, stamp(r.wire.Claims.Made))
	}
	return fmt.Errorf("%w: %v, by %s, %s", ErrRevoked, chain[0].Claims, r.By(), stamp(r.wire.Claims.Made))
}

// against returns a revocation that puts a chain out by one of its grants and is
// not excused.
func (s *Revocations) against(chain []grant, excused func(r *Revocation, i int) bool) *Revocation {
	for i := range chain {
		for _, r := range s.of(chain[i].Claims) {
			if r.reaches(chain, i) && !excused(r, i) {
				return r
			}
		}
	}
	return nil
}

// of returns those that count and are of the key or the serial of a grant, or take
// along whom its holder was admitted with.
func (s *Revocations) of(c claims) []*Revocation {
	list := slices.Concat(s.counts[string(c.Subject[:])], s.counts[string(c.Serial[:])])
	for _, key := range c.AdmittedBy {
		for _, r := range s.counts[string(key[:])] {
			if since := r.wire.Claims.Since; since > 0 && c.Admitted >= since {
				list = append(list, r)
			}
		}
	}
	return list
}

// keepsLeaf tells whether a revocation of a grant above in a chain leaves the
// chain as it is in force.
func keepsLeaf(r *Revocation, chain []grant, i int) bool {
	return i > 0 && len(r.wire.Claims.Kept) > 0 && r.keeps(holderOf(chain))
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
	return slices.ContainsFunc(c.chain[1:], func(g grant) bool { return len(s.of(g.Claims)) > 0 })
}
