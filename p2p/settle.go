package p2p

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Two nodes that dial each other at the same time get two connections, each of
// which costs memory and keeps-alive for as long as it lives: in a mesh that
// starts, a third of all. So the worse ones are closed when the peer has no
// streams for a while. Both ends agree which they are, see better, and use them
// for nothing new.

// settleAfter is how long a second connection is left alone: more than a slow
// peer takes to hear of both.
const settleAfter = 5 * time.Second

// settleLater has a peer's connections looked at if there are several.
func (n *Node) settleLater(id peer.ID) {
	if len(n.kit.swarm.ConnsToPeer(id)) > 1 {
		n.start(func() { n.settle(id) })
	}
}

// settle waits until the peer has no streams, and then closes all connections
// to it but the best.
func (n *Node) settle(id peer.ID) {
	for {
		select {
		case <-n.life.Done():
			return
		case <-time.After(n.settleAfter):
		}
		if n.closeWorse(id) {
			return
		}
	}
}

// closeWorse closes the connections to a peer that nothing goes over, but for the best.
// It tells whether no other is left.
func (n *Node) closeWorse(id peer.ID) bool {
	conns := n.kit.swarm.ConnsToPeer(id)
	if len(conns) < 2 {
		return true
	}
	best, all := n.bestConn(id), true
	for _, c := range conns {
		if best == nil || c == best {
			continue
		}
		// What the one end does not use the other may.
		relayed := pathTo(c.RemoteMultiaddr()) == PathRelay && n.streamsOver(c) == 0
		if n.streamsTo(id) > 0 && !relayed {
			all = false
			continue
		}
		_ = c.Close() // it may have closed by itself
	}
	return all
}

// streamsOver returns how many streams go over a connection.
func (n *Node) streamsOver(c network.Conn) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.streamsOn[c]
}

func (n *Node) streamsTo(id peer.ID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.streams[id]
}

// dialer returns the end that made a connection.
func dialer(c network.Conn) peer.ID {
	if u := unixConn(c); u != nil && u.Dialed() { // libp2p was told that it came in
		return c.LocalPeer()
	}
	if c.Stat().Direction == network.DirInbound && !dialedBeside(c) {
		return c.RemotePeer()
	}
	return c.LocalPeer()
}
