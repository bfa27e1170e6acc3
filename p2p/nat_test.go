package p2p

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// What honest peers say, and one that says what it likes.
var (
	outerA  = netip.MustParseAddrPort("203.0.113.7:4001")
	outerB  = netip.MustParseAddrPort("203.0.113.7:4002")
	outerC  = netip.MustParseAddrPort("203.0.113.7:4003")
	outerD  = netip.MustParseAddrPort("203.0.113.7:4004")
	elsehow = netip.MustParseAddrPort("198.51.100.9:53") // whom the liar would have flooded; it compares less
	own     = netip.MustParseAddrPort("192.0.2.5:4001")
)

func isOwnAddr(a netip.AddrPort) bool { return a.Addr() == own.Addr() }

func sightOf(id string, external, other netip.AddrPort) Sight {
	return Sight{Peer: peer.ID(id), External: external, Other: other}
}

var lie = Sight{Peer: "liar", External: elsehow, Other: elsehow, Heard: Yes, Unasked: Yes, TCP: Yes}

func TestJudgeNAT(t *testing.T) {
	none := netip.AddrPort{}
	for _, tt := range []struct {
		name     string
		sights   []Sight
		mapping  Mapping
		external netip.AddrPort
		udp      Verdict
	}{
		{"nobody", nil, MappingUnknown, none, Unknown},
		{"one who got nothing", []Sight{sightOf("a", none, none)}, MappingUnknown, none, No},
		{"one got nothing, another did", []Sight{sightOf("a", none, none), sightOf("b", outerA, outerA)}, MappingSame, outerA, Yes},
		{"one, by one port", []Sight{sightOf("a", outerA, none)}, MappingUnknown, outerA, Yes},
		{"one, the same by both", []Sight{sightOf("a", outerA, outerA)}, MappingSame, outerA, Yes},
		{"one, not the same by both", []Sight{sightOf("a", outerA, outerB)}, MappingDependent, outerA, Yes},
		{"one sees the node's own address", []Sight{sightOf("a", own, own)}, MappingNone, own, Yes},
		{"two agree", []Sight{sightOf("a", outerA, none), sightOf("b", outerA, none)}, MappingUnknown, outerA, Yes},
		{"two see other ports", []Sight{sightOf("a", outerB, none), sightOf("b", outerA, none)}, MappingDependent, outerA, Yes},
		{"three agree", []Sight{sightOf("a", outerA, outerA), sightOf("b", outerA, outerA), sightOf("c", outerA, outerA)}, MappingSame, outerA, Yes},
		{"three see other ports each", []Sight{sightOf("a", outerA, outerB), sightOf("b", outerC, outerB), sightOf("c", outerB, outerD)}, MappingDependent, outerA, Yes},
		{"a liar among three, the same ports", []Sight{lie, sightOf("b", outerA, outerA), sightOf("c", outerA, outerA)}, MappingSame, outerA, Yes},
		{"a liar among three, each another port", []Sight{lie, sightOf("b", outerA, outerB), sightOf("c", outerC, outerD)}, MappingDependent, outerA, Yes},
		{"a liar among three, no NAT", []Sight{lie, sightOf("b", own, own), sightOf("c", own, own)}, MappingNone, own, Yes},
		{"a liar among three about the port", []Sight{sightOf("a", outerA, outerB), sightOf("b", outerC, outerC), sightOf("c", outerC, outerC)}, MappingSame, outerC, Yes},
		{"a liar against one", []Sight{lie, sightOf("b", outerA, outerA)}, MappingUnknown, none, Yes},
		{"a liar against one, each another port", []Sight{lie, sightOf("b", outerA, outerB)}, MappingUnknown, none, Yes},
		{"a NAT of several addresses", []Sight{sightOf("a", outerA, outerB), sightOf("b", netip.MustParseAddrPort("203.0.113.8:1"), netip.MustParseAddrPort("203.0.113.8:2"))}, MappingDependent, none, Yes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := judgeNAT(tt.sights, isOwnAddr)
			if got.Mapping != tt.mapping || got.External != tt.external || got.UDP != tt.udp {
				t.Errorf("judgeNAT = mapping %v, external %v, UDP %v, want %v, %v, %v",
					got.Mapping, got.External, got.UDP, tt.mapping, tt.external, tt.udp)
			}
			if len(got.Seen) != len(tt.sights) {
				t.Errorf("judgeNAT keeps %d sights, want %d", len(got.Seen), len(tt.sights))
			}
		})
	}
}

// The order in which peers answered changes nothing.
func TestJudgeNATInAnyOrder(t *testing.T) {
	all := []Sight{lie, sightOf("b", outerA, outerB), sightOf("c", outerC, outerD), sightOf("d", outerB, outerA)}
	want := judgeNAT(all, isOwnAddr)
	for i := range all {
		turned := append(append([]Sight{}, all[i:]...), all[:i]...)
		if got := judgeNAT(turned, isOwnAddr); got.External != want.External || got.Mapping != want.Mapping {
			t.Errorf("judgeNAT of the same, turned by %d = %v, %v, want %v, %v", i, got.External, got.Mapping, want.External, want.Mapping)
		}
	}
}

func TestJudgeFiltering(t *testing.T) {
	for _, tt := range []struct {
		name           string
		heard, unasked []Verdict // of each peer
		want           Filtering
	}{
		{"nobody", nil, nil, FilteringUnknown},
		{"nothing was found out", []Verdict{Unknown}, []Verdict{Unknown}, FilteringUnknown},
		{"nothing came", []Verdict{No}, []Verdict{No}, FilteringPort},
		{"not heard, unasked not tried", []Verdict{No}, []Verdict{Unknown}, FilteringPort},
		{"heard from another port", []Verdict{Yes}, []Verdict{No}, FilteringAddress},
		{"heard, unasked not tried", []Verdict{Yes}, []Verdict{Unknown}, FilteringAddress},
		{"came unasked", []Verdict{Unknown}, []Verdict{Yes}, FilteringNone},
		{"lost from one, came from another", []Verdict{No, Yes}, []Verdict{No, No}, FilteringAddress},
		{"only unasked tried, and nothing came", []Verdict{Unknown}, []Verdict{No}, FilteringUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sights []Sight
			for i := range tt.heard {
				sights = append(sights, Sight{Heard: tt.heard[i], Unasked: tt.unasked[i]})
			}
			if got := judgeFiltering(sights); got != tt.want {
				t.Errorf("judgeFiltering = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBetter2(t *testing.T) {
	for _, tt := range []struct{ a, b, want Verdict }{
		{Unknown, Unknown, Unknown}, {Unknown, No, No}, {No, No, No}, {Unknown, Yes, Yes}, {No, Yes, Yes}, {Yes, Yes, Yes},
	} {
		if got := eitherVerdict(tt.a, tt.b); got != tt.want {
			t.Errorf("eitherVerdict(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
		if got := eitherVerdict(tt.b, tt.a); got != tt.want {
			t.Errorf("eitherVerdict(%v, %v) = %v, want %v", tt.b, tt.a, got, tt.want)
		}
	}
}

// Of all kinds with all kinds, both ways around.
func TestPunchable(t *testing.T) {
	kinds := []struct {
		name string
		nat  NAT
	}{
		{"none", NAT{MappingNone, FilteringNone, Yes, Yes, own, nil}},
		{"firewall", NAT{Mapping: MappingNone, Filtering: FilteringPort, UDP: Yes}},
		{"full cone", NAT{Mapping: MappingSame, Filtering: FilteringNone, UDP: Yes}},
		{"restricted", NAT{Mapping: MappingSame, Filtering: FilteringAddress, UDP: Yes}},
		{"port-restricted", NAT{Mapping: MappingSame, Filtering: FilteringPort, UDP: Yes}},
		{"filtering unknown", NAT{Mapping: MappingSame, UDP: Yes}},
		{"symmetric", NAT{Mapping: MappingDependent, Filtering: FilteringPort, UDP: Yes}},
		{"symmetric, open", NAT{Mapping: MappingDependent, Filtering: FilteringAddress, UDP: Yes}},
		{"mapping unknown", NAT{UDP: Yes}},
		{"UDP blocked", NAT{UDP: No}},
	}
	want := [][]Verdict{
		//        none fire full rest port filt symm open unkn blocked
		/* none */ {Yes, Yes, Yes, Yes, Yes, Yes, Yes, Yes, Unknown, No},
		/* fire */ {Yes, Yes, Yes, Yes, Yes, Yes, No, No, Unknown, No},
		/* full */ {Yes, Yes, Yes, Yes, Yes, Yes, Yes, Yes, Unknown, No},
		/* rest */ {Yes, Yes, Yes, Yes, Yes, Yes, Yes, Yes, Unknown, No},
		/* port */ {Yes, Yes, Yes, Yes, Yes, Yes, No, No, Unknown, No},
		/* filt */ {Yes, Yes, Yes, Yes, Yes, Yes, No, No, Unknown, No},
		/* symm */ {Yes, No, Yes, Yes, No, No, No, No, Unknown, No},
		/* open */ {Yes, No, Yes, Yes, No, No, No, No, Unknown, No},
		/* unkn */ {Unknown, Unknown, Unknown, Unknown, Unknown, Unknown, Unknown, Unknown, Unknown, No},
		/* bloc */ {No, No, No, No, No, No, No, No, No, No},
	}
	for i, a := range kinds {
		for j, b := range kinds {
			if got := punchable(a.nat, b.nat); got != want[i][j] {
				t.Errorf("punchable(%s, %s) = %v, want %v", a.name, b.name, got, want[i][j])
			}
			if want[i][j] != want[j][i] {
				t.Errorf("the table says %v of %s and %s, and %v the other way around", want[i][j], a.name, b.name, want[j][i])
			}
		}
	}
}

func TestAddSight(t *testing.T) {
	now := time.Unix(1e9, 0)
	at := func(id string, ago time.Duration) Sight { return Sight{Peer: peer.ID(id), At: now.Add(-ago)} }
	many := func(n int) (out []Sight) {
		for i := range n {
			out = append(out, at(fmt.Sprint(i), time.Duration(i+1)*time.Second))
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		before []Sight
		add    Sight
		want   string // the peers, in order
	}{
		{"the first", nil, at("a", 0), "a"},
		{"another", many(1), at("a", 0), "a0"},
		{"the same peer again", []Sight{at("a", time.Minute), at("b", time.Hour/60)}, at("a", 0), "ab"},
		{"one that holds no more", []Sight{at("b", sightHolds), at("c", sightHolds-1)}, at("a", 0), "ac"},
		{"one too many", many(maxSights), at("a", 0), "a0123456"},
		{"one that is older", many(2), at("a", 90*time.Second), "01a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for _, s := range addSight(tt.before, tt.add, now) {
				got += string(s.Peer)
			}
			if got != tt.want {
				t.Errorf("addSight = %q, want %q", got, tt.want)
			}
		})
	}
	if maxSights != 8 {
		t.Errorf("maxSights = %d, want 8", maxSights)
	}
}

// What a peer said is no more believed when it is old, also if nobody said anything
// since.
func TestSightsExpire(t *testing.T) {
	e := newEye(nil)
	e.node = &Node{life: t.Context()}
	e.node.around = newSurroundings(e.node)
	for ago, want := range map[time.Duration]netip.AddrPort{sightHolds - time.Minute: outerA, sightHolds + time.Second: {}} {
		s := sightOf("a", outerA, outerA)
		s.At = time.Now().Add(-ago)
		e.sights[false] = []Sight{s}
		if got := e.nat(false).External; got != want {
			t.Errorf("External %v after it was seen = %v, want %v", ago, got, want)
		}
	}
	e.forget()
	if got := e.nat(false); got.External.IsValid() || len(got.Seen) > 0 {
		t.Errorf("nat after forget = %+v, want nothing known", got)
	}
}

// One liar among three has no address of its choice told to others.
func TestLiarIsNotAdvertised(t *testing.T) {
	for name, honest := range map[string][]Sight{
		"the same ports":    {sightOf("b", outerA, outerA), sightOf("c", outerA, outerA)},
		"each another port": {sightOf("b", outerA, outerB), sightOf("c", outerC, outerD)},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t, Config{})
			n.eye.mu.Lock()
			for _, s := range append([]Sight{lie}, honest...) {
				s.At = time.Now()
				n.eye.sights[false] = append(n.eye.sights[false], s)
			}
			n.eye.mu.Unlock()
			for _, told := range append(n.Addrs(), n.directAddrs()...) {
				if told.Equal(quicAddr(elsehow)) {
					t.Errorf("the node tells others of %v, which one of three peers made up", told)
				}
			}
		})
	}
}
