package p2p

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Where hundreds of nodes are on one machine, looking things up connects nearly all
// with all. On this machine a connection is had again in a millisecond, so those
// that carry no streams are not kept.
const (
	// localHigh is how many connections to peers on this machine a node has before
	// it closes some, down to localLow: what gossip needs, and some to ask.
	localHigh = 32
	localLow  = 24

	// trimAfter is how long a connection is left alone: a lookup takes that at most.
	trimAfter = 2 * time.Second
)

// trimLater has the connections on this machine looked at, once for all that come
// meanwhile.
func (n *Node) trimLater() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.trimming == nil && n.alive() == nil {
		n.trimming = time.AfterFunc(trimAfter, n.trim)
	}
}

func (n *Node) stopTrimming() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.trimming != nil {
		n.trimming.Stop()
	}
}

// trim closes connections on this machine that are too many: first those that
// libp2p has the least use for, of these the oldest.
func (n *Node) trim() {
	n.mu.Lock()
	n.trimming = nil
	n.mu.Unlock()
	if n.alive() != nil {
		return
	}
	var idle []network.Conn
	total, again := 0, false
	for _, c := range n.kit.swarm.Conns() {
		if unixConn(c) == nil {
			continue
		}
		total++
		switch {
		case n.streamsTo(c.RemotePeer()) > 0:
		case time.Since(c.Stat().Opened) < trimAfter:
			again = true
		default:
			idle = append(idle, c)
		}
	}
	if total <= localHigh {
		return
	}
	worth := func(c network.Conn) int {
		if info := n.kit.host.ConnManager().GetTagInfo(c.RemotePeer()); info != nil {
			return info.Value
		}
		return 0
	}
	slices.SortFunc(idle, func(a, b network.Conn) int {
		return cmp.Or(worth(a)-worth(b), a.Stat().Opened.Compare(b.Stat().Opened))
	})
	closing := idle[:min(len(idle), total-localLow)]
	for _, c := range closing {
		_ = c.CloseWithError(network.ConnGarbageCollected) // it may have closed by itself
	}
	if again && total-len(closing) > localHigh {
		n.trimLater()
	}
}

// Trimmed tells whether the last connection to a peer was one on this machine that
// either end closed since nothing went over it. The peer is not gone.
func (n *Node) Trimmed(id peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, trimmed := n.trimmed[id]
	return trimmed
}

// noteEnd takes in why a connection on this machine ended.
func (n *Node) noteEnd(id peer.ID, err error) {
	var code *network.ConnError
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.As(err, &code) && code.ErrorCode == network.ConnGarbageCollected {
		n.trimmed[id] = struct{}{}
	} else {
		delete(n.trimmed, id)
	}
}
