package overlay

import (
	"context"
	"iter"
	"slices"

	"github.com/p2pnode/p2pnode/p2p"
)

// A StreamInfo tells of an open stream to a service of another member, or to one of
// this node's.
type StreamInfo struct {
	p2p.StreamInfo
	Member  string // the name of the one at the other end
	Service string
}

// Info tells of the stream. It returns false once the stream is over, as far as this
// end knows.
func (c *Conn) Info() (StreamInfo, bool) {
	info, ok := c.Stream.Info()
	info.Dialed, info.Since = c.dialed, c.since
	return StreamInfo{StreamInfo: info, Member: c.peer.Name, Service: c.service}, ok
}

// Streams tells of the streams to services that are open, the oldest first.
func (m *Mesh) Streams() []StreamInfo {
	m.mu.Lock()
	conns := sortedConns(m.conns)
	m.mu.Unlock()
	out := make([]StreamInfo, 0, len(conns))
	for _, c := range conns {
		if info, ok := c.Info(); ok {
			out = append(out, info)
		}
	}
	return out
}

// WatchStreams yields what Streams returns, and again after each time that one of them
// has gone on over another connection or is without one, until ctx ends or the mesh is
// closed. That a stream was opened or has ended is no reason to yield. A slow reader
// skips to the newest.
func (m *Mesh) WatchStreams(ctx context.Context) iter.Seq[[]StreamInfo] {
	return func(yield func([]StreamInfo) bool) {
		for {
			moved := m.node.StreamsMoved()
			if !yield(m.Streams()) {
				return
			}
			select {
			case <-moved:
			case <-ctx.Done():
				return
			case <-m.ctx.Done():
				return
			}
		}
	}
}

func sortedConns(conns map[*Conn]struct{}) []*Conn {
	out := make([]*Conn, 0, len(conns))
	for c := range conns {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *Conn) int { return a.since.Compare(b.since) })
	return out
}
