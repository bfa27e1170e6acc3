package p2p

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Who is asked how this node looks from outside, and when.

// glancePatience bounds how long an offer waits for what peers see.
const glancePatience = time.Second

// glance has peers say how they see this node, and waits only until it is known from
// where its datagrams come.
func (n *Node) glance(ctx context.Context, fresh time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, glancePatience)
	defer cancel()
	witnesses := n.witnesses()
	if len(witnesses) == 0 || n.eye.knows(witnesses[0].RemotePeer(), fresh) {
		return
	}
	looked := make(chan struct{})
	n.start(func() {
		defer close(looked)
		n.lookAround(n.life, fresh)
	})
	for {
		changed := n.eye.sightsChanged()
		if n.eye.knows(witnesses[0].RemotePeer(), fresh) {
			return
		}
		select {
		case <-changed:
		case <-looked:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (e *eye) sightsChanged() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// lookAround asks some peers how they see this node, unless that is known from a
// moment ago.
func (n *Node) lookAround(ctx context.Context, fresh time.Duration) {
	var wg sync.WaitGroup
	asked := map[bool]int{}
	for _, c := range n.witnesses() {
		ip, _ := ipOf(c)
		if asked[ip.Is6()] == maxWitnesses || n.eye.knows(c.RemotePeer(), fresh) {
			asked[ip.Is6()]++
			continue
		}
		asked[ip.Is6()]++
		wg.Go(func() {
			if err := n.eye.lookOnce(ctx, c); err != nil && n.life.Err() == nil {
				n.log.Debug("see this node from outside", "peer", c.RemotePeer(), "err", err)
			}
		})
	}
	wg.Wait()
}

// maxWitnesses is how many peers are asked, of each family.
const maxWitnesses = 3

func (e *eye) knows(id peer.ID, fresh time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, sights := range e.sights {
		for _, s := range sights {
			if s.Peer == id && time.Since(s.At) < fresh {
				return true
			}
		}
	}
	return false
}

// witnesses returns connections to peers that see this node from outside: relays
// first.
func (n *Node) witnesses() (out []network.Conn) {
	out = n.relays.candidates()
	for _, c := range n.kit.swarm.Conns() {
		known := func(o network.Conn) bool { return o.RemotePeer() == c.RemotePeer() }
		if !c.IsClosed() && n.outside(c.RemoteMultiaddr()) && !slices.ContainsFunc(out, known) {
			out = append(out, c)
		}
	}
	return out
}

// hasWitness tells whether there is one that sees this node by IPv4 or IPv6.
func (n *Node) hasWitness(v6 bool) bool {
	return slices.ContainsFunc(n.witnesses(), func(c network.Conn) bool {
		ip, ok := ipOf(c)
		return ok && ip.Is6() == v6
	})
}
