package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// QUIC gets through NATs, but costs several times the CPU of TCP for each byte, and on a
// path that loses packets it gets a small part of what TCP gets with the system's
// congestion control. So where much goes to a peer over QUIC a connection by TCP is made
// beside it. New streams take that, see better.

const (
	// muchInAll is what has to go to a peer or come from it before TCP is tried.
	muchInAll = 1 << 20

	// cheaperEvery is how often it is tried while much goes over QUIC.
	cheaperEvery = 15 * time.Second

	// cheaperWait lets the end that made the connection by QUIC try first.
	cheaperWait = 2 * time.Second
)

// cheaperLater has TCP tried if the best connection to a peer is by QUIC.
func (n *Node) cheaperLater(id peer.ID) {
	n.start(func() {
		c := n.bestConn(id)
		if c == nil || !n.runsQUIC(id) || dialer(c) != n.id && !n.pause(cheaperWait) {
			return
		}
		if n.runsQUIC(id) {
			n.upgrades.cheaper(id)
		}
	})
}

// runsQUIC tells whether streams to a peer go by QUIC, without a relay.
func (n *Node) runsQUIC(id peer.ID) bool {
	c := n.bestConn(id)
	return c != nil && isQUIC(c.RemoteMultiaddr()) && pathTo(c.RemoteMultiaddr()) != PathRelay
}

// cheaper connects to a peer by TCP, beside the connection by QUIC that there is.
func (u *upgrades) cheaper(id peer.ID) {
	ctx, cancel := context.WithTimeout(u.node.life, upgradeTry)
	defer cancel()
	path := u.node.PathTo(id)
	for _, addr := range u.worthTrying(u.node.kit.host.Peerstore().Addrs(id)) {
		if isQUIC(addr) || pathTo(addr) != path || !u.node.runsQUIC(id) {
			continue
		}
		u.dial(ctx, addr, id)
	}
}
