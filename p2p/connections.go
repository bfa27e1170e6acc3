package p2p

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// A Connection is a connection to a peer that both ends have admitted.
type Connection struct {
	Peer    peer.ID
	Path    Path
	Relay   peer.ID             // through which, if Path is a relay's
	Addr    multiaddr.Multiaddr // the peer's
	Inbound bool                // whether the peer made it
	Since   time.Time
	Streams int // open on it, the node's own business included
}

// Connections returns the connections there are, ordered by peer ID and then
// from best to worst.
func (n *Node) Connections() []Connection {
	conns := n.kit.swarm.Conns()
	slices.SortFunc(conns, func(a, b network.Conn) int {
		if c := strings.Compare(string(a.RemotePeer()), string(b.RemotePeer())); c != 0 {
			return c
		}
		if better(a, b) {
			return -1
		}
		return 1
	})
	out := make([]Connection, len(conns))
	for i, c := range conns {
		stat := c.Stat()
		out[i] = Connection{
			Peer: c.RemotePeer(), Path: pathTo(c.RemoteMultiaddr()), Addr: c.RemoteMultiaddr(),
			Inbound: dialer(c) == c.RemotePeer(), Since: stat.Opened, Streams: stat.NumStreams,
		}
		if u := unixConn(c); u != nil {
			out[i].Streams = u.NumStreams() // those past libp2p too
		}
		if out[i].Path == PathRelay {
			out[i].Relay = relayOf(c)
		}
	}
	return out
}

// PathTo returns the path that a stream to a peer would take now, or
// PathUnknown if there is no connection.
func (n *Node) PathTo(id peer.ID) Path {
	if id == n.id {
		return PathSelf
	}
	c := n.bestConn(id)
	if c == nil {
		return PathUnknown
	}
	return pathTo(c.RemoteMultiaddr())
}

// RelayTo returns the peer through which a stream to a peer would go now, or nothing
// if it would not go through a relay.
func (n *Node) RelayTo(id peer.ID) peer.ID {
	c := n.bestConn(id)
	if c == nil || pathTo(c.RemoteMultiaddr()) != PathRelay {
		return ""
	}
	return relayOf(c)
}

// Watch yields the node's connections as they are, then again after each
// change, until ctx ends or the node closes. A slow reader skips to the newest.
func (n *Node) Watch(ctx context.Context) iter.Seq[[]Connection] {
	return func(yield func([]Connection) bool) {
		for {
			changed := n.connsChanged()
			if !yield(n.Connections()) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-n.life.Done():
				return
			}
		}
	}
}

// connsChanged returns a channel that is closed when connections change.
func (n *Node) connsChanged() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

func (n *Node) change() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// Disconnect closes all connections to a peer, and so all streams.
func (n *Node) Disconnect(id peer.ID) error {
	if err := n.alive(); err != nil {
		return err
	}
	conns := n.kit.swarm.ConnsToPeer(id)
	ended := n.durables.end(id, network.ErrReset)
	if n.durables.spares.giveUp(conns) || ended {
		n.durables.settle(conns)
	}
	n.singles.close(id)
	return n.kit.swarm.ClosePeer(id)
}

// holdTag keeps the connections that carry streams from being closed when
// there are too many.
const holdTag = "stream"

func (n *Node) streamOpened(id peer.ID, conn network.Conn) {
	n.streamsTotal.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.streams[id]++
	if conn != nil {
		n.streamsOn[conn]++
	}
	if n.streams[id] == 1 {
		n.kit.host.ConnManager().Protect(id, holdTag)
	}
}

func (n *Node) streamClosed(id peer.ID, conn network.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if conn != nil {
		if n.streamsOn[conn]--; n.streamsOn[conn] == 0 {
			delete(n.streamsOn, conn)
		}
	}
	n.streams[id]--
	if n.streams[id] == 0 {
		delete(n.streams, id)
		n.kit.host.ConnManager().Unprotect(id, holdTag)
	}
}
