package overlay

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// watchEntry waits until what a node holds of a member is as it should be.
func watchEntry(t testing.TB, m *Mesh, id peer.ID, what string, ok func(*entry) bool) {
	t.Helper()
	for range m.Watch(testContext(t)) {
		m.mu.Lock()
		e := m.roster.entries[id]
		is := e != nil && ok(e)
		m.mu.Unlock()
		if is {
			return
		}
	}
	t.Fatalf("%s: not after %v", what, patience)
}

// A node that goes says so, to those it has no connection to as well.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	for range 3 {
		nodes := newStar(t, 4)
		left := nodes[3]
		id := left.node.ID()
		for _, m := range nodes[:3] {
			watchEntry(t, m, id, "it says that it is up", func(e *entry) bool { return e.presence != nil })
		}
		left.Close()
		for _, m := range nodes[:3] {
			watchEntry(t, m, id, "it says that it is going", func(e *entry) bool { return e.left && !e.up(time.Now(), m.roster.window(time.Now())) })
		}
		for _, m := range nodes {
			m.Close()
		}
	}
}

// A node without members to tell does not wait to be heard.
func TestGoodbyeToNobody(t *testing.T) {
	t.Parallel()
	m := mustOpenAs(t, newFounder(t, rootOf(t, 1), seeded(2), "alice", time.Now()))
	began := time.Now()
	m.Close()
	if took := time.Since(began); took > presenceSettle {
		t.Errorf("Close took %v, want less than the %v that a goodbye may take", took, presenceSettle)
	}
}
