package overlay

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
)

// A PathChange tells when streams to a member began to go another way, and why.
type PathChange struct {
	p2p.PathChange
	At time.Time
}

// maxPathChanges bounds those that are remembered, of all members together.
const maxPathChanges = 256

// A pathLog remembers the last changes of paths.
type pathLog struct {
	mu      sync.Mutex // guards the fields below
	changes []PathChange
	total   uint64        // that there ever were, the last of them in changes
	more    chan struct{} // closed when there is another
}

func newPathLog() *pathLog { return &pathLog{more: make(chan struct{})} }

// put takes in a change. It does not wait, as it is called on the way of a connection.
func (l *pathLog) put(c p2p.PathChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, PathChange{c, time.Now()})
	l.changes = l.changes[max(0, len(l.changes)-maxPathChanges):]
	l.total++
	close(l.more)
	l.more = make(chan struct{})
}

// after returns the changes behind the first n that are still remembered, how many there
// have been with them, and what is closed when there is another.
func (l *pathLog) after(n uint64) (changes []PathChange, total uint64, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	untold := min(l.total-n, uint64(len(l.changes)))
	return slices.Clone(l.changes[len(l.changes)-int(untold):]), l.total, l.more
}

// count returns how many changes there have been.
func (l *pathLog) count() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func (l *pathLog) of(id peer.ID) (out []PathChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.changes {
		if c.Peer == id {
			out = append(out, c)
		}
	}
	return out
}

// PathChanges returns when and why the path to a member changed, the last one last. It
// goes back some hundred changes, of all members together.
func (m *Mesh) PathChanges(id peer.ID) []PathChange { return m.paths.of(id) }

// WatchPaths yields the changes of paths from the call on, in order and some at a time,
// until ctx ends or the mesh is closed. A reader that is more than some hundred behind
// misses the oldest.
func (m *Mesh) WatchPaths(ctx context.Context) iter.Seq[[]PathChange] {
	return m.pathsAfter(ctx, m.paths.count())
}

// pathsAfter yields the changes behind the first n.
func (m *Mesh) pathsAfter(ctx context.Context, n uint64) iter.Seq[[]PathChange] {
	return func(yield func([]PathChange) bool) {
		for {
			changes, total, more := m.paths.after(n)
			n = total
			if len(changes) > 0 && !yield(changes) {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			case <-m.ctx.Done():
				return
			}
		}
	}
}

// runPaths logs each change of a path.
func (m *Mesh) runPaths() {
	for changes := range m.pathsAfter(m.ctx, 0) {
		for _, c := range changes {
			args := []any{"member", m.nameOf(c.Peer), "from", c.From, "to", c.To, "why", c.Why}
			if c.Relay != "" {
				args = append(args, "relay", m.nameOf(c.Relay))
			}
			m.log.Info("path changed", args...)
		}
	}
}
