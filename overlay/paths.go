package overlay

import (
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
	more chan struct{} // has an element when there may be untold ones

	mu      sync.Mutex // guards the fields below
	changes []PathChange
	untold  int // at the end of changes
}

func newPathLog() *pathLog { return &pathLog{more: make(chan struct{}, 1)} }

// put takes in a change. It does not wait, as it is called on the way of a connection.
func (l *pathLog) put(c p2p.PathChange) {
	l.mu.Lock()
	l.changes = append(l.changes, PathChange{c, time.Now()})
	l.changes = l.changes[max(0, len(l.changes)-maxPathChanges):]
	l.untold = min(l.untold+1, len(l.changes))
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// next returns what was not returned before.
func (l *pathLog) next() []PathChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.changes[len(l.changes)-l.untold:])
	l.untold = 0
	return out
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

// runPaths logs each change of a path.
func (m *Mesh) runPaths() {
	for {
		select {
		case <-m.paths.more:
		case <-m.ctx.Done():
			return
		}
		for _, c := range m.paths.next() {
			args := []any{"member", m.nameOf(c.Peer), "from", c.From, "to", c.To, "why", c.Why}
			if c.Relay != "" {
				args = append(args, "relay", m.nameOf(c.Relay))
			}
			m.log.Info("path changed", args...)
		}
	}
}
