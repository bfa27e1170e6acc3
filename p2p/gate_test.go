package p2p

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// newGatedNode runs a node whose gate is changed before it listens.
func newGatedNode(t testing.TB, c Config, change func(*gate)) *Node {
	t.Helper()
	c, err := c.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	n, err := newNode(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	change(n.gate)
	if err := n.listen(c); err != nil {
		t.Fatal(err)
	}
	return n
}

// A hostileGate does what it likes on the connections it has made.
type hostileGate struct {
	*gate
	act func(network.Conn)
}

func (g *hostileGate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	g.act(c)
	return false, 0
}

// attack connects to a node and runs act on the connection, in a goroutine
// that the test's end waits for; by then act has to have returned.
func attack(t testing.TB, at *Node, act func(network.Conn)) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Config{Key: key}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	priv, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hostile := &hostileGate{gate: newGate(nil, c.Logger)}
	kit, err := newHost(c, priv, hostile, newDialLog())
	if err != nil {
		t.Fatal(err)
	}
	hostile.act = func(c network.Conn) {
		raiseLimit(kit.resources, at.ID()) // it does not limit itself
		act(c)
	}
	kit.host.Start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = kit.host.Connect(context.Background(), peer.AddrInfo{ID: at.ID(), Addrs: at.Addrs()})
	}()
	t.Cleanup(func() {
		at.Close() // ends act, which waits for the node to hang up
		<-done
		kit.Close()
	})
}

// stalls are the ways not to go on with the exchange.
var stalls = []struct {
	name string
	send func(io.Writer)
}{
	{"nothing", nil},
	{"one byte", func(w io.Writer) { w.Write([]byte{admissionVersion}) }},
	{"half a proof", func(w io.Writer) { w.Write([]byte{admissionVersion, 0, 4, 'w', 'o'}) }},
}

// stall sends what send does, and then nothing until the node hangs up. It
// closes started once it has begun and ended when it is over.
func stall(t testing.TB, at *Node, send func(io.Writer)) (started, ended <-chan struct{}) {
	t.Helper()
	begin, end := make(chan struct{}), make(chan struct{})
	attack(t, at, func(c network.Conn) {
		defer close(end)
		close(begin)
		if send == nil {
			hangUp(c)
			return
		}
		s, err := firstStream(context.Background(), c, true)
		if err != nil {
			return
		}
		send(s)
		_, _ = io.Copy(io.Discard, s)
	})
	return begin, end
}

// hangUp waits until the other end of a connection hangs up.
func hangUp(c network.Conn) {
	s, err := firstStream(context.Background(), c, false)
	if err == nil {
		s.Close()
	}
}

func await(t testing.TB, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatalf("%s: not after %v", what, patience)
	}
}

func TestStalledPeerIsDropped(t *testing.T) {
	for _, over := range transports {
		for _, tt := range stalls {
			t.Run(over.name+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				n := newGatedNode(t, Config{Admission: secret("word"), Listen: addrs(over.listen)}, func(g *gate) {
					g.timeout = 50 * time.Millisecond
				})
				_, ended := stall(t, n, tt.send)
				await(t, "the node hangs up on a peer that stalls", ended)
				if c := n.Connections(); len(c) != 0 {
					t.Errorf("Connections() = %v, want none", c)
				}
			})
		}
	}
}

// Stalled peers keep nobody else out, nor the node from closing.
func TestStalledPeersBlockNobody(t *testing.T) {
	for _, over := range transports {
		t.Run(over.name, func(t *testing.T) {
			t.Parallel()
			n := newGatedNode(t, Config{Admission: secret("word"), Listen: addrs(over.listen)}, func(g *gate) {
				g.timeout = 10 * patience
			})
			var all []<-chan struct{}
			for i := range 9 {
				started, ended := stall(t, n, stalls[i%len(stalls)].send)
				await(t, "a peer begins to stall", started)
				all = append(all, ended)
			}
			member := newTestNode(t, Config{Admission: secret("word")})
			if err := member.Connect(testContext(t), n.ID(), n.Addrs()...); err != nil {
				t.Errorf("Connect of a member beside stalled peers = %v, want nil", err)
			}
			n.Close()
			for _, ended := range all {
				await(t, "Close ends an exchange", ended)
			}
		})
	}
}

// Who comes when too many stall is let in, and who has stalled the longest goes.
func TestTooManyStalledPeers(t *testing.T) {
	for _, over := range transports {
		t.Run(over.name, func(t *testing.T) {
			t.Parallel()
			const most = 3
			n := newGatedNode(t, Config{Admission: secret("word"), Listen: addrs(over.listen)}, func(g *gate) {
				g.timeout = 10 * patience
				g.turns.max, g.turns.maxEach = most, most
			})
			var all []<-chan struct{}
			for i := range most {
				started, ended := stall(t, n, stalls[1].send)
				await(t, "a peer begins to stall", started)
				until(t, "its turn is taken", func() bool { return n.gate.turns.count() == i+1 })
				all = append(all, ended)
			}
			member := newTestNode(t, Config{Admission: secret("word")})
			if err := member.Connect(testContext(t), n.ID(), n.Addrs()...); err != nil {
				t.Errorf("Connect while too many are being admitted = %v, want nil", err)
			}
			await(t, "the oldest has to go", all[0])
			for _, ended := range all[1:] {
				select {
				case <-ended:
					t.Error("a peer has to go that is not the oldest")
				default:
				}
			}
		})
	}
}

func TestTurns(t *testing.T) {
	a, b := addressOf(multiaddr.StringCast("/ip4/10.0.0.1/tcp/1")), addressOf(multiaddr.StringCast("/ip4/10.0.0.2/tcp/1"))
	for _, tt := range []struct {
		name string
		from []netip.Prefix // who takes turns, in order
		ends int            // which the last one ends, or -1
	}{
		{"one", []netip.Prefix{a}, -1},
		{"as many as an address may have", []netip.Prefix{a, a}, -1},
		{"one more of an address", []netip.Prefix{b, a, a, a}, 1},
		{"as many as there may be", []netip.Prefix{a, b, a}, -1},
		{"one more of all", []netip.Prefix{b, a, a, b}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			turns := turns{max: 3, maxEach: 2}
			ended := make(chan int, len(tt.from))
			var held []*turn
			for i, from := range tt.from {
				held = append(held, turns.take(from, func() { ended <- i }))
			}
			left := len(tt.from)
			if tt.ends >= 0 {
				if got := <-ended; got != tt.ends {
					t.Errorf("the turn that ends is %d, want %d", got, tt.ends)
				}
				left--
			}
			if got := turns.count(); got != left {
				t.Errorf("count() = %d, want %d", got, left)
			}
			for _, u := range held {
				turns.done(u)
				turns.done(u) // again, which does nothing
			}
			if got := turns.count(); got != 0 || len(ended) > 0 {
				t.Errorf("count() when all are done = %d, with %d more ended, want none", got, len(ended))
			}
		})
	}
}

func TestAddressOf(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/203.0.113.7/tcp/4001":                             "203.0.113.7/32",
		"/ip4/203.0.113.7/udp/9/quic-v1":                        "203.0.113.7/32",
		"/ip6/2001:db8:1:2ff:3::4/tcp/4001":                     "2001:db8:1:200::/56",
		"/ip6/::ffff:203.0.113.7/tcp/4001":                      "203.0.113.7/32",
		"/ip4/203.0.113.7/tcp/1/p2p/" + testID + "/p2p-circuit": "203.0.113.7/32",
		"/dns4/example.com/tcp/4001":                            "invalid Prefix",
		"/unix/run/p2pnode.sock":                                "invalid Prefix",
	} {
		if got := addressOf(multiaddr.StringCast(addr)).String(); got != want {
			t.Errorf("addressOf(%s) = %s, want %s", addr, got, want)
		}
	}
}

const testID = "12D3KooWNUQiBg8myCoZztsyUAv6UGroRpLrzwXcYb6Jb6NRdCqY"

// A peer that is still being admitted and opens more than a few streams, whose
// windows the node would have to hold, is dropped at once.
func TestStrangerWithManyStreams(t *testing.T) {
	for _, over := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"} {
		n := newGatedNode(t, Config{Admission: secret("word"), Listen: addrs(over)}, func(g *gate) {
			g.timeout, g.farewell = 10*patience, 10*patience
		})
		dropped := make(chan struct{})
		attack(t, n, func(c network.Conn) {
			defer close(dropped)
			for range 2 * maxStrangeMemory / firstWindow {
				s, err := firstStream(context.Background(), c, true)
				if err != nil {
					return
				}
				s.Write([]byte{admissionVersion})
			}
			hangUp(c)
		})
		await(t, "the node drops a stranger with many streams", dropped)
	}
}
