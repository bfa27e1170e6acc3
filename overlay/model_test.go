package overlay

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
)

// This file is the model of histories: who was given what, who was revoked by whom, and
// what each node can have heard of it. It shares no code with what it judges, but for limits.

// A link is one grant of a chain: a key, and what it is for.
type link struct {
	key, serial   string
	invite, admin bool
	admitted      time.Time // of a node: when it came in
	vouchers      []string  // keys that vouch for that; nil in a first credential
}

// A gift is a credential or an invite that somebody was given.
type gift struct {
	chain    []link // its own first, the last given by the root
	name     string
	chosen   bool // the holder chose the name
	services []string
	uses     int // of an invite
	from     time.Time
	until    time.Time
}

func (g *gift) key() string { return g.chain[0].key }
func (g *gift) admin() bool { return g.chain[0].admin }

// above are the keys that a gift rests on.
func (g *gift) above() (keys []string) {
	for _, l := range g.chain[1:] {
		keys = append(keys, l.key)
	}
	return keys
}

// A fact is a revocation that was made.
type fact struct {
	by     *gift // nil: the root
	target string
	since  time.Time
	keeps  map[string]bool // by key
	stands map[*fact]bool  // that the target made, and that count on
	settle bool            // of one use too many
}

func (f *fact) depth() int {
	if f.by == nil {
		return 0
	}
	return len(f.by.chain)
}

// rank puts members that are no admins, and can but leave, last.
func (f *fact) rank() int {
	if f.by != nil && !f.by.admin() {
		return credential.MaxGrants + 1
	}
	return f.depth()
}

// reaches: nobody puts out an admin nearer to the root than itself, but itself.
func (f *fact) reaches(chain []link, i int) bool {
	if f.by != nil && f.by.key() == f.target && f.target == chain[i].key {
		return true
	}
	if i > 0 && chain[i].invite {
		i--
	}
	return f.depth() <= len(chain)-i || chain[i].invite || !chain[i].admin
}

// hits tells whether a fact puts out the holder of a gift: by its own key, by one it
// rests on, or by one that admitted it, or one it rests on, since.
func (f *fact) hits(g *gift) bool {
	for i, l := range g.chain {
		since := !f.since.IsZero() && slices.Contains(l.vouchers, f.target) && !l.admitted.Before(f.since)
		if (f.target == l.key || f.target == l.serial || since) && f.reaches(g.chain, i) && (i == 0 || !f.keeps[g.key()]) {
			return true
		}
	}
	return false
}

// undoes tells whether a fact makes another, by somebody further from the root, void.
func (f *fact) undoes(g *fact) bool {
	return f.rank() < g.rank() && (f.by == nil || f.by.key() != g.by.key()) && !f.stands[g] && f.hits(g.by)
}

// A use is what an admin knows of a counted invite: who was given which place.
type use struct {
	serial, key string
	place       int
}

// knowledge is what one node knows.
type knowledge struct {
	facts map[*fact]bool
	uses  map[use]bool
}

func newKnowledge() *knowledge { return &knowledge{map[*fact]bool{}, map[use]bool{}} }
func (k *knowledge) clone() *knowledge {
	return &knowledge{maps.Clone(k.facts), maps.Clone(k.uses)}
}

func (k *knowledge) hear(from *knowledge)     { maps.Copy(k.facts, from.facts) }
func (k *knowledge) hearUses(from *knowledge) { maps.Copy(k.uses, from.uses) }

// counting returns the facts that count: those whose maker nobody nearer to the root
// has put out.
func (k *knowledge) counting() []*fact {
	out := []*fact{}
	for _, f := range slices.SortedFunc(maps.Keys(k.facts), func(a, b *fact) int { return cmp.Compare(a.rank(), b.rank()) }) {
		if !slices.ContainsFunc(out, func(higher *fact) bool { return higher.undoes(f) }) {
			out = append(out, f)
		}
	}
	return out
}

// revoked tells whether a gift is worth nothing any more.
func (k *knowledge) revoked(g *gift) bool {
	return slices.ContainsFunc(k.counting(), func(f *fact) bool { return f.hits(g) })
}

// admits tells whether the holder of a gift is a member.
func (k *knowledge) admits(g *gift, now time.Time) bool {
	return current(g, now) && !k.revoked(g)
}

func current(g *gift, now time.Time) bool {
	return now.Sub(g.until) <= credential.ClockTolerance && g.from.Sub(now) <= credential.ClockTolerance
}

// freePlace returns the first place of an invite that nobody has, 0 for none.
func (k *knowledge) freePlace(serial string, uses int) int {
	for place := 1; place <= uses; place++ {
		taken := func(u use) bool { return u.serial == serial && u.place == place }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(k.uses)), taken) {
			return place
		}
	}
	return 0
}

// renewal is what an admin gives a member that has a gift.
func renewal(old, by *gift, now time.Time) *gift {
	g, own := *old, old.chain[0]
	if own.vouchers == nil {
		own.vouchers = append([]string{}, old.above()...) // none, and not nil, of one given by the root
	}
	g.chain = slices.Concat([]link{own}, by.chain)
	for _, key := range old.above() {
		if !slices.Contains(own.vouchers, key) && !slices.Contains(g.above(), key) {
			own.vouchers = slices.Concat(own.vouchers, []string{key})
		}
	}
	own.serial, g.chain[0] = "", own
	g.from, g.until, g.uses = now, now.Add(memberLifetime), 0
	if g.until.Before(old.until) {
		g.until = old.until
	}
	if g.until.After(by.until) {
		g.until = by.until
	}
	return &g
}

// rules are who may use a service, as they were said one after the other.
type rules struct{ allowed, denied map[string]bool }

func (r rules) allow(rule string) { r.allowed[rule] = true; delete(r.denied, rule) }

func (r rules) deny(rule string) {
	if delete(r.allowed, rule); rule == "everyone" {
		clear(r.allowed)
		clear(r.denied)
	} else if len(r.allowed) > 0 {
		r.denied[rule] = true
	}
}

func (r rules) permit(g *gift, id, service string) bool {
	is := func(set map[string]bool) bool {
		role := set["role:admin"] && g.admin() || set["role:member"]
		return set["everyone"] || role || set[id] || set[g.name] && !g.chosen
	}
	restricted := len(g.services) > 0 && !strings.Contains(" "+strings.Join(g.services, " ")+" ", " "+service+" ")
	return !restricted && is(r.allowed) && !is(r.denied)
}
