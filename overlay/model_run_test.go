package overlay

import (
	"crypto/rand"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// checkRosters compares who is in with whom each member lists.
func (h *history) checkRosters() {
	for _, n := range h.some(running) {
		if !n.knows.admits(n.gift, time.Now()) {
			continue
		}
		for _, o := range h.nodes {
			if o == n {
				continue
			}
			want := o.running && n.knows.admits(o.gift, time.Now()) && o.knows.admits(n.gift, time.Now())
			e := n.roster.entries[o.id]
			if want && e == nil {
				h.failf("%s is not listed by %s and is in", o.gift.name, n.gift.name)
			}
			if e == nil {
				continue
			}
			if g := h.given[string(e.credential.Marshal())]; g == nil || !n.knows.admits(g, time.Now()) {
				h.failf("%s is listed by %s and is out", o.gift.name, n.gift.name)
			}
		}
	}
}

// checkUses sees that of those who came by a counted invite one stays for each
// place that was given.
func (h *history) checkUses() {
	first := h.nodes[0] // without it an admin can be one too many that nobody left may put out
	in := func(n *simNode) bool { return h.isAdmin(n) && first.running && n.knows.admits(first.gift, time.Now()) }
	for _, n := range h.some(func(n *simNode) bool { return in(n) && first.knows.admits(n.gift, time.Now()) }) {
		facts := n.knows.counting()
		revoked := func(key string, settle bool) bool {
			return slices.ContainsFunc(facts, func(f *fact) bool { return f.target == key && (f.settle || !settle) })
		}
		for _, inv := range h.invites {
			keys, places := map[string]bool{}, map[int]bool{}
			for u := range n.knows.uses {
				if u.serial == inv.gift.chain[0].serial {
					keys[u.key], places[u.place] = true, true
				}
			}
			stay, settled := 0, 0
			for key := range keys {
				if !revoked(key, false) {
					stay++
				}
				if revoked(key, true) {
					settled++
				}
			}
			extra := 0 // of all, for an old copy of a store may have lost who was first
			for _, place := range placesOf(h.uses, inv.gift.chain[0].serial) {
				extra += place - 1
			}
			if stay > len(places) || settled > extra || len(places) > inv.gift.uses {
				h.failf("of %d who came by an invite for %d, to %d places, %d stay and %d were put out", len(keys), inv.gift.uses, len(places), stay, settled)
			}
		}
	}
}

// placesOf returns how many were given each place of an invite.
func placesOf(uses map[use]bool, serial string) map[int]int {
	out := map[int]int{}
	for u := range uses {
		if u.serial == serial {
			out[u.place]++
		}
	}
	return out
}

// steps are what happens, and how often in a thousand.
var steps = []struct {
	name   string
	weight int
	do     func(*history)
}{
	{"invite", 70, (*history).invite},
	{"join", 200, (*history).join},
	{"meet", 130, (*history).meetAny},
	{"expose", 80, (*history).expose},
	{"use", 150, (*history).use},
	{"revoke member", 35, (*history).revokeMember},
	{"revoke invite", 35, (*history).revokeInvite},
	{"leave", 10, (*history).leave},
	{"renew", 80, (*history).renew},
	{"restart", 50, func(h *history) { h.restart(false) }},
	{"restore", 20, func(h *history) { h.restart(true) }},
	{"back up", 30, (*history).save},
	{"partition", 40, (*history).partition},
	{"heal", 20, (*history).heal},
	{"clock jump", 50, (*history).jump},
}

func (h *history) step() {
	<-time.After(time.Second) // of the bubble
	at := h.rand.IntN(1000)
	for _, s := range steps {
		if at -= s.weight; at < 0 {
			h.kinds[s.name]++
			s.do(h)
			return
		}
	}
}

// run takes a number of steps on a new mesh, or fewer if one goes wrong.
func (h *history) run(n int) (taken int, err error) {
	root, err := credential.NewRoot(rand.Reader)
	if err != nil {
		return 0, err
	}
	h.root, h.given, h.uses = root, map[string]*gift{}, map[use]bool{}
	h.found(h.chance(50))
	h.kinds["found"]++
	if h.chance(30) {
		h.found(false)
		h.kinds["found"]++
	}
	for taken = 1; taken < n && h.err == nil; taken++ {
		h.step()
	}
	h.heal()
	return taken, h.err
}

// runHistories runs histories of a seed until one goes wrong or there are enough
// steps.
func runHistories(t *testing.T, seed uint64, steps int, mutant check) (taken int, kinds map[string]int, h *history, err error) {
	cryptotest.SetGlobalRandom(t, seed)
	kinds = map[string]int{}
	r := mathrand.New(mathrand.NewPCG(seed, 0))
	for taken < steps && err == nil {
		synctest.Test(t, func(*testing.T) {
			h = &history{rand: r, mutant: mutant, kinds: kinds}
			var n int
			n, err = h.run(historySteps)
			taken += n
		})
	}
	return taken, kinds, h, err
}

// No member is in that should be out, and none out that should be in.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = mathrand.Uint64()
	}
	taken, kinds, h, err := runHistories(t, seed, *modelSteps, nothing)
	t.Logf("-model.seed=%d: %d steps", seed, taken)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Logf("%6d %s", kinds[kind], kind)
	}
	if err != nil {
		for _, line := range h.log[max(0, len(h.log)-60):] {
			t.Log(line)
		}
		t.Fatal(err)
	}
}

// The histories find each check that is missing.
func TestModelCatchesMutants(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mutant check
	}{
		{"admission lets in the revoked", skipRevoked},
		{"admission lets in the expired", skipExpiry},
		{"admission lets in the unredeemed", skipUnredeemed},
		{"a credential's services are no restriction", skipServices},
		{"what is denied is not", skipDeny},
		{"what is not allowed is", skipAllow},
		{"a name that was chosen counts", skipChosen},
		{"admins don't tell each other claims", skipClaims},
		{"since is not in a revocation", skipSince},
		{"a revocation keeps nobody", skipKeep},
		{"the revoked stay listed", skipEnforce},
		{"a node that comes back does not catch up", skipCatchUp},
		{"a revoked invite is redeemed", skipRevokedRedeem},
		{"one more than there are uses", skipUsedUp},
		{"a restart forgets revocations", forgetRevocations},
		{"a restart forgets claims", forgetClaims},
	} {
		t.Run(tt.name, func(t *testing.T) {
			taken, _, _, err := runHistories(t, 1, 10_000, tt.mutant)
			if err == nil {
				t.Fatalf("not caught within %d steps", taken)
			}
			t.Logf("caught after %d steps: %v", taken, err)
		})
	}
}
