package p2p

import (
	"slices"
	"testing"
)

// A node that meets many on its machine keeps connections to some, and to those
// with whom it has streams. The others are not gone.
func TestTrim(t *testing.T) {
	local := onlyLocal(t)
	hub := newTestNode(t, Config{Local: local})
	busy := newTestNode(t, Config{Local: local})
	waitLocal(t, busy, hub.ID())
	openStream(t, busy, hub)
	var others []*Node
	for range localHigh + 2 {
		n := newTestNode(t, Config{Local: local})
		waitLocal(t, n, hub.ID())
		if err := n.Connect(testContext(t), hub.ID()); err != nil {
			t.Fatal(err)
		}
		others = append(others, n)
	}
	var gone *Node
	until(t, "a connection is trimmed, and both ends know", func() bool {
		i := slices.IndexFunc(others, func(n *Node) bool { return n.Trimmed(hub.ID()) && hub.Trimmed(n.ID()) })
		if i >= 0 {
			gone = others[i]
		}
		return i >= 0
	})
	until(t, "enough are", func() bool { return len(hub.Connections()) <= localHigh })
	if got := len(hub.Connections()); got < localLow {
		t.Errorf("%d connections, want %d to %d", got, localLow, localHigh)
	}
	if hub.PathTo(busy.ID()) != PathUnix {
		t.Error("the connection with a stream is closed")
	}
	if err := gone.Connect(testContext(t), hub.ID()); err != nil {
		t.Fatal(err)
	}
	if gone.Trimmed(hub.ID()) {
		t.Error("a connection that was made again is trimmed")
	}
}

// Who closes a connection otherwise is gone.
func TestCloseIsNoTrim(t *testing.T) {
	a, b := newTestPair(t, onMachine)
	b.Close()
	for conns := range a.Watch(testContext(t)) {
		if len(conns) == 0 {
			break
		}
	}
	if a.Trimmed(b.ID()) {
		t.Error("a peer that closed is trimmed")
	}
}
