package p2p

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// goOut starts what a node does for itself and for others where there is a network:
// it relays, has others relay to it, looks at itself from outside, and looks for
// better paths.
func (n *Node) goOut(c Config) (err error) {
	if err := n.around.open(); err != nil {
		return err
	}
	if err := addCircuits(n.kit.host, n.kit.swarm, n.kit.upgrader, n.dials); err != nil {
		return err
	}
	if err := n.kit.swarm.AddListenAddr(besideAddr); err != nil {
		return err
	}
	if !c.Relay.Off {
		if n.carrier, err = newCarrier(n.kit.host, c.Relay); err != nil {
			return err
		}
	}
	if err := n.eye.open(); err != nil {
		return err
	}
	for proto, serve := range map[string]func(*Listener){sightProtocol: n.eye.serve, upgradeProtocol: n.upgrades.serve} {
		l, err := n.Listen(proto)
		if err != nil {
			return err
		}
		n.start(func() { serve(l) })
	}
	n.mapsPorts = !c.NoPortMapping
	n.lan = c.LAN
	if n.lan != nil && !n.lan.Hidden {
		n.lookNear()
	}
	n.start(n.runRelays)
	n.start(n.runSights)
	return nil
}

// lookNear looks for others on the local network. Where that can't be had there are
// other ways.
func (n *Node) lookNear() {
	if !slices.ContainsFunc(n.listenAddresses(), func(a multiaddr.Multiaddr) bool { return !manet.IsIPLoopback(a) }) {
		return // nobody could connect
	}
	if err := n.around.lookNear(n.lan.Secret); err != nil {
		n.log.Warn("nobody is found on the local network", "err", err)
	}
}

// listenAddresses returns where the node listens by the network, as it was told to.
func (n *Node) listenAddresses() []multiaddr.Multiaddr {
	return slices.DeleteFunc(withoutLocal(n.kit.swarm.ListenAddresses()), func(a multiaddr.Multiaddr) bool { return a.Equal(circuitAddr) })
}

// olderAfter is how much older a connection is than another that was not made at the
// same time.
const olderAfter = time.Second

// checkOlder looks whether the older connections to a peer still answer, when there is a
// new one: the peer may have lost them, or come from elsewhere.
func (n *Node) checkOlder(c network.Conn) {
	for _, o := range n.kit.swarm.ConnsToPeer(c.RemotePeer()) {
		if o != c && unixConn(o) == nil && time.Since(o.Stat().Opened) > olderAfter {
			n.durables.inspect(o, checkPatience)
		}
	}
}

// noteReach takes in that a connection has come, which tells whether others can
// reach this node.
func (n *Node) noteReach(c network.Conn) {
	if c.Stat().Direction != network.DirInbound || dialedBeside(c) || !n.outside(c.RemoteMultiaddr()) {
		return
	}
	if u, ok := n.Upgraded(c.RemotePeer()); ok && time.Since(u.At) < upgradeEvery || n.upgrades.busy(c.RemotePeer()) {
		return // this node may have opened the way for it
	}
	n.reachable.Store(true)
}

// tellAddrs makes of the addresses that the node listens at those that it tells
// others: it adds those through relays, and where datagrams come out of a NAT that
// lets in what comes.
func (n *Node) tellAddrs(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	if !n.networked || !n.around.known() {
		return slices.Clone(addrs)
	}
	out := append(n.around.resolve(n.listenAddresses()), n.around.mappedAddrs()...)
	for _, v6 := range []bool{false, true} {
		nat := n.eye.nat(v6)
		if nat.External.IsValid() && nat.Mapping == MappingSame && nat.Filtering == FilteringNone {
			out = append(out, quicAddr(nat.External))
		}
	}
	return append(out, n.relays.addrs()...)
}

// addrsChanged has peers told of the node's addresses anew.
func (n *Node) addrsChanged() {
	n.change()
	if e, err := n.kit.events.Emitter(new(event.EvtAutoRelayAddrsUpdated)); err == nil {
		_ = e.Emit(event.EvtAutoRelayAddrsUpdated{}) // its meaning to libp2p is to ask addrs again
		_ = e.Close()
	}
}

const (
	// sightFirst is how soon a node looks at itself after it has somebody to ask.
	sightFirst = 200 * time.Millisecond

	// sightEvery is how often it does so later.
	sightEvery = 5 * time.Minute
)

// runSights has peers say how they see this node, when they come and from time to
// time.
func (n *Node) runSights() {
	for n.life.Err() == nil {
		changed := n.connsChanged()
		if len(n.witnesses()) > 0 {
			before := n.eye.nat(false)
			n.lookAround(n.life, sightEvery*3/4)
			after := n.eye.nat(false)
			if after.Mapping >= MappingSame && n.mapsPorts {
				n.around.mapPorts()
			}
			if after.External != before.External || after.Filtering != before.Filtering {
				n.addrsChanged()
			}
		}
		select {
		case <-n.life.Done():
			return
		case <-time.After(sightEvery):
		case <-changed:
			if !n.pause(sightFirst) {
				return
			}
		}
	}
}

// pause waits for a time. It returns false if the node is closed.
func (n *Node) pause(d time.Duration) bool { return sleep(n.life, d) }

// sleep returns true after d, or false as soon as ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// signal wakes who waits on a channel that has room for one, if nobody has yet.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isDNS tells whether an address has a name in it.
func isDNS(a multiaddr.Multiaddr) bool {
	return slices.ContainsFunc(a, func(c multiaddr.Component) bool {
		switch c.Protocol().Code {
		case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6, multiaddr.P_DNSADDR:
			return true
		}
		return false
	})
}
