package p2ptest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pnode/p2pnode/p2p"
)

// Cut breaks the connections that two nodes have with each other, and all
// streams on them, and waits until both know. Either may connect again at once;
// a [Wall] keeps them from it.
func Cut(t testing.TB, a, b *p2p.Node) {
	t.Helper()
	goneFromA, goneFromB := gone(a, b.ID()), gone(b, a.ID())
	if err := a.Disconnect(b.ID()); err != nil {
		t.Fatal(err)
	}
	Until(t, a, "those to be gone that were cut", goneFromA)
	Until(t, b, "those to be gone that were cut", goneFromB)
}

// gone tells of later connections of n whether those there are now with a peer
// are no more among them.
func gone(n *p2p.Node, id peer.ID) func([]p2p.Connection) bool {
	before := with(id, n.Connections())
	return func(now []p2p.Connection) bool {
		return !slices.ContainsFunc(with(id, now), func(c p2p.Connection) bool {
			return slices.ContainsFunc(before, func(b p2p.Connection) bool {
				return b.Since.Equal(c.Since) && b.Addr.Equal(c.Addr)
			})
		})
	}
}

// ErrWall is why a [Wall] refuses a peer.
var ErrWall = errors.New("behind a wall")

// A Wall is an Admission that refuses the peers behind it, whichever end dials,
// until they are let through again. The zero Wall has nobody behind it. Its
// methods may be called from several goroutines at once.
//
//	wall := &p2ptest.Wall{}
//	node := p2ptest.Node(t, p2p.Config{Admission: wall})
//	wall.Shut(other.ID())          // no new connection
//	p2ptest.Cut(t, node, other)    // and none from before
//	wall.Open(other.ID())
//
// The other end needs an Admission as well, as always: a zero Wall will do.
type Wall struct {
	// Admission decides on all others. If nil, they are admitted, and shown
	// nothing. It must not be changed while a node uses the Wall.
	Admission p2p.Admission

	mu   sync.Mutex
	shut map[peer.ID]bool
}

// Shut puts peers behind the wall. Connections there are stay; see [Cut].
func (w *Wall) Shut(ids ...peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut == nil {
		w.shut = map[peer.ID]bool{}
	}
	for _, id := range ids {
		w.shut[id] = true
	}
}

// Open lets peers through again.
func (w *Wall) Open(ids ...peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.shut, id)
	}
}

// Proof returns the Admission's.
func (w *Wall) Proof(remote peer.ID) []byte {
	if w.Admission == nil {
		return nil
	}
	return w.Admission.Proof(remote)
}

// Check refuses who is behind the wall with [ErrWall], and leaves the others
// to the Admission.
func (w *Wall) Check(remote peer.ID, proof []byte) error {
	w.mu.Lock()
	shut := w.shut[remote]
	w.mu.Unlock()
	if shut {
		return ErrWall
	}
	if w.Admission == nil {
		return nil
	}
	return w.Admission.Check(remote, proof)
}
