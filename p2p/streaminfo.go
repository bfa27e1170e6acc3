package p2p

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// Why a stream that outlives its connections was lost. Reads and writes return them
// with [ErrReset].
var (
	// ErrTimeLimit says that there was no connection for as long as Config.StreamLimit,
	// of either end.
	ErrTimeLimit = durable.ErrTimeLimit

	// ErrUnknownStream says that the peer no longer knows the stream: it was started
	// anew.
	ErrUnknownStream = durable.ErrUnknown
)

// A StreamInfo tells of a stream, and of what it went through if it outlives its
// connections.
type StreamInfo struct {
	Peer     peer.ID
	Protocol string
	Path     Path      // the last, if there is none now
	Plain    bool      // it ends with its connection, and what follows is zero
	Dialed   bool      // by this node
	Since    time.Time // when it began
	Waiting  bool      // for a connection
	Moves    int       // to a better connection or one of its own, from one that worked
	Resumes  int       // on another connection, after one was lost
	Stalls   int       // how often the peer took more than 1.5 s to acknowledge anything
	Replayed uint64    // bytes sent again
	Held     int       // bytes of memory for what the peer has not acknowledged
}

// Info tells of the stream. It returns false once the stream is over, as far as this
// end knows.
func (s *Stream) Info() (StreamInfo, bool) {
	if d, ok := s.raw.(*durableStream); ok {
		return d.info()
	}
	return StreamInfo{Peer: s.info.remote, Protocol: s.info.protocol, Path: s.info.path, Plain: true}, !s.closed.Load()
}

func (d *durableStream) info() (StreamInfo, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return StreamInfo{
		Peer: d.peer, Protocol: d.proto, Path: d.path, Dialed: d.opener, Since: d.began, Waiting: !d.end.Attached(),
		Moves: d.moves, Resumes: d.resumes, Stalls: d.stalls, Replayed: d.end.Replayed(), Held: d.end.Held(),
	}, !d.gone
}

// countReplayedLocked adds to the node's total what the stream has sent again since it
// was last asked.
func (d *durableStream) countReplayedLocked() {
	now := d.end.Replayed()
	d.node.durables.replayed.Add(now - d.replayed)
	d.replayed = now
}

// Streams returns the durable streams that there are, the oldest first.
func (n *Node) Streams() []StreamInfo {
	all := n.durables.all()
	out := make([]StreamInfo, 0, len(all))
	for _, d := range all {
		if info, ok := d.info(); ok {
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b StreamInfo) int { return a.Since.Compare(b.Since) })
	return out
}

// StreamsMoved returns a channel that is closed the next time that a durable stream goes
// on over another connection, or is without one. Several changes at once may be one.
func (n *Node) StreamsMoved() <-chan struct{} { return n.durables.bell.next() }

// A bell wakes all who wait for it to ring.
type bell struct {
	mu sync.Mutex
	ch chan struct{} // nil if nobody waits
}

func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// StreamTotals sum up a node's durable streams.
type StreamTotals struct {
	// Of the streams that there are now: how many they are, how many of them wait for
	// a connection, and the bytes of memory for what peers have not acknowledged.
	Open, Waiting int
	Held          int64

	// Of all streams since the node began, ended ones among them; see [StreamInfo].
	Moves, Resumes, Stalls, Replayed uint64

	// Streams that were lost: for want of a connection within the time limit, and to
	// peers that did not know them any more, as after a restart.
	Expired, Unknown uint64
}

// StreamTotals sums up the node's durable streams.
func (n *Node) StreamTotals() StreamTotals {
	ds := n.durables
	t := StreamTotals{
		Moves: ds.moves.Load(), Resumes: ds.resumes.Load(), Stalls: ds.stalls.Load(), Replayed: ds.replayed.Load(),
		Expired: ds.expired.Load(), Unknown: ds.unknown.Load(),
	}
	for _, d := range ds.all() {
		info, ok := d.info()
		if !ok {
			continue
		}
		t.Open++
		t.Held += int64(info.Held)
		if info.Waiting {
			t.Waiting++
		}
	}
	return t
}
