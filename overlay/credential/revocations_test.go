package credential

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

// setOf adds revocations at once.
func setOf(mesh MeshID, rs ...*Revocation) *Revocations {
	s := NewRevocations(mesh)
	s.Add(rs...)
	return s
}

func TestRevocationsCheck(t *testing.T) {
	c := newCast()
	ever, later := time.Unix(1, 0), now.Add(time.Hour)
	const belowBob = "bob carl eve gus mia open" // those with a credential that rests on bob's
	for _, tt := range []struct {
		name  string
		deeds []deed
		out   string
	}{
		{"nothing", nil, ""},

		{"a member", []deed{{by: "alice", of: "mia"}}, "mia"},
		{"a member, by an admin further away", []deed{{by: "eve", of: "mia"}}, "mia"},
		{"a member, by itself", []deed{{by: "mia", of: "mia"}}, "mia"},
		{"an admin, and all below", []deed{{by: "amy", of: "bob"}}, belowBob},
		{"an admin, by one as near", []deed{{by: "ben", of: "bob"}}, belowBob},
		{"an admin, by the root", []deed{{by: "root", of: "bob"}}, belowBob},
		{"an admin, but for some", []deed{{by: "amy", of: "bob", keep: []string{"carl", "mia"}}}, "bob eve gus open"},
		{"an admin, though kept itself", []deed{{by: "amy", of: "bob", keep: []string{"bob"}}}, belowBob},
		{"a founder", []deed{{by: "root", of: "alice"}}, "alice ben bob carl dora eve fay gus kim max mia open sam staff tom zoe"},

		{"an invite by its key", []deed{{by: "carl", of: "open"}}, "gus open"},
		{"an invite by its serial", []deed{{by: "carl", of: "open", serial: true}}, "gus open"},
		{"an invite, but not who came by it", []deed{{by: "carl", of: "open", keep: []string{"gus"}}}, "open"},
		{"an invite by its serial, but not who came by it", []deed{{by: "carl", of: "open", serial: true, keep: []string{"gus"}}}, "open"},
		{"an invite for admins, by one as near as they", []deed{{by: "dora", of: "staff"}}, "fay staff"},
		{"an invite for admins, by one further away", []deed{{by: "eve", of: "staff"}}, "staff"},

		{"whom an admin ever admitted, by whoever renewed", []deed{{by: "amy", of: "bob", since: ever}}, belowBob + " kim sam tom zoe"},
		{"whom an admin admitted from that second on", []deed{{by: "amy", of: "bob", since: now}}, belowBob + " kim sam tom zoe"},
		{"whom an admin admitted from the next second on", []deed{{by: "amy", of: "bob", since: now.Add(time.Second)}}, belowBob},
		{"whom an admin admitted later", []deed{{by: "amy", of: "bob", since: later}}, belowBob},
		{"whom an invite admitted", []deed{{by: "amy", of: "open", since: ever}}, "gus open"},
		{"of whom an admin admitted, not who is nearer by now", []deed{{by: "carl", of: "carl", since: ever}}, "carl eve kim"},
		{"of whom an admin admitted, who is as near by now", []deed{{by: "ben", of: "carl", since: ever}}, "carl eve kim zoe"},

		{"an admin, by one further away", []deed{{by: "dora", of: "bob"}, {by: "eve", of: "carl"}}, ""},
		{"a founder, by an admin", []deed{{by: "bob", of: "alice"}}, ""},
		{"the root's key, by an admin", []deed{{by: "bob", of: "root"}}, ""},

		{"two admins, each other", []deed{{by: "bob", of: "ben"}, {by: "ben", of: "bob"}}, belowBob + " ben dora kim max"},
		{"two founders, each other", []deed{{by: "alice", of: "amy"}, {by: "amy", of: "alice"}}, "alice amy ben bob carl dora eve fay gus kim max mia open sam staff tom zoe"},
		{"two admins, and a founder overrules", []deed{{by: "bob", of: "ben"}, {by: "ben", of: "bob"}, {by: "alice", of: "bob"}}, belowBob},
		{"two founders, and the root overrules", []deed{{by: "alice", of: "amy"}, {by: "amy", of: "alice"}, {by: "root", of: "alice"}},
			"alice ben bob carl dora eve fay gus kim max mia open sam staff tom zoe"},

		{"by an admin who is out", []deed{{by: "carl", of: "max"}, {by: "amy", of: "carl"}}, "carl eve"},
		{"by an admin below one who is out", []deed{{by: "carl", of: "max"}, {by: "amy", of: "bob"}}, belowBob},
		{"by an admin below one who is out, who is kept", []deed{{by: "carl", of: "max"}, {by: "amy", of: "bob", keep: []string{"carl"}}}, "bob eve gus max mia open"},
		{"by an admin who is out, but kept itself", []deed{{by: "carl", of: "max"}, {by: "carl", of: "mia"}, {by: "amy", of: "carl", made: []int{0}}}, "carl eve max"},
		{"by an admin who came by one who is out", []deed{{by: "sam", of: "max"}, {by: "amy", of: "bob", since: ever}}, belowBob + " kim sam tom zoe"},
		{"by an admin whom one as near puts out", []deed{{by: "bob", of: "max"}, {by: "ben", of: "bob"}}, belowBob + " max"},
		{"by an admin whom one puts out who is out", []deed{{by: "carl", of: "max"}, {by: "bob", of: "carl"}, {by: "alice", of: "bob", keep: []string{"carl"}}}, "bob eve gus max mia open"},

		{"an admin that leaves", []deed{{by: "bob", of: "bob"}}, belowBob},
		{"an admin that leaves, but for some", []deed{{by: "bob", of: "bob", keep: []string{"carl", "mia", "gus", "eve"}}}, "bob open"},
		{"by an admin that left", []deed{{by: "bob", of: "max"}, {by: "bob", of: "bob"}}, belowBob + " max"},
		{"by an admin that left, from when it was further away", []deed{{by: "sam", of: "max", old: true}, {by: "sam", of: "sam"}}, "max sam tom"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.keys["root"] = 1
			set := setOf(c.id, c.revoke(tt.deeds...)...)
			want := strings.Fields(tt.out)
			slices.Sort(want)
			if got := c.out(set); !slices.Equal(got, want) {
				t.Errorf("out = %v, want %v", got, want)
			}
			for name, member := range c.members {
				if err := set.Check(member); err != nil && !errors.Is(err, ErrRevoked) {
					t.Errorf("Check(%s) = %v, want %v", name, err, ErrRevoked)
				}
			}
		})
	}
}

func TestRevocationsCheckSaysWhy(t *testing.T) {
	c := newCast()
	set := setOf(c.id, c.revoke(deed{by: "ben", of: "bob"}, deed{by: "max", of: "max"}, deed{by: "sam", of: "sam"})...)
	for name, says := range map[string]string{
		"bob": `credential of "bob", by ben, 2026-01-02T03:04:05Z`,
		"mia": `credential of "mia", by ben`,
		"max": `credential of "max" left 2026-01-02T03:04:05Z`,
		"tom": `credential of "tom", by sam`,
	} {
		checkErr(t, "Check of "+name, set.Check(c.members[name]), ErrRevoked, says)
	}
}

// Who is out stays out with a new credential under the same key, even one it gives
// itself, and an admin who is out can't bring in another key.
func TestRevokedStaysOut(t *testing.T) {
	c := newCast()
	set := setOf(c.id, c.revoke(deed{by: "alice", of: "carl"}, deed{by: "alice", of: "bob", since: time.Unix(1, 0)}, deed{by: "alice", of: "mia"})...)
	for _, tt := range []struct {
		name, by, key string
		roles         Roles
	}{
		{"an admin again, by another", "ben", "carl", allRoles},
		{"an admin, by itself", "carl", "carl", allRoles},
		{"a member again, by another", "dora", "mia", DefaultRoles},
		{"another key of an admin's", "carl", "new", allRoles},
		{"another key of an admin's that came by one who is out", "sam", "new", allRoles},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := must(c.issuer(tt.by).IssueNode(c.draw(), now, c.key(tt.key), Terms{Name: tt.key, Roles: tt.roles}))
			checkErr(t, "Check", set.Check(got), ErrRevoked, "")
		})
	}
}

// Keeping a member keeps what it has, and nothing more that the same admin's key
// could still sign.
func TestKeptStaysAsItWas(t *testing.T) {
	c := newCast()
	set := setOf(c.id, c.revoke(deed{by: "alice", of: "bob", keep: []string{"mia"}})...)
	for _, tt := range []struct {
		name, as string
		terms    Terms
		want     error
	}{
		{"the same again", "mia", Terms{Name: "mia"}, nil},
		{"as an admin", "mia", Terms{Name: "mia", Roles: allRoles}, ErrRevoked},
		{"by another name", "mia", Terms{Name: "max"}, ErrRevoked},
		{"for other services", "mia", Terms{Name: "mia", Services: []string{"web"}}, ErrRevoked},
		{"for another key", "max", Terms{Name: "mia"}, ErrRevoked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := must(c.issuer("bob").IssueNode(c.draw(), now, c.key(tt.as), tt.terms))
			checkErr(t, "Check", set.Check(got), tt.want, "")
			if tt.want == nil && !set.RestsOnRevoked(got) {
				t.Errorf("RestsOnRevoked = false, want true")
			}
		})
	}
	if set.RestsOnRevoked(c.members["dora"]) {
		t.Errorf("RestsOnRevoked of one that rests on nobody revoked = true, want false")
	}
}

func TestRevocationsTargets(t *testing.T) {
	c := newCast()
	set := setOf(c.id, c.revoke(deed{by: "carl", of: "max"}, deed{by: "alice", of: "carl"})...)
	for name, want := range map[string]bool{"carl": true, "max": false, "mia": false} {
		if got := set.Targets(c.key(name)); got != want {
			t.Errorf("Targets(%s) = %v, want %v", name, got, want)
		}
	}
}

func TestRevocationsAdd(t *testing.T) {
	c := newCast()
	rs := c.revoke(deed{by: "mia", of: "mia"}, deed{by: "bob", of: "max"}, deed{by: "root", of: "max"})
	s := NewRevocations(c.id)
	empty := s.Digest()
	if got := s.Add(rs[0], rs[1], rs[0]); len(got) != 2 || s.Len() != 2 {
		t.Errorf("Add = %d new, Len = %d, want 2, 2", len(got), s.Len())
	}
	if got := s.Add(rs...); len(got) != 1 || got[0] != rs[2] {
		t.Errorf("Add of what is there and one more = %v, want that one", got)
	}
	if got := s.Add(rs...); got != nil {
		t.Errorf("Add of what is there = %v, want nil", got)
	}
	if !s.Has(rs[0].ID()) || s.Has(Hash{}) || s.Digest() == empty {
		t.Errorf("Has, Digest don't tell what is in it")
	}
	if got := s.All(); len(got) != 3 || got[0] != rs[2] || got[1] != rs[1] || got[2] != rs[0] {
		t.Errorf("All = %v, want the root's, an admin's, a member's", got)
	}
}

// deedsOf makes revocations from bytes, four for each: as any that there can be.
func (c *cast) deedsOf(data []byte) []*Revocation {
	issuers := append([]string{"root"}, c.names()...)
	targets := append([]string{"open", "staff"}, issuers...)
	var all []*Revocation
	for ; len(data) >= 4; data = data[4:] {
		d := deed{by: issuers[int(data[0])%len(issuers)], of: targets[int(data[1])%len(targets)]}
		switch {
		case data[2]&1 != 0 && c.invites[d.of] != nil:
			d.serial = true
		case data[2]&2 != 0:
			d.since = now.Add(time.Duration(data[2]) * time.Second).Add(-time.Minute)
		}
		for i, name := range c.names() {
			if data[3]>>(i%8)&1 != 0 && data[2]&4 != 0 {
				d.keep = append(d.keep, name)
			}
		}
		terms := c.terms(d)
		if data[2]&8 != 0 && len(all) > 0 {
			terms.KeepMade = []*Revocation{all[int(data[3])%len(all)]}
		}
		// One that may not is no matter here.
		if r, err := c.issuer(d.by).Revoke(now.Add(time.Duration(len(all))*time.Second), terms); err == nil {
			all = append(all, r)
		}
	}
	return all
}

func (c *cast) names() []string {
	var names []string
	for name := range c.members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkSame fails unless two sets are the same and say the same.
func (c *cast) checkSame(t *testing.T, how string, got, want *Revocations) {
	t.Helper()
	if got.Digest() != want.Digest() || !slices.EqualFunc(got.All(), want.All(), func(a, b *Revocation) bool { return a.ID() == b.ID() }) {
		t.Errorf("%s: %d revocations with digest %x, want %d with %x", how, got.Len(), got.Digest(), want.Len(), want.Digest())
	}
	if g, w := c.out(got), c.out(want); !slices.Equal(g, w) {
		t.Errorf("%s: out = %v, want %v", how, g, w)
	}
}

// checkLattice adds the same in many ways.
func (c *cast) checkLattice(t *testing.T, rng *rand.Rand, rs []*Revocation) {
	t.Helper()
	want := setOf(c.id, rs...)
	shuffled := slices.Clone(rs)
	rng.Shuffle(len(rs), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	c.checkSame(t, "at once in another order", setOf(c.id, shuffled...), want)

	single := NewRevocations(c.id)
	for _, r := range shuffled {
		single.Add(r)
	}
	c.checkSame(t, "one by one", single, want)

	// Parts that overlap and are all of it together, each of which forgets what it
	// has no room for, and then merged two at a time.
	parts := make([]*Revocations, 2+rng.IntN(4))
	for i := range parts {
		parts[i] = NewRevocations(c.id)
	}
	for _, r := range shuffled {
		for range 1 + rng.IntN(2) {
			parts[rng.IntN(len(parts))].Add(r)
		}
	}
	for len(parts) > 1 {
		i := rng.IntN(len(parts) - 1)
		parts[i].Add(parts[i+1].All()...)
		parts = slices.Delete(parts, i+1, i+2)
	}
	c.checkSame(t, "merged", parts[0], want)

	again := setOf(c.id, want.All()...)
	again.Add(rs...)
	c.checkSame(t, "added to itself", again, want)
}

func TestRevocationsAreALattice(t *testing.T) {
	c := newCast()
	c.keys["root"] = 1
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 4*200)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	pool := c.deedsOf(data)
	if len(pool) < 50 {
		t.Fatalf("%d revocations, want more to choose from", len(pool))
	}
	for range 60 {
		rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		c.checkLattice(t, rng, pool[:1+rng.IntN(30)])
	}
}

// bulk makes revocations that need not be signed well, of which many are more than
// there is room for: the larger the byte, the more each keeps.
func (c *cast) bulk(rng *rand.Rand, by string, n int, kept func() int) []*Revocation {
	var all []*Revocation
	for range n {
		claims := revocationClaims{Target: c.key(c.names()[rng.IntN(len(c.members))]), Made: now.Unix() + rng.Int64N(1e6)}
		if by != "root" {
			claims.Issuer = c.members[by].chain
		}
		for range kept() {
			var h Hash
			for i := range h[:8] {
				h[i] = byte(rng.Uint32())
			}
			claims.Kept = append(claims.Kept, h)
		}
		slices.SortFunc(claims.Kept, compareHashes)
		all = append(all, must(ParseRevocation(must(wire.Marshal(revocationWire{Claims: claims})))))
	}
	return all
}

func TestRevocationsAreALatticeWhereBoundsCut(t *testing.T) {
	c := newCast()
	rng := rand.New(rand.NewPCG(3, 4))
	full := func() int { return MaxKept }
	mixed := func() int { return rng.IntN(MaxKept) }
	for _, tt := range []struct {
		name   string
		kept   func() int
		by     []string
		each   int
		atMost string
	}{
		{"one issuer", full, []string{"bob"}, 40, "issuer"},
		{"one issuer, of many sizes", mixed, []string{"bob"}, 80, "issuer"},
		{"many issuers", full, []string{"root", "alice", "bob", "ben", "carl", "eve"}, 32, "all"},
		{"many issuers, of many sizes", mixed, []string{"root", "alice", "bob", "ben", "carl", "dora", "eve"}, 50, "all"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rs []*Revocation
			for _, by := range tt.by {
				rs = append(rs, c.bulk(rng, by, tt.each, tt.kept)...)
			}
			// Members that left have what the admins leave them.
			for _, by := range []string{"mia", "max", "tom"} {
				rs = append(rs, c.bulk(rng, by, 3, func() int { return 0 })...)
			}
			for range 5 {
				c.checkLattice(t, rng, rs)
			}
			var size int
			sizes := map[string]int{}
			for _, r := range setOf(c.id, rs...).All() {
				size += len(r.Marshal())
				sizes[r.By()] += len(r.Marshal())
			}
			if size < MaxIssuerRevocations || tt.atMost == "all" && size < MaxRevocations {
				t.Errorf("%d bytes are held, want the bound to be what cuts off", size)
			}
			if limit := MaxRevocations + len(tt.by)*MaxRevocation; size > limit {
				t.Errorf("%d bytes are held, want at most %d", size, limit)
			}
			for by, size := range sizes {
				if limit := MaxIssuerRevocations + MaxRevocation; size > limit {
					t.Errorf("%d bytes by %s are held, want at most %d", size, by, limit)
				}
			}
		})
	}
}

// However much somebody writes, those nearer to the root have their room, and what
// members that leave write costs no admin any.
func TestRevocationsKeepRoomForThoseNearer(t *testing.T) {
	c := newCast()
	rng := rand.New(rand.NewPCG(5, 6))
	full := func() int { return MaxKept }
	flood := c.bulk(rng, "bob", 40, full)
	for _, by := range []string{"carl", "dora", "eve", "zoe", "sam", "fay"} {
		flood = append(flood, c.bulk(rng, by, 32, full)...)
	}
	set := setOf(c.id, flood...)
	own := c.revoke(deed{by: "root", of: "bob"}, deed{by: "alice", of: "max"})
	if got := set.Add(own...); len(got) != 2 {
		t.Errorf("Add beside a flood = %d new, want 2", len(got))
	}
	for _, name := range []string{"bob", "max"} {
		checkErr(t, "Check of "+name, set.Check(c.members[name]), ErrRevoked, "")
	}

	eve := c.revoke(deed{by: "eve", of: "max"})[0]
	set = setOf(c.id, eve)
	for range 20 { // who is no admin can only leave, and once
		set.Add(c.bulk(rng, "mia", 200, func() int { return 0 })...)
	}
	if !set.Has(eve.ID()) || set.Len() != 2 {
		t.Errorf("Len = %d beside one member's, Has(an admin's) = %v, want 2, true", set.Len(), set.Has(eve.ID()))
	}
}

// The last that an issuer has room for may be large, and costs nobody else any. Or
// else a smaller one before it would make room for what is gone by then.
func TestRevocationsOfOneIssuerTakeItsRoomAndNoMore(t *testing.T) {
	c := newCast()
	rng := rand.New(rand.NewPCG(11, 12))
	set := NewRevocations(c.id)
	for by, n := range map[string]int{"root": 40, "alice": 40, "amy": 40, "bob": 29} {
		set.Add(c.bulk(rng, by, n, func() int { return MaxKept })...)
	}
	var size int
	for _, r := range set.All() {
		size += len(r.Marshal())
	}
	if size < MaxRevocations {
		t.Fatalf("%d bytes are held, want more than %d, or this tests nothing", size, MaxRevocations)
	}
	if got := set.Add(c.revoke(deed{by: "eve", of: "max"})...); len(got) != 1 {
		t.Errorf("Add = %d new, want 1", len(got))
	}
}

// What comes later from somebody no nearer to the root brings nobody back whom one
// as near or nearer put out.
func TestRevocationsBringNobodyBack(t *testing.T) {
	c := newCast()
	c.keys["root"] = 1
	rng := rand.New(rand.NewPCG(7, 8))
	data := make([]byte, 4*150)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	pool := c.deedsOf(data)
	back := func(before, after []string) []string {
		return slices.DeleteFunc(slices.Clone(before), func(name string) bool { return slices.Contains(after, name) })
	}
	for range 300 {
		rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		x, rest := pool[0], pool[1:2+rng.IntN(12)]
		nearer := slices.DeleteFunc(slices.Clone(rest), func(r *Revocation) bool { return r.rank() > x.rank() })
		set := setOf(c.id, rest...)
		set.Add(x)
		if names := back(c.out(setOf(c.id, nearer...)), c.out(set)); len(names) > 0 {
			t.Errorf("%v are in again after %v, want them out", names, x)
		}
	}
}

func FuzzRevocationsMerge(f *testing.F) {
	c := newCast()
	c.keys["root"] = 1
	f.Add(uint64(1), []byte("\x03\x02\x00\x00\x04\x03\x00\x00"))
	f.Add(uint64(2), bytes.Repeat([]byte{5, 4, 2, 0, 4, 5, 4, 255}, 3))
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		if len(data) > 4*40 {
			return // signatures are slow
		}
		rs := c.deedsOf(data)
		for _, r := range rs {
			if err := r.Verify(c.id); err != nil {
				t.Errorf("Verify of %v = %v, want nil", r, err)
			}
		}
		c.checkLattice(t, rand.New(rand.NewPCG(seed, 0)), rs)
	})
}

func BenchmarkRevocationsAdd(b *testing.B) {
	c := newCast()
	rng := rand.New(rand.NewPCG(9, 9))
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rs := c.bulk(rng, "bob", n, func() int { return 0 })
			set := setOf(c.id, rs...)
			fresh := c.bulk(rng, "bob", 1, func() int { return 0 })
			for b.Loop() {
				delete(set.byID, fresh[0].ID())
				set.Add(fresh...)
			}
		})
	}
}
