package p2p

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// twice has two nodes connected twice, the second time past libp2p, and returns both
// connections of the first node, the better one first.
func twice(t testing.TB) (a, b *Node, better, worse network.Conn) {
	t.Helper()
	a, b = newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	a.upgrades.dial(testContext(t), b.Addrs()[0], b.ID())
	until(t, "both ends have two connections", func() bool {
		return len(a.kit.swarm.ConnsToPeer(b.ID())) == 2 && len(b.kit.swarm.ConnsToPeer(a.ID())) == 2
	})
	better = a.bestConn(b.ID())
	for _, c := range a.kit.swarm.ConnsToPeer(b.ID()) {
		if c != better {
			worse = c
		}
	}
	return a, b, better, worse
}

// What is just looked at is used only if there is nothing else.
func TestSuspectedConnections(t *testing.T) {
	a, b, better, worse := twice(t)
	suspect := func(c network.Conn, by int) {
		a.durables.mu.Lock()
		defer a.durables.mu.Unlock()
		a.durables.suspect[c] += by
	}
	for _, tt := range []struct {
		name  string
		first func()
		want  network.Conn
	}{
		{"the better one is suspected", func() { suspect(better, 1) }, worse},
		{"both are", func() { suspect(worse, 1) }, better},
		{"the worse one is", func() { suspect(better, -1) }, better},
	} {
		tt.first()
		if got := a.bestConn(b.ID()); got != tt.want {
			t.Errorf("%s: the best is %v, want %v", tt.name, got.ID(), tt.want.ID())
		}
	}
	suspect(worse, -1)
	a.durables.inspect(better, checkPatience)
	until(t, "it has answered", func() bool { return !a.durables.suspected(better) })
	if better.IsClosed() {
		t.Error("a connection that answers was closed")
	}
}
