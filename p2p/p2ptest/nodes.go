package p2ptest

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/p2pnode/p2pnode/p2p"
)

// Patience is how long the functions of this package wait for what should
// happen at once. It passes only when a test fails.
const Patience = 30 * time.Second

// Context returns a ctx that ends with the test, or after [Patience].
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Node runs a node that is closed when the test ends. If c names no address to
// listen at, it listens on loopback, by TCP and QUIC.
func Node(t testing.TB, c p2p.Config) *p2p.Node {
	t.Helper()
	if len(c.Listen) == 0 {
		c.Listen = []multiaddr.Multiaddr{
			multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"),
			multiaddr.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"),
		}
	}
	n, err := p2p.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// New runs n nodes that admit everybody and are not connected.
func New(t testing.TB, n int) []*p2p.Node {
	t.Helper()
	nodes := make([]*p2p.Node, n)
	for i := range nodes {
		nodes[i] = Node(t, p2p.Config{})
	}
	return nodes
}

// Connect makes sure that each two of the nodes have a connection, which both
// know of.
func Connect(t testing.TB, nodes ...*p2p.Node) {
	t.Helper()
	ctx := Context(t)
	for i, a := range nodes {
		for _, b := range nodes[i+1:] {
			if err := a.Connect(ctx, b.ID(), b.Addrs()...); err != nil {
				t.Fatal(err)
			}
			Until(t, b, "a connection that was made", func(conns []p2p.Connection) bool { return len(with(a.ID(), conns)) > 0 })
		}
	}
}

// Echo sends back what comes in on the streams that n accepts for a protocol,
// until the test ends.
func Echo(t testing.TB, n *p2p.Node, protocol string) {
	t.Helper()
	l, err := n.Listen(protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			s, err := l.AcceptStream()
			if err != nil {
				return
			}
			go func() {
				defer s.Close()
				_, _ = io.Copy(s, s) // whoever dialed sees what went wrong
			}()
		}
	}()
}

// Until waits until the connections of a node are as ok wants them. If they
// never are, the test fails with the words of what.
func Until(t testing.TB, n *p2p.Node, what string, ok func([]p2p.Connection) bool) {
	t.Helper()
	var last []p2p.Connection
	for last = range n.Watch(Context(t)) {
		if ok(last) {
			return
		}
	}
	t.Fatalf("connections of %v: %v, want %s", n.ID(), last, what)
}

// with returns the connections to one peer.
func with(id peer.ID, conns []p2p.Connection) []p2p.Connection {
	var out []p2p.Connection
	for _, c := range conns {
		if c.Peer == id {
			out = append(out, c)
		}
	}
	return out
}
