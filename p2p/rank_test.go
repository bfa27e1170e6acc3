package p2p

import (
	"encoding/json"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

const (
	relayAddr        = "/ip4/198.51.100.9/tcp/1/p2p/" + testID + "/p2p-circuit"
	strangeRelayAddr = "/ip4/9.9.9.9/tcp/1/p2p/" + testID + "/p2p-circuit"
)

func TestPathTo(t *testing.T) {
	for addr, want := range map[string]Path{
		"/ip4/127.0.0.1/tcp/1":          PathLAN,
		"/ip6/::1/tcp/1":                PathLAN,
		"/ip4/10.1.2.3/udp/1/quic-v1":   PathLAN,
		"/ip4/192.168.1.2/tcp/1/ws":     PathLAN,
		"/ip4/169.254.1.2/tcp/1":        PathLAN,
		"/ip6/fd00::1/tcp/1":            PathLAN,
		"/ip6/fe80::1/tcp/1":            PathLAN,
		"/ip4/8.8.8.8/tcp/1":            PathDirect,
		"/ip6/2606:4700::1/tcp/1":       PathDirect,
		"/dns4/example.com/tcp/443/wss": PathDirect,
		"/unix/run/p2pnode.sock":        PathUnix,
		relayAddr:                       PathRelay,
	} {
		if got := pathTo(multiaddr.StringCast(addr)); got != want {
			t.Errorf("pathTo(%s) = %v, want %v", addr, got, want)
		}
	}
	if got := pathTo(nil); got != PathUnknown {
		t.Errorf("pathTo(nil) = %v, want %v", got, PathUnknown)
	}
}

func TestPathText(t *testing.T) {
	for path, want := range map[Path]string{
		PathUnknown: "unknown", PathSelf: "self", PathUnix: "unix", PathLAN: "lan", PathDirect: "direct", PathRelay: "relay", 77: "unknown",
	} {
		if got := path.String(); got != want {
			t.Errorf("Path(%d).String() = %q, want %q", path, got, want)
		}
		if got, err := json.Marshal(path); err != nil || string(got) != `"`+want+`"` {
			t.Errorf("json.Marshal(Path(%d)) = %s, %v, want %q", path, got, err, want)
		}
	}
}

func TestRankDials(t *testing.T) {
	const ms = time.Millisecond
	type ranked struct {
		addr  string
		delay time.Duration
	}
	for _, tt := range []struct {
		name string
		want []ranked // in this order, from any other
	}{
		{"nothing", nil},
		{"one alone is dialed at once", []ranked{{relayAddr, 0}}},
		{"TCP, then QUIC, then WebSocket", []ranked{
			{"/ip4/8.8.8.8/tcp/1", 0}, {"/ip4/8.8.8.8/udp/1/quic-v1", 300 * ms}, {"/ip4/8.8.8.8/tcp/2/ws", 600 * ms},
			{"/ip4/8.8.8.8/tcp/443/tls/ws", 900 * ms},
		}},
		{"WebSocket over TLS by its other name", []ranked{{"/ip4/8.8.8.8/tcp/2/ws", 0}, {"/ip4/8.8.8.8/tcp/443/wss", 300 * ms}}},
		{"loopback last", []ranked{{"/ip4/10.0.0.1/tcp/1", 0}, {"/ip4/127.0.0.1/tcp/1", 20 * ms}}},
		{"IPv6, then IPv4", []ranked{{"/ip6/2606:4700::1/tcp/1", 0}, {"/ip4/8.8.8.8/tcp/1", 250 * ms}}},
		{"the same machine, the LAN, the Internet, a relay", []ranked{
			{"/unix/run/p2pnode.sock", 0}, {"/ip4/10.0.0.1/tcp/1", 50 * ms}, {"/ip4/8.8.8.8/tcp/1", 100 * ms}, {relayAddr, 250 * ms},
		}},
		{"a relay that this node has no connection to", []ranked{
			{"/ip4/8.8.8.8/tcp/1", 0}, {relayAddr, 250 * ms}, {strangeRelayAddr, 500 * ms},
		}},
		{"a relay, before the many that may not answer", []ranked{
			{"/ip4/10.0.0.1/tcp/1", 0}, {"/ip4/10.0.0.1/udp/1/quic-v1", 300 * ms}, {"/ip4/10.0.0.1/tcp/2/ws", 600 * ms},
			{"/ip4/8.8.8.8/tcp/1", 650 * ms}, {relayAddr, 250 * ms}, {"/ip4/10.0.0.1/tcp/443/tls/ws", 800 * ms},
		}},
		{"a path's transports before the next path", []ranked{
			{"/ip6/fd00::1/tcp/1", 0}, {"/ip4/10.0.0.1/tcp/1", 250 * ms}, {"/ip4/10.0.0.1/udp/1/quic-v1", 550 * ms},
			{"/ip4/8.8.8.8/tcp/1", 600 * ms}, {"/ip4/8.8.8.8/udp/1/quic-v1", 900 * ms},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var in []multiaddr.Multiaddr
			strange := func(a multiaddr.Multiaddr) bool { return strings.Contains(a.String(), "/ip4/9.9.9.9/") }
			for _, w := range tt.want {
				in = append(in, multiaddr.StringCast(w.addr))
			}
			for range 10 {
				rand.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
				got := rankDials(in, strange)
				if len(got) != len(tt.want) {
					t.Fatalf("rankDials(%v) = %v, want %v", in, got, tt.want)
				}
				for i, w := range tt.want {
					if got[i].Addr.String() != w.addr || got[i].Delay != w.delay {
						t.Fatalf("rankDials(%v) = %v, want %v", in, got, tt.want)
					}
				}
			}
		})
	}
}

func TestRankDialsOfEqualsOneByOne(t *testing.T) {
	for i, r := range rankDials(addrs("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1", "/ip4/192.168.0.1/tcp/1"), nil) {
		if want := time.Duration(i) * nextAddress; r.Delay != want {
			t.Errorf("rankDials has %v after %v, want %v", r.Addr, r.Delay, want)
		}
	}
}

// A fakeConn has an address and an age.
type fakeConn struct {
	network.Conn // nil: whatever else is called panics
	addr         multiaddr.Multiaddr
	opened       time.Time
	inbound      bool
}

// The peer has the smaller ID.
func (c fakeConn) LocalPeer() peer.ID  { return "b" }
func (c fakeConn) RemotePeer() peer.ID { return "a" }

func (c fakeConn) As(any) bool { return false }

func (c fakeConn) RemoteMultiaddr() multiaddr.Multiaddr { return c.addr }
func (c fakeConn) Stat() network.ConnStats {
	direction := network.DirOutbound
	if c.inbound {
		direction = network.DirInbound
	}
	return network.ConnStats{Stats: network.Stats{Opened: c.opened, Direction: direction}}
}

func TestBetter(t *testing.T) {
	now := time.Now()
	conn := func(addr string, age time.Duration) fakeConn {
		return fakeConn{addr: multiaddr.StringCast(addr), opened: now.Add(-age)}
	}
	byPeer := conn("/ip4/10.0.0.1/tcp/1", 0)
	byPeer.inbound = true
	// Each is better than all that follow.
	order := []fakeConn{
		conn("/unix/run/p2pnode.sock", 0),
		byPeer,
		conn("/ip4/10.0.0.1/tcp/1", time.Hour),
		conn("/ip4/10.0.0.2/tcp/1", time.Minute),
		conn("/ip4/10.0.0.1/udp/1/quic-v1", time.Hour),
		conn("/ip4/10.0.0.1/tcp/1/ws", time.Hour),
		conn("/ip4/10.0.0.1/tcp/443/tls/ws", 2*time.Hour),
		conn("/ip4/8.8.8.8/tcp/1", 0),
		conn("/ip4/8.8.8.8/udp/1/quic-v1", 2*time.Hour),
		conn(relayAddr, 3*time.Hour),
	}
	for i, a := range order {
		for j, b := range order {
			if got, want := better(a, b), i < j; got != want {
				t.Errorf("better(%v, %v) = %v, want %v", a.addr, b.addr, got, want)
			}
		}
	}
}
