package overlay

import (
	"crypto/ed25519"
	"crypto/rand"
	"flag"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "of the histories of TestModel; 0 draws one")
	modelSteps = flag.Int("model.steps", 10_000, "how many TestModel takes at least")
)

const (
	historySteps = 400 // of one mesh, then another is founded
	maxNodes     = 7   // that are in it at a time
	alone        = 100 // is a part that no partition makes
)

// A history is one mesh from its founding on: what is done to it at random, and the
// comparison with the model.
type history struct {
	rand    *mathrand.Rand
	mutant  check
	root    *credential.Root
	nodes   []*simNode
	invites []*simInvite
	given   map[string]*gift // by the encoding of the credential
	uses    map[use]bool     // all that were ever given
	made    int              // names
	kinds   map[string]int   // how often each step was taken
	log     []string
	err     error
}

type simInvite struct {
	*credential.Invite
	gift *gift
	by   *simNode
}

// services are what nodes offer and credentials are restricted to.
var services = []string{"db", "ssh", "web"}

func (h *history) failf(format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf(format, args...)
	}
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *history) chance(percent int) bool { return h.rand.IntN(100) < percent }

func pick[T any](h *history, list []T) (out T, ok bool) {
	if len(list) == 0 {
		return out, false
	}
	return list[h.rand.IntN(len(list))], true
}

// some returns the nodes that something is true of, in random order.
func (h *history) some(is func(*simNode) bool) []*simNode {
	out := slices.DeleteFunc(slices.Clone(h.nodes), func(n *simNode) bool { return !is(n) })
	h.rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func running(n *simNode) bool { return n.running }

func (h *history) isAdmin(n *simNode) bool {
	return n.running && n.gift.admin() && time.Now().Before(n.gift.until)
}

func (h *history) reach(n *simNode) []*simNode {
	return h.some(func(o *simNode) bool { return o != n && o.running && o.part == n.part })
}

// admins returns the other admins that a node is in touch with.
func (h *history) admins(n *simNode) []*simNode {
	return sortedIDs(h.some(func(o *simNode) bool {
		return o != n && o.part == n.part && h.isAdmin(o) && n.roster.entries[o.id] != nil && o.roster.entries[n.id] != nil
	}))
}

// askable returns the admins that a node may ask to redeem an invite, in order.
func (h *history) askable(n *simNode) []*simNode {
	if all := h.admins(n); n.gift.admin() {
		return slices.Concat([]*simNode{n}, all)
	} else {
		return all
	}
}

// redeemer returns the first of them that can give what an invite does, or knows
// that it is not to be given.
func (h *history) redeemer(n *simNode, g *gift) *simNode {
	for _, by := range h.askable(n) {
		if by.knows.revoked(g) || h.isAdmin(by) && len(by.gift.chain) < credential.MaxGrants && !by.gift.until.Before(g.until) {
			return by
		}
	}
	return nil
}

func (h *history) newName() string {
	h.made++
	return fmt.Sprintf("n%d", h.made)
}

func (h *history) add(key ed25519.PrivateKey) *simNode {
	return &simNode{history: h, key: key, id: idOf(key), disk: newMemoryStore(), knows: newKnowledge(), services: map[string]*simService{}, part: h.rand.IntN(2)}
}

// keep writes a credential down as the node's own.
func (n *simNode) keep(c *credential.Credential, g *gift) {
	mesh := n.history.root.Mesh()
	if err := n.disk.put(selfBucket, map[string][]byte{keyMesh: mesh[:], keyCredential: c.Marshal()}); err != nil {
		panic(err)
	}
	n.gift = g
	n.history.given[string(c.Marshal())] = g
}

func leafOf(c *credential.Credential, above []link) []link {
	g := c.Grants()[0]
	return slices.Concat([]link{{key: keyText(g.Key), serial: string(g.Serial[:]), admin: g.Roles.Has(credential.RoleAdmin), admitted: g.NotBefore}}, above)
}

// gift1 is the model's gift for a first credential.
func gift1(c *credential.Credential, above []link, chosen bool) *gift {
	g := c.Grants()[0]
	return &gift{chain: leafOf(c, above), name: g.Name, chosen: chosen, services: g.Services, from: g.NotBefore, until: g.NotAfter}
}

func (h *history) found(withRoot bool) {
	n := h.add(newKey())
	c, err := h.root.Found(rand.Reader, time.Now(), publicOf(n.key), h.newName())
	if err != nil {
		panic(err)
	}
	if withRoot {
		n.root = h.root
	}
	n.keep(c, gift1(c, nil, false))
	if err := n.start(c, nothing); err != nil {
		panic(err)
	}
	h.nodes = append(h.nodes, n)
}

func (h *history) invite() {
	n, ok := pick(h, h.some(h.isAdmin))
	if !ok || len(n.gift.chain) >= credential.MaxGrants-1 {
		return
	}
	terms := credential.Terms{Uses: uint16(h.rand.IntN(4)), NotAfter: time.Now().Add(time.Duration(1+h.rand.IntN(72)) * time.Hour)}
	switch {
	case h.chance(30):
		terms.Roles = credential.DefaultRoles | credential.RoleAdmin
	case h.chance(30):
		terms.Services = services[:1+h.rand.IntN(2)]
	}
	if h.chance(30) {
		terms.Name = h.newName()
	}
	if terms.NotAfter.After(n.gift.until) {
		terms.NotAfter = n.gift.until
	}
	issuer, _, err := n.issuer()
	if err != nil {
		panic(err)
	}
	inv, err := issuer.IssueInvite(rand.Reader, time.Now(), terms, nil)
	if err != nil {
		return
	}
	g := inv.Grant()
	l := link{key: keyText(g.Key), serial: string(g.Serial[:]), invite: true, admin: g.Roles.Has(credential.RoleAdmin)}
	h.invites = append(h.invites, &simInvite{inv, &gift{
		chain: slices.Concat([]link{l}, n.gift.chain), name: g.Name, services: g.Services, uses: int(g.Uses), from: g.NotBefore, until: g.NotAfter,
	}, n})
	h.note("%s invites, uses %d, admin %v", n.gift.name, g.Uses, l.admin)
}

// join has a new node come by an invite to a node that it can reach.
func (h *history) join() {
	alive := len(h.some(func(n *simNode) bool { return !n.gone }))
	last := 4
	if h.chance(50) {
		last = 1 // so that some are used up
	}
	inv, ok := pick(h, h.invites[max(0, len(h.invites)-last):])
	if !ok || alive >= maxNodes {
		return
	}
	n := h.add(newKey())
	name := inv.Grant().Name
	if name == "" {
		name = h.newName()
		if named, ok := pick(h, h.nodes); ok && h.chance(20) {
			name = named.gift.name
		}
	}
	c, err := inv.IssueNode(rand.Reader, time.Now(), publicOf(n.key), name)
	if err != nil {
		return // it has ended
	}
	g := gift1(c, inv.gift.chain, inv.Grant().Name == "")
	if inv.gift.uses == 0 {
		n.keep(c, g)
		if err := n.start(c, nothing); err != nil {
			h.failf("a node that knows nothing starts with a fresh credential = %v, want nil", err)
			return
		}
		h.note("%s joins by the invite of %s", name, inv.by.gift.name)
		h.nodes = append(h.nodes, n)
		if o, ok := pick(h, h.reach(n)); ok {
			h.meet(n, o, true)
		}
		return
	}
	n.gift = g
	if err := n.start(c, nothing); err != nil {
		panic(err)
	}
	if o, ok := pick(h, h.some(func(o *simNode) bool { return o.running && o != n })); ok {
		n.part = o.part
		h.redeem(n, o, inv, c)
	}
}

// redeem has a node come with a counted invite to another.
func (h *history) redeem(n, o *simNode, inv *simInvite, c *credential.Credential) {
	by := h.redeemer(o, n.gift)
	want, place := false, 0
	free := func() int { return by.knows.freePlace(inv.gift.chain[0].serial, inv.gift.uses) }
	if by != nil && current(n.gift, time.Now()) && !by.knows.revoked(n.gift) && free() > 0 {
		for _, other := range h.admins(by) { // which it asks only if it knows of a place itself
			h.shareUses(by, other)
		}
		place = free()
		want = place > 0
	}
	var g *gift
	if want {
		g = renewal(n.gift, by.gift, time.Now())
		u := use{inv.gift.chain[0].serial, g.key(), place}
		by.knows.uses[u], h.uses[u] = true, true
		for _, other := range h.admins(by) {
			h.shareUses(by, other)
		}
		want = o.knows.admits(g, time.Now()) && n.knows.admits(o.gift, time.Now())
	}
	err := meet(o, n)
	if e := o.roster.entries[n.id]; e != nil && g != nil {
		h.given[string(e.credential.Marshal())] = g // even if the other did not like who let it in
	}
	for _, admin := range h.some(running) {
		h.settleClaims(admin)
	}
	h.note("%s redeems with %s by %v: %v", n.gift.name, o.gift.name, by != nil, err)
	if (err == nil) != want {
		h.failf("redeem an invite for %d at %s = %v, want it to work: %v", inv.gift.uses, o.gift.name, err, want)
	}
	if err != nil || g == nil {
		return
	}
	h.nodes = append(h.nodes, n)
	n.keep(n.credential, g)
	o.see(n)
	n.see(o)
	h.exchange(n, o, true)
}

// shareUses is what the model has two admins tell each other.
func (h *history) shareUses(a, b *simNode) {
	a.knows.hearUses(b.knows)
	b.knows.hearUses(a.knows)
}

// meet has two nodes connect, and compares with the model whether they let each
// other in. If real is false only the model's do.
func (h *history) meet(a, b *simNode, real bool) bool {
	if !a.running || !b.running || a.part != b.part {
		return false
	}
	now := time.Now()
	want := a.knows.admits(b.gift, now) && b.knows.admits(a.gift, now)
	if real {
		if err := meet(a, b); (err == nil) != want {
			h.failf("%s meets %s = %v, want them to let each other in: %v", a.gift.name, b.gift.name, err, want)
			return false
		}
	}
	if a.knows.admits(b.gift, now) {
		a.see(b)
		if want {
			b.see(a)
		}
	}
	if want {
		h.exchange(a, b, real)
	}
	return want
}

// see takes in what another showed, unless a later credential of it is known.
func (n *simNode) see(o *simNode) {
	old := n.seen[o]
	if old == nil || o.gift.from.After(old.from) || o.gift.from.Equal(old.from) && o.gift.until.After(old.until) {
		n.seen[o] = o.gift
	}
}

// lists tells whether a node takes another for a member.
func (n *simNode) lists(o *simNode) bool {
	return n.seen[o] != nil && n.knows.admits(n.seen[o], time.Now())
}

func (h *history) exchange(a, b *simNode, real bool) {
	a.knows.hear(b.knows)
	b.knows.hear(a.knows)
	both := h.isAdmin(a) && h.isAdmin(b)
	if both {
		h.shareUses(a, b)
	}
	if real {
		a.fetchRevocations(b)
		b.fetchRevocations(a)
		if both {
			a.exchangeClaims(b)
			h.settleClaims(a)
			h.settleClaims(b)
		}
	}
	for _, n := range []*simNode{a, b} {
		h.enforce(n)
	}
}

func (h *history) enforce(n *simNode) {
	if !n.running {
		return
	}
	n.enforce()
	for _, o := range h.nodes {
		if !n.lists(o) {
			delete(n.seen, o)
		}
	}
	if out := n.knows.revoked(n.gift); n.running == out {
		h.failf("%s takes itself for revoked: %v, want %v", n.gift.name, !n.running, out)
	}
}

// settleClaims is Mesh.settleClaims without a network.
func (h *history) settleClaims(n *simNode) {
	if !h.isAdmin(n) {
		return
	}
	losers := n.claims.losers()
	slices.SortFunc(losers, func(a, b claim) int { return slices.Compare([]byte(a.id()), []byte(b.id())) })
	for _, c := range losers {
		if !n.revoked.targets(c.Key[:]) {
			h.revoke(n, &fact{target: keyText(c.Key[:]), settle: true}, credential.RevokeTerms{Key: c.Key[:]})
		}
	}
}

// revoke has a node revoke something, and the model note it.
func (h *history) revoke(n *simNode, f *fact, terms credential.RevokeTerms) bool {
	issuer, _, err := n.issuer()
	if err != nil {
		panic(err)
	}
	if f.by = n.gift; n.root != nil {
		issuer, f.by = n.root.Issuer(), nil
	}
	if err := n.Mesh.keep(&terms); err != nil {
		panic(err)
	}
	h.keeps(n, f)
	if err := n.revoke(issuer, terms); err != nil {
		h.note("%s does not revoke: %v", n.gift.name, err)
		return false
	}
	n.knows.facts[f] = true
	h.enforce(n)
	return true
}

// keeps works out who rests on what is revoked and is to stay.
func (h *history) keeps(n *simNode, f *fact) {
	f.keeps, f.stands = map[string]bool{}, map[*fact]bool{}
	for other := range n.knows.facts {
		f.stands[other] = other.by != nil && slices.ContainsFunc(other.by.chain, func(l link) bool { return l.key == f.target })
	}
	known := []*gift{n.gift}
	for _, e := range n.roster.entries {
		g := h.given[string(e.credential.Marshal())]
		if g == nil {
			h.failf("%s lists one with a credential that nobody was given", n.gift.name)
			continue
		}
		known = append(known, g)
	}
	for _, g := range known {
		rests := slices.ContainsFunc(g.chain[1:], func(l link) bool { return l.key == f.target || l.serial == f.target })
		if rests && (f.since.IsZero() || g.chain[0].admitted.Before(f.since)) {
			f.keeps[g.key()] = true
		}
	}
}

func (h *history) since() time.Time {
	if h.chance(50) {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(h.rand.IntN(30)) * time.Hour)
}

func (h *history) revokeMember() {
	n, ok := pick(h, h.some(h.isAdmin))
	if !ok {
		return
	}
	o, ok := pick(h, h.some(func(o *simNode) bool {
		return o != n && o.root == nil && o != h.nodes[0] || o != n && n.root == nil && h.chance(10)
	}))
	if !ok {
		return
	}
	terms := credential.RevokeTerms{Key: publicOf(o.key), Since: h.since()}
	done := h.revoke(n, &fact{target: keyText(terms.Key), since: terms.Since}, terms)
	h.note("%s revokes %s since %v: %v", n.gift.name, o.gift.name, terms.Since, done)
}

func (h *history) revokeInvite() {
	n, ok := pick(h, h.some(h.isAdmin))
	inv, there := pick(h, h.invites)
	if !ok || !there {
		return
	}
	key := inv.Grant().Key
	terms := credential.RevokeTerms{Key: key, Since: h.since()}
	f := &fact{target: keyText(key), since: terms.Since}
	if h.chance(30) {
		id := inv.ID()
		terms, f = credential.RevokeTerms{Invite: id}, &fact{target: string(id[:])}
	}
	done := h.revoke(n, f, terms)
	h.note("%s revokes an invite of %s since %v: %v", n.gift.name, inv.by.gift.name, terms.Since, done)
}

func (h *history) leave() {
	n, ok := pick(h, h.some(func(n *simNode) bool { return n.running && n != h.nodes[0] && time.Now().Before(n.gift.until) }))
	if !ok {
		return
	}
	key := publicOf(n.key)
	issuer, err := credential.NewIssuer(n.Mesh.id, n.key, n.credential)
	if err != nil {
		panic(err)
	}
	f := &fact{by: n.gift, target: keyText(key)}
	h.keeps(n, f)
	terms := credential.RevokeTerms{Key: key}
	if err := n.Mesh.keep(&terms); err != nil {
		panic(err)
	}
	near := slices.DeleteFunc(h.reach(n), func(o *simNode) bool { return !h.meet(n, o, true) })
	if !n.running { // it heard that it is out
		return
	}
	if err := n.revoke(issuer, terms); err != nil {
		h.failf("%s leaves = %v, want nil", n.gift.name, err)
		return
	}
	n.knows.facts[f] = true
	for _, o := range near {
		if o.running {
			h.exchange(o, n, true)
		}
	}
	h.note("%s leaves", n.gift.name)
	n.running, n.gone = false, true
	if err := n.disk.put(selfBucket, map[string][]byte{keyMesh: nil, keyCredential: nil}); err != nil {
		panic(err)
	}
}

func (h *history) renew() {
	n, ok := pick(h, h.some(func(n *simNode) bool { return n.running && n != h.nodes[0] }))
	if !ok {
		return
	}
	by, ok := pick(h, slices.DeleteFunc(h.reach(n), func(o *simNode) bool { return !h.isAdmin(o) }))
	if !ok || !h.meet(n, by, true) || !n.running || !by.running {
		return
	}
	e := by.roster.entries[n.id]
	if e == nil {
		h.failf("%s met %s and is not in its roster", n.gift.name, by.gift.name)
		return
	}
	old := h.given[string(e.credential.Marshal())]
	if old == nil {
		h.failf("%s lists %s with a credential that nobody was given", by.gift.name, n.gift.name)
		return
	}
	g := renewal(old, by.gift, time.Now())
	c, err := by.issue(e.member)
	if err != nil {
		h.note("%s renews %s: %v", by.gift.name, n.gift.name, err)
		return
	}
	want := n.knows.admits(g, time.Now()) && !g.until.Before(n.gift.until)
	err = n.adopt(c.Marshal())
	if (err == nil) != want {
		h.failf("%s adopts what %s gave = %v, want it to: %v", n.gift.name, by.gift.name, err, want)
	}
	if err == nil {
		h.note("%s renews %s", by.gift.name, n.gift.name)
		n.keep(c, g)
		h.meet(n, by, true)
	}
}

func ruleOf(h *history) string {
	rules := []string{"everyone", "role:admin", "role:member"}
	if n, ok := pick(h, h.some(running)); ok {
		rules = append(rules, n.gift.name, n.gift.name, n.id.String(), n.id.String())
	}
	return rules[h.rand.IntN(len(rules))]
}

// expose has a node offer a service, or change who may use it.
func (h *history) expose() {
	n, ok := pick(h, h.some(running))
	if !ok {
		return
	}
	name, text := services[h.rand.IntN(len(services))], ruleOf(h)
	rule, err := ParseRule(text)
	if err != nil {
		panic(err)
	}
	s := n.services[name]
	if s == nil {
		s = &simService{rules: rules{map[string]bool{}, map[string]bool{}}}
		n.services[name] = s
	}
	if h.chance(20) {
		s.rules.allow("everyone")
		s.access = s.access.With(Everyone)
	}
	if h.chance(50) {
		s.rules.allow(text)
		s.access = s.access.With(rule)
	} else {
		s.rules.deny(text)
		s.access = s.access.Without(rule)
	}
}

// use has a node dial a service.
func (h *history) use() {
	n, ok := pick(h, h.some(func(n *simNode) bool { return n.running && len(n.services) > 0 }))
	if !ok {
		return
	}
	o, ok := pick(h, h.reach(n))
	if !ok {
		return
	}
	met := h.meet(o, n, true)
	if !n.running || !o.running {
		return
	}
	for _, name := range sortedKeys(n.services) {
		want := met && n.lists(o) && n.services[name].rules.permit(o.gift, o.id.String(), name)
		if got := met && n.permits(o.id, name); got != want {
			h.failf("%s uses %s of %s with %+v: %v, want %v", o.gift.name, name, n.gift.name, n.services[name].access, got, want)
		}
	}
}

// restart stops a node and starts it with its store, or with an old copy of it.
func (h *history) restart(restore bool) {
	n, ok := pick(h, h.some(func(n *simNode) bool { return !n.gone && !restore || restore && n.saved != nil }))
	if !ok {
		return
	}
	n.running = false
	if h.chance(40) {
		n.part = alone
	}
	if restore {
		n.disk, n.gift, n.knows = cloneStore(n.saved.disk), n.saved.gift, n.saved.knows.clone()
	}
	err := n.load(h.mutant)
	if want := n.knows.admits(n.gift, time.Now()); (err == nil) != want {
		h.failf("%s starts (restored %v) = %v, want it to: %v", n.gift.name, restore, err, want)
	}
	if n.gone = err != nil; n.gone {
		return
	}
	h.note("%s restarts, restored %v", n.gift.name, restore)
	h.forgetEnded(n)
	for _, o := range h.reach(n) { // it catches up before it serves
		h.meet(n, o, h.mutant != skipCatchUp)
	}
}

// forgetEnded: a node that starts drops what it knows of invites that have ended.
func (h *history) forgetEnded(n *simNode) {
	for _, inv := range h.invites {
		if time.Since(inv.gift.until) > 2*credential.ClockTolerance {
			maps.DeleteFunc(n.knows.uses, func(u use, _ bool) bool { return u.serial == inv.gift.chain[0].serial })
		}
	}
}

func (h *history) save() {
	if n, ok := pick(h, h.some(running)); ok {
		n.saved = &backup{cloneStore(n.disk), n.gift, n.knows.clone()}
	}
}

func (h *history) jump() {
	hours := h.rand.IntN(8)
	switch {
	case h.chance(10):
		hours = 24 * h.rand.IntN(60)
	case h.chance(30):
		hours = h.rand.IntN(50)
	}
	<-time.After(time.Duration(hours) * time.Hour) // of the bubble
	h.note("%d hours pass", hours)
	for _, n := range h.some(running) {
		h.enforce(n)
	}
}

func (h *history) meetAny() {
	if a, ok := pick(h, h.some(running)); ok {
		if b, ok := pick(h, h.reach(a)); ok {
			h.meet(a, b, true)
		}
	}
}

func (h *history) partition() {
	parts := 2 + h.rand.IntN(2)
	for _, n := range h.nodes {
		n.part = h.rand.IntN(parts)
	}
	h.note("partition")
}

// heal lets all meet until nobody hears anything new, and compares who is in.
func (h *history) heal() {
	for _, n := range h.nodes {
		n.part = 0
	}
	h.note("heal")
	for before := -1; ; {
		for _, a := range h.some(running) {
			for _, b := range h.some(running) {
				if a.id < b.id {
					h.meet(a, b, true)
				}
			}
		}
		for _, n := range h.some(running) {
			h.settleClaims(n)
		}
		now := 0
		for _, n := range h.some(running) {
			now += len(n.knows.facts) + len(n.knows.uses)
		}
		if h.err != nil || now == before {
			break
		}
		before = now
	}
	h.checkRosters()
	h.checkUses()
}
