package p2p

import (
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

func TestProber(t *testing.T) {
	const victim, other = "203.0.113.7:1", "198.51.100.9:1"
	type step struct {
		peer  peer.ID
		to    string
		known bool
		want  int
		after time.Duration // since the step before
		got   int
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"as much as there is", []step{{"a", victim, false, 6, 0, 6}, {"a", victim, false, 6, 0, 4}, {"a", victim, false, 1, 0, 0}}},
		{"more than there is", []step{{"a", victim, false, 100, 0, 10}}},
		{"other ports of one address", []step{{"a", "203.0.113.7:1", false, 6, 0, 6}, {"a", "203.0.113.7:2", false, 6, 0, 4}, {"a", "203.0.113.7:3", false, 6, 0, 0}}},
		{"other peers' word", []step{{"a", victim, false, 10, 0, 10}, {"b", victim, false, 1, 0, 0}}},
		{"another address", []step{{"a", victim, false, 10, 0, 10}, {"a", other, false, 10, 0, 10}}},
		{"later", []step{{"a", victim, false, 10, 0, 10}, {"a", victim, false, 1, probeWindow - 1, 0}, {"a", victim, false, 3, 1, 3}}},
		{"where peers are, each port counts", []step{{"a", "203.0.113.7:1", true, 10, 0, 10}, {"a", "203.0.113.7:1", true, 1, 0, 0}, {"a", "203.0.113.7:2", true, 6, 0, 6}}},
		{"nothing is wanted", []step{{"a", victim, false, 0, 0, 0}, {"a", victim, false, -1, 0, 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, now := newProber(), time.Unix(1e9, 0)
			for i, s := range tt.steps {
				now = now.Add(s.after)
				if got := p.take(s.peer, netip.MustParseAddrPort(s.to), s.known, s.want, now); got != s.got {
					t.Errorf("step %d: take(%s, %s, %v, %d) = %d, want %d", i+1, s.peer, s.to, s.known, s.want, got, s.got)
				}
			}
		})
	}
}

// One peer's word is good for so much in all, however many addresses it names.
func TestProberBoundsAPeer(t *testing.T) {
	p, now, sent := newProber(), time.Unix(1e9, 0), 0
	ip := netip.MustParseAddr("203.0.113.0")
	for range 1000 {
		sent += p.take("liar", netip.AddrPortFrom(ip, 1), false, maxProbes, now)
		ip = ip.Next()
	}
	if sent != maxProbesOfPeer {
		t.Errorf("%d packets go to 1000 addresses on one peer's word, want %d", sent, maxProbesOfPeer)
	}
	if got := p.take("b", netip.AddrPortFrom(ip, 1), false, 1, now); got != 1 {
		t.Errorf("take on another's word = %d, want 1", got)
	}
}

func TestProberBoundsItself(t *testing.T) {
	p, now := newProber(), time.Unix(1e9, 0)
	ip, id := netip.MustParseAddr("2001:db8::"), 0
	for range 2 * maxProbed {
		p.take(peer.ID(rune(id)), netip.AddrPortFrom(ip, 1), false, 1, now)
		ip = ip.Next()
		id++
	}
	if got := len(p.spent); got > maxProbed+3 {
		t.Errorf("%d counts are kept, want about %d", got, maxProbed)
	}
	if got := p.take("new", netip.AddrPortFrom(ip, 1), false, 1, now); got != 0 {
		t.Errorf("take when no more can be counted = %d, want 0", got)
	}
	if got := p.take("new", netip.AddrPortFrom(ip, 1), false, 1, now.Add(probeWindow)); got != 1 {
		t.Errorf("take later = %d, want 1", got)
	}
}

func TestProberGivesBack(t *testing.T) {
	p, now, to := newProber(), time.Unix(1e9, 0), netip.MustParseAddrPort("203.0.113.7:1")
	p.take("a", to, false, 8, now)
	p.giveBack("a", to, 6)
	if got := p.take("a", to, false, 100, now); got != 8 {
		t.Errorf("take after 2 of 10 were sent = %d, want 8", got)
	}
	p.reached(to)
	if got := p.take("a", to, false, 100, now); got != 10 {
		t.Errorf("take where the peer was = %d, want 10", got)
	}
}

func TestProbeTarget(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/203.0.113.7/tcp/4001":          "203.0.113.7:4001",
		"/ip4/203.0.113.7/udp/9/quic-v1":     "203.0.113.7:9",
		"/ip6/2001:db8::1/udp/9/quic-v1":     "[2001:db8::1]:9",
		"/ip6/::ffff:203.0.113.7/tcp/4001":   "",
		"/ip4/127.0.0.1/tcp/1":               "127.0.0.1:1",
		"/ip4/10.0.0.1/tcp/1":                "10.0.0.1:1",
		"/ip4/203.0.113.7/tcp/0":             "",
		"/ip4/0.0.0.0/tcp/1":                 "",
		"/ip6/::/udp/1/quic-v1":              "",
		"/ip4/255.255.255.255/udp/1/quic-v1": "",
		"/ip4/224.0.0.251/udp/5353/quic-v1":  "",
		"/ip6/ff02::fb/udp/5353/quic-v1":     "",
		"/ip6/fe80::1/tcp/1":                 "",
		"/dns4/example.com/tcp/4001":         "",
		"/dns4/example.com/tcp/443/wss":      "",
		"/ip4/203.0.113.7/tcp/443/wss":       "203.0.113.7:443",
		"/ip6/2606:4700::1/tcp/443/tls/ws":   "[2606:4700::1]:443",
		"/ip4/0.0.0.0/tcp/443/tls/ws":        "",
		"/wss":                               "",
		"/unix/run/p2pnode.sock":             "",
		"/ip4/203.0.113.7":                   "",
		"/memory/1":                          "",
	} {
		got, ok := probeTarget(multiaddr.StringCast(addr))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("probeTarget(%s) = %v, %v, want %q", addr, got, ok, want)
		}
	}
}

// A dial that may send so many packets ends before it sends more.
func TestDialFor(t *testing.T) {
	for _, quic := range []bool{true, false} {
		for packets := range maxProbes + 1 {
			d := dialFor(quic, packets)
			if d > 0 && flights(quic, d) > packets {
				t.Errorf("dialFor(%v, %d) = %v, in which %d are sent", quic, packets, d, flights(quic, d))
			}
			if d == 0 && packets >= quicPerFlight {
				t.Errorf("dialFor(%v, %d) = 0, want some time", quic, packets)
			}
		}
	}
}

// Where a connection was lost a moment ago there is no bystander.
func TestProberRemembersPeers(t *testing.T) {
	p, now := newProber(), time.Unix(1e9, 0)
	ip := netip.MustParseAddr("203.0.113.7")
	p.lost(ip, now)
	for _, tt := range []struct {
		name  string
		ip    netip.Addr
		after time.Duration
		want  bool
	}{
		{"at once", ip, 0, true},
		{"while it is remembered", ip, probeLeft - 1, true},
		{"later", ip, probeLeft, false},
		{"another address", ip.Next(), 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := p.wasAt(tt.ip, now.Add(tt.after)); got != tt.want {
				t.Errorf("wasAt = %v, want %v", got, tt.want)
			}
		})
	}
	for range 2 * maxProbed {
		ip = ip.Next()
		p.lost(ip, now)
	}
	if got := len(p.left); got > maxProbed {
		t.Errorf("%d addresses are remembered, want at most %d", got, maxProbed)
	}
}
