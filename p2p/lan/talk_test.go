package lan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// A simNode is a talk on a simulated link.
type simNode struct {
	*talk
	stats counters
	ip    netip.Addr
	found map[peer.ID]time.Time // first
	told  int                   // times
}

// A sim is a link with nodes on it, in simulated time.
type sim struct {
	t       *testing.T
	now     time.Time
	nodes   []*simNode
	packets int
	lose    func() bool
}

func newSim(t *testing.T) *sim {
	return &sim{t: t, now: time.Unix(1_800_000_000, 0), lose: func() bool { return false }}
}

const simIndex = 7

func (s *sim) add(group string) *simNode {
	s.t.Helper()
	boxes, err := newBoxes([]byte(group))
	if err != nil {
		s.t.Fatal(err)
	}
	ip := netip.AddrFrom4([4]byte{10, 0, byte(len(s.nodes) >> 8), byte(len(s.nodes))})
	n := &simNode{ip: ip, found: map[peer.ID]time.Time{}}
	addrs := parseAddrs(fmt.Sprintf("/ip4/%v/tcp/4001", ip))
	n.talk = &talk{
		hearing:  hearing{boxes: boxes, self: newPeer(s.t), all: map[place]*heard{}, stats: &n.stats},
		instance: newInstance(),
		addrs:    func() []multiaddr.Multiaddr { return addrs },
	}
	s.nodes = append(s.nodes, n)
	n.restart([]link{n.on()}, s.now)
	return n
}

func (n *simNode) on() link {
	return link{index: simIndex, name: "sim", prefixes: []netip.Prefix{netip.PrefixFrom(n.ip, 16)}}
}

// send has all on the link receive what a node says.
func (s *sim) send(from *simNode, all []outgoing) {
	for _, o := range all {
		s.packets++
		for _, n := range s.nodes {
			if n == from || s.lose() {
				continue
			}
			for _, info := range n.receive(packet{simIndex, from.ip, o.data}, s.now) {
				n.told++
				if n.found[info.ID].IsZero() {
					n.found[info.ID] = s.now
				}
			}
		}
	}
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	for end := s.now.Add(d); ; {
		var first *simNode
		for _, n := range s.nodes {
			if next := n.next(); !next.IsZero() && (first == nil || next.Before(first.next())) {
				first = n
			}
		}
		if first == nil || first.next().After(end) {
			s.now = end
			return
		}
		if next := first.next(); next.After(s.now) {
			s.now = next
		}
		s.send(first, first.tick(s.now))
	}
}

func (s *sim) wantAllFound(group []*simNode, among []*simNode) {
	s.t.Helper()
	for _, a := range group {
		for _, b := range among {
			if a != b && a.found[b.self].IsZero() {
				s.t.Fatalf("after %d packets, %v has not found %v", s.packets, a.ip, b.ip)
			}
		}
	}
}

func TestNewcomerIsFoundWithinASecond(t *testing.T) {
	s := newSim(t)
	for range 20 {
		s.add("group")
		s.run(900 * time.Millisecond)
		s.wantAllFound(s.nodes, s.nodes)
	}
}

func TestLossIsMended(t *testing.T) {
	s := newSim(t)
	r := rand.New(rand.NewPCG(1, 2))
	s.lose = func() bool { return r.IntN(3) == 0 }
	for range 10 {
		s.add("group")
	}
	s.run(20 * time.Minute)
	s.wantAllFound(s.nodes, s.nodes)
}

func TestQuietNetworkIsQuiet(t *testing.T) {
	const nodes, hour = 80, time.Hour
	s := newSim(t)
	for range nodes {
		s.add("group")
		s.run(50 * time.Millisecond)
	}
	s.run(2 * time.Minute)
	s.wantAllFound(s.nodes, s.nodes)
	start, told := s.packets, 0
	for _, n := range s.nodes {
		told -= n.told
	}
	s.packets = 0
	s.run(hour)
	for _, n := range s.nodes {
		told += n.told
	}
	t.Logf("%d nodes: %d packets at first, %d in an hour after it", nodes, start, s.packets)
	// One asks each minute, in 3 packets, and each answers each 10 minutes or so.
	if most := 2 * (60*3 + nodes*6); s.packets > most {
		t.Errorf("%d packets in an hour, want at most %d", s.packets, most)
	}
	if told != 0 {
		t.Errorf("the user was told %d times of what is not new", told)
	}
	s.wantAllKnown()
}

// wantAllKnown checks that nobody was forgotten.
func (s *sim) wantAllKnown() {
	s.t.Helper()
	for _, n := range s.nodes {
		if got := len(n.peers()); got != len(s.nodes)-1 {
			s.t.Errorf("%v knows %d, want %d", n.ip, got, len(s.nodes)-1)
		}
	}
}

func TestQuietNodeAloneSleeps(t *testing.T) {
	s := newSim(t)
	n := s.add("group")
	s.run(time.Minute)
	for range 10 {
		if sleep := n.next().Sub(s.now); sleep > 0 {
			s.run(sleep)
		}
		if sleep := n.next().Sub(s.now); sleep < askRarely {
			t.Errorf("it sleeps for %v, want at least %v", sleep, askRarely)
		}
	}
}

func TestGroupsIgnoreEachOther(t *testing.T) {
	s := newSim(t)
	var reds, blues []*simNode
	for range 5 {
		reds, blues = append(reds, s.add("red")), append(blues, s.add("blue"))
	}
	s.run(time.Minute)
	s.wantAllFound(reds, reds)
	s.wantAllFound(blues, blues)
	for _, r := range reds {
		if len(r.found) != 4 || r.stats.foreign.Load() != 5 {
			t.Errorf("found %d and saw %d of others, want 4 and 5", len(r.found), r.stats.foreign.Load())
		}
	}
}

func TestGoodbyeIsFinal(t *testing.T) {
	s := newSim(t)
	a, b := s.add("group"), s.add("group")
	s.run(time.Second)
	old := b.links[simIndex]
	again := pack(old, both, answer{b.instance, 60, old.box})
	s.send(b, b.leave(s.now))
	if got := a.peers(); len(got) != 0 {
		t.Errorf("peers after the goodbye = %v, want none", got)
	}
	told := a.told
	s.send(b, again) // as anyone could who had heard it
	if got := a.peers(); len(got) != 0 || a.told != told {
		t.Errorf("peers after an older box = %v, want none, and none told", got)
	}
}

func TestForgedGoodbyeIsIgnored(t *testing.T) {
	s := newSim(t)
	a, b, outsider := s.add("group"), s.add("group"), s.add("another")
	s.run(time.Second)
	forged := outsider.boxes.seal(b.instance, note{peer: b.self, number: 99}, s.now)
	l := outsider.links[simIndex]
	s.send(outsider, pack(l, both, answer{b.instance, 0, forged}))
	s.send(outsider, pack(l, both, answer{b.instance, 0, b.links[simIndex].box}))
	if got := a.peers(); len(got) != 1 {
		t.Errorf("peers after a forged goodbye = %v, want the one", got)
	}
}

func TestFloodIsBounded(t *testing.T) {
	s := newSim(t)
	a, b, outsider := s.add("group"), s.add("group"), s.add("another")
	s.run(time.Second)
	for range 10 * maxStrangers {
		outsider.instance, outsider.links[simIndex].box = newInstance(), nil
		s.send(outsider, outsider.say(outsider.links[simIndex], both, s.now))
	}
	if got, most := len(a.all), maxPeers+maxStrangers; got > most {
		t.Errorf("%d instances are remembered, want at most %d", got, most)
	}
	if got, most := a.stats.foreign.Load(), uint64(2*maxOpened); got > most {
		t.Errorf("%d boxes were opened, want at most %d", got, most)
	}
	if a.stats.dropped.Load() == 0 {
		t.Error("none were dropped, want most")
	}
	if got := a.peers(); len(got) != 1 || got[0].ID != b.self {
		t.Errorf("peers = %v, want %v", got, b.self)
	}
	// And so is what members say.
	for range 3 * maxPeers {
		s.now = s.now.Add(10 * time.Millisecond)
		b.instance, b.self, b.links[simIndex].box = newInstance(), newPeer(t), nil
		s.send(b, b.say(b.links[simIndex], both, s.now))
	}
	if got := len(a.peers()); got != maxPeers {
		t.Errorf("%d peers are remembered, want %d", got, maxPeers)
	}
}

func TestQuestionsOfOneAskerCostLittle(t *testing.T) {
	s := newSim(t)
	a := s.add("group")
	s.run(time.Minute)
	ask, err := packQuestion(nil, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	for end := s.now.Add(10 * time.Second); s.now.Before(end); s.now = s.now.Add(time.Millisecond) {
		a.receive(packet{simIndex, netip.MustParseAddr("10.0.9.9"), ask}, s.now)
		answers += len(a.tick(s.now))
	}
	if most := int(10*time.Second/answerPause) + 1; answers == 0 || answers > most {
		t.Errorf("%d answers to 10000 questions in 10 s, want at most %d", answers, most)
	}
}

func TestPacketsFromElsewhereAreIgnored(t *testing.T) {
	s := newSim(t)
	a, b := s.add("group"), s.add("group")
	said := b.say(b.links[simIndex], both, s.now)
	for _, p := range []packet{
		{simIndex, netip.MustParseAddr("11.0.0.1"), said[0].data},
		{simIndex + 1, b.ip, said[0].data},
		{0, netip.MustParseAddr("fe80::1%other"), said[0].data},
	} {
		if got := a.receive(p, s.now); len(got) != 0 {
			t.Errorf("receive from %v on %d = %v, want none", p.from, p.index, got)
		}
	}
	if got := a.receive(packet{0, b.ip, said[0].data}, s.now); len(got) != 1 {
		t.Errorf("receive from a neighbour = %v, want one", got)
	}
}

func TestRefreshTellsAgain(t *testing.T) {
	s := newSim(t)
	a := s.add("group")
	s.add("group")
	s.run(time.Minute)
	told := a.told
	a.restart([]link{a.on()}, s.now)
	s.run(time.Second)
	if a.told != told+1 || len(a.peers()) != 1 {
		t.Errorf("told %d times after Refresh, want once", a.told-told)
	}
	a.restart(nil, s.now)
	if got := a.peers(); len(got) != 0 || !a.next().IsZero() {
		t.Errorf("peers without a link = %v, want none; next = %v, want never", got, a.next())
	}
}

// What is asked on one link is no answer to what is on another.
func TestEachLinkIsAskedOnItsOwn(t *testing.T) {
	s := newSim(t)
	a, other := s.add("group"), s.add("group")
	second := a.on()
	second.index++
	a.restart([]link{a.on(), second}, s.now)
	for a.asked <= len(askSoon) {
		s.now = a.next()
		a.tick(s.now)
	}
	ask, err := packQuestion(nil, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	a.receive(packet{simIndex, other.ip, ask}, s.now)
	s.now = s.now.Add(time.Second)
	a.tick(s.now) // the answer
	s.now = a.next()
	var asked []int
	for _, o := range a.tick(s.now) {
		if m, ok := parse(o.data); ok && m.question {
			asked = append(asked, o.link.index)
		}
	}
	if len(asked) != 1 || asked[0] != second.index {
		t.Errorf("it asks on %v, want on %d alone", asked, second.index)
	}
}
