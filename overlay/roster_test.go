package overlay

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// epoch is when the roster's tests begin. Times in them are since then.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// memberCalled returns a member whose credential began at a time.
func memberCalled(id peer.ID, name string, began time.Time) credential.Member {
	return credential.Member{ID: id, Grant: credential.Grant{
		Name: name, Roles: credential.DefaultRoles, NotBefore: began, NotAfter: began.Add(time.Hour),
	}}
}

// The life of one member, as seen from another.
func TestRosterOverTime(t *testing.T) {
	const presenceExpiry = 200 * time.Second // with few members
	type step struct {
		at   time.Duration
		what string
		do   func(r *roster, now time.Time)
		up   bool // from then on
	}
	m := memberCalled("m", "alice", epoch)
	learn := func(r *roster, now time.Time) { r.learn(m, nil, now) }
	connect := func(r *roster, now time.Time) { r.connected("m", true, now) }
	lose := func(r *roster, now time.Time) { r.connected("m", false, now) }
	fail := func(r *roster, _ time.Time) { r.unreachable("m") }
	wait := func(*roster, time.Time) {}
	say := func(seq uint64, leaving bool) func(*roster, time.Time) {
		return func(r *roster, now time.Time) {
			r.announce(m, nil, presence{Seq: seq, Leaving: leaving}, []byte{1}, now)
		}
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"admitted, then connected", []step{
			{0, "admitted", learn, false},
			{1, "connected", connect, true},
			{time.Hour, "silent on the connection", wait, true},
		}},
		{"heard of, and never met", []step{
			{0, "says that it is up", say(1, false), true},
			{presenceExpiry - 1, "silent", wait, true},
			{presenceExpiry, "silent too long", wait, false},
			{presenceExpiry + time.Hour, "says so again", say(2, false), true},
			{2*presenceExpiry + time.Hour, "silent too long", wait, false},
		}},
		{"an old statement does not keep it up", []step{
			{0, "says that it is up", say(5, false), true},
			{presenceExpiry - 1, "the same comes again", say(5, false), true},
			{presenceExpiry, "silent too long", wait, false},
			{presenceExpiry + 1, "one from before comes", say(4, false), false},
		}},
		{"leaves", []step{
			{0, "connected", func(r *roster, now time.Time) { learn(r, now); connect(r, now) }, true},
			{1, "says that it is up", say(1, false), true},
			{2, "says that it is going", say(2, true), true}, // the connection is still there
			{3, "connection ends", lose, false},
			{4, "comes back", connect, true},
			{5, "connection ends", lose, true}, // and it may still be there
		}},
		{"leaves unseen, and comes back", []step{
			{0, "says that it is up", say(1, false), true},
			{1, "says that it is going", say(2, true), false},
			{2, "an old statement arrives late", say(1, false), false},
			{3, "is up again", say(3, false), true},
		}},
		{"killed", []step{
			{0, "connected", func(r *roster, now time.Time) { learn(r, now); connect(r, now) }, true},
			{1, "says that it is up", say(1, false), true},
			{2, "connection ends", lose, true},
			{3, "does not answer", fail, false},
			{4, "says that it is up", say(2, false), true},
		}},
		{"connection lost, and no word from it", []step{
			{0, "connected", func(r *roster, now time.Time) { learn(r, now); connect(r, now) }, true},
			{1, "connection ends", lose, false},
		}},
		{"a dial fails beside a connection", []step{
			{0, "connected", func(r *roster, now time.Time) { learn(r, now); connect(r, now) }, true},
			{1, "does not answer another dial", fail, true},
		}},
		{"the time since the connection ended counts", []step{
			{0, "says that it is up", say(1, false), true},
			{1, "connected", connect, true},
			{time.Hour, "connection ends", lose, true},
			{time.Hour + presenceExpiry - 1, "silent", wait, true},
			{time.Hour + presenceExpiry, "silent too long", wait, false},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoster()
			for _, s := range tt.steps {
				now := epoch.Add(s.at)
				s.do(r, now)
				if up := r.entries["m"].up(now, r.window(now)); up != s.up {
					t.Errorf("after %v (%s) up = %v, want %v", s.at, s.what, up, s.up)
				}
			}
		})
	}
}

// What is said of a peer that was never admitted has no effect.
func TestRosterKnowsOnlyMembers(t *testing.T) {
	r := newRoster()
	r.connected("stranger", true, epoch)
	r.connected("stranger", false, epoch)
	r.unreachable("stranger")
	if len(r.entries) != 0 {
		t.Errorf("the roster has %d members, want none", len(r.entries))
	}
}

func TestRosterLearnsTheLaterCredential(t *testing.T) {
	first := memberCalled("m", "alice", epoch)
	for _, tt := range []struct {
		name         string
		begins, ends time.Duration // since those of the first
		taken        bool
	}{
		{"the same", 0, 0, false},
		{"a later one", time.Second, 0, true},
		{"a later one that ends sooner", time.Second, -time.Minute, true},
		{"an earlier one", -time.Second, time.Hour, false},
		{"of the same second, and ends later", 0, time.Hour, true}, // renewed at once
		{"of the same second, and ends sooner", 0, -time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoster()
			r.learn(first, new(credential.Credential), epoch)
			second := first
			second.NotBefore = first.NotBefore.Add(tt.begins)
			second.NotAfter = first.NotAfter.Add(tt.ends)
			other := new(credential.Credential)
			e := r.learn(second, other, epoch)
			if taken := e.credential == other; taken != tt.taken || e.member.NotAfter.Equal(second.NotAfter) != (tt.taken || tt.ends == 0) {
				t.Errorf("learn keeps one that ends %v, taken = %v, want %v", e.member.NotAfter, taken, tt.taken)
			}
		})
	}
}

func TestRosterNames(t *testing.T) {
	up := func(r *roster, id peer.ID, name string) {
		r.announce(memberCalled(id, name, epoch), nil, presence{Seq: 1}, []byte{1}, epoch)
	}
	away := func(r *roster, id peer.ID, name string) { r.learn(memberCalled(id, name, epoch), nil, epoch) }
	for _, tt := range []struct {
		name string
		fill func(r *roster)
		want []peer.ID
	}{
		{"nobody", func(r *roster) {}, nil},
		{"somebody else", func(r *roster) { up(r, "b", "bob") }, nil},
		{"one that is up", func(r *roster) { up(r, "a", "alice"); up(r, "b", "bob") }, []peer.ID{"a"}},
		{"one that is away", func(r *roster) { away(r, "a", "alice") }, []peer.ID{"a"}},
		{"one up and one away", func(r *roster) { away(r, "a", "alice"); up(r, "b", "alice") }, []peer.ID{"b"}},
		{"two up", func(r *roster) { up(r, "b", "alice"); up(r, "a", "alice"); away(r, "c", "alice") }, []peer.ID{"a", "b"}},
		{"two away", func(r *roster) { away(r, "b", "alice"); away(r, "a", "alice") }, []peer.ID{"a", "b"}},
		{"one that has changed its name", func(r *roster) {
			up(r, "a", "alice")
			r.learn(memberCalled("a", "anna", epoch.Add(time.Second)), nil, epoch)
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoster()
			tt.fill(r)
			if got := r.named("alice", epoch); !slices.Equal(got, tt.want) {
				t.Errorf("named(alice) = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRosterSorted(t *testing.T) {
	r := newRoster()
	for _, m := range [][2]string{{"3", "bob"}, {"2", "carol"}, {"1", "alice"}, {"0", "bob"}} {
		r.learn(memberCalled(peer.ID(m[0]), m[1], epoch), nil, epoch)
	}
	var got []string
	for _, e := range r.sorted() {
		got = append(got, e.member.Name+string(e.member.ID))
	}
	if want := []string{"alice1", "bob0", "bob3", "carol2"}; !slices.Equal(got, want) {
		t.Errorf("sorted() = %v, want by name, then by ID %v", got, want)
	}
}

// How often members say that they are up, and for how long that counts, by how many
// there are.
func TestRosterIntervals(t *testing.T) {
	add := func(r *roster, n int, at time.Duration, leaving bool) {
		for i := range n {
			m := memberCalled(numbered(i), "m", epoch)
			r.announce(m, nil, presence{Seq: 1, Leaving: leaving}, []byte{1}, epoch.Add(at))
		}
	}
	for _, tt := range []struct {
		name                      string
		fill                      func(r *roster)
		interval, window, spacing time.Duration
	}{
		{"alone", func(*roster) {}, time.Minute, 200 * time.Second, presenceSettle},
		{"20", func(r *roster) { add(r, 19, 0, false) }, time.Minute, 200 * time.Second, 2 * time.Second},
		{"40", func(r *roster) { add(r, 39, 0, false) }, 2 * time.Minute, 400 * time.Second, 4 * time.Second},
		{"200", func(r *roster) { add(r, 199, 0, false) }, 10 * time.Minute, 2000 * time.Second, 20 * time.Second},
		{"as many as are remembered", func(r *roster) { add(r, maxRoster, 0, false) }, 15 * time.Minute, 50 * time.Minute, time.Minute},
		{"those silent since count for a while", func(r *roster) { add(r, 199, 1-presenceMemory, false) }, 10 * time.Minute, 2000 * time.Second, 20 * time.Second},
		{"and then no more", func(r *roster) { add(r, 199, -presenceMemory, false) }, time.Minute, 200 * time.Second, presenceSettle},
		{"those that left don't", func(r *roster) { add(r, 199, 0, true) }, time.Minute, 200 * time.Second, presenceSettle},
		{"those connected do", func(r *roster) {
			add(r, 39, -presenceMemory, false)
			for id := range r.entries {
				r.connected(id, true, epoch.Add(-presenceMemory))
			}
		}, 2 * time.Minute, 400 * time.Second, 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoster()
			tt.fill(r)
			if i, w, s := r.interval(epoch), r.window(epoch), r.spacing(epoch); i != tt.interval || w != tt.window || s != tt.spacing {
				t.Errorf("interval, window, spacing = %v, %v, %v, want %v, %v, %v", i, w, s, tt.interval, tt.window, tt.spacing)
			}
		})
	}
}

// A member that sees up to twice as many as this node, and so says seldom that it
// is up, counts as up all the time; also if the mesh has just shrunk to few.
func TestWindowAllowsForOtherIntervals(t *testing.T) {
	for here := 1; here <= maxRoster; here *= 2 {
		r := newRoster()
		for n := range here - 1 {
			r.announce(memberCalled(numbered(n), "m", epoch), nil, presence{Seq: 1}, []byte{1}, epoch)
		}
		there := min(max(presenceInterval, time.Duration(2*here)*presenceShare), presenceLongest)
		if latest := there * 5 / 4; r.window(epoch) <= latest { // with jitter
			t.Errorf("with %d members window = %v, want more than %v, when twice as many say that they are up", here, r.window(epoch), latest)
		}
	}
	if longest := presenceLongest * 10 / 3; presenceMemory <= longest {
		t.Errorf("presenceMemory = %v, want more than the longest window, %v", presenceMemory, longest)
	}
}

// numbered returns the ID of the nth of many members.
func numbered(n int) peer.ID {
	return peer.ID(binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// fullRoster has maxRoster members, each heard of a second after the one before.
func fullRoster() *roster {
	r := newRoster()
	for n := range maxRoster {
		now := epoch.Add(time.Duration(n) * time.Second)
		r.announce(memberCalled(numbered(n), fmt.Sprint("m", n), epoch), nil, presence{Seq: 1}, []byte{1}, now)
	}
	return r
}

func TestRosterMakesRoom(t *testing.T) {
	end := epoch.Add(maxRoster * time.Second)
	for _, tt := range []struct {
		name   string
		before func(r *roster)
		gone   []int // of three more members that are learned, who makes room
	}{
		{"those silent for longest go", func(*roster) {}, []int{0, 1, 2}},
		{"those connected stay", func(r *roster) {
			r.connected(numbered(0), true, epoch)
			r.connected(numbered(2), true, epoch)
		}, []int{1, 3, 4}},
		{"those heard of since stay", func(r *roster) {
			r.announce(memberCalled(numbered(1), "m1", epoch), nil, presence{Seq: 2}, []byte{1}, end)
		}, []int{0, 2, 3}},
		{"a member known before takes no room", func(r *roster) {
			r.learn(memberCalled(numbered(0), "m0", epoch.Add(time.Second)), nil, end)
		}, []int{0, 1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := fullRoster()
			tt.before(r)
			if len(r.entries) != maxRoster {
				t.Fatalf("before, the roster has %d members, want %d", len(r.entries), maxRoster)
			}
			for n := range 3 { // admitted in one go, with no time to be heard of
				r.learn(memberCalled(numbered(maxRoster+n), "new", epoch), nil, end)
			}
			if len(r.entries) != maxRoster {
				t.Errorf("the roster has %d members, want %d", len(r.entries), maxRoster)
			}
			var gone []int
			for n := range maxRoster + 3 {
				if r.entries[numbered(n)] == nil {
					gone = append(gone, n)
				}
			}
			if !slices.Equal(gone, tt.gone) {
				t.Errorf("gone are %v, want %v", gone, tt.gone)
			}
		})
	}
}

// Members that are connected are never forgotten: their number has another
// bound, that of connections.
func TestRosterFullOfConnectedMembers(t *testing.T) {
	r := fullRoster()
	for id := range r.entries {
		r.connected(id, true, epoch)
	}
	r.learn(memberCalled(numbered(maxRoster), "new", epoch), nil, epoch)
	if len(r.entries) != maxRoster+1 {
		t.Errorf("the roster has %d members, want %d", len(r.entries), maxRoster+1)
	}
}
