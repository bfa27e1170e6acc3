package p2p

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// One try to find a better path, in which both ends are at the same time.

// staleTo returns the connections to a peer that are better than one through a relay,
// and of which the peer, since it looks for one, does not know any more. What an
// exchange before this one has brought is none of them.
func (u *upgrades) staleTo(id peer.ID) (out []network.Conn) {
	for _, c := range u.node.kit.swarm.ConnsToPeer(id) {
		if !c.IsClosed() && unixConn(c) == nil && pathTo(c.RemoteMultiaddr()) < PathRelay && time.Since(c.Stat().Opened) > upgradeTry {
			out = append(out, c)
		}
	}
	return out
}

// improved tells whether there is a connection to a peer that is better than one through
// a relay, and none of those that are stale, or none at all any more.
func (u *upgrades) improved(id peer.ID, stale []network.Conn) bool {
	all := u.node.kit.swarm.ConnsToPeer(id)
	for _, c := range all {
		if !c.IsClosed() && pathTo(c.RemoteMultiaddr()) < PathRelay && !slices.Contains(stale, c) {
			return true
		}
	}
	return len(all) == 0
}

// attempt tries all of a peer's addresses at the same time as the peer tries this
// node's, until there is a connection that is better than one through a relay, besides
// those that are stale.
func (u *upgrades) attempt(ctx context.Context, id peer.ID, here, there offer, client bool, fresh *freshPort, stale []network.Conn) {
	if u.improved(id, stale) {
		return
	}
	var checked sync.WaitGroup
	for _, c := range stale {
		checked.Go(func() { _ = u.node.check(u.node.life, c) }) // it is closed, and that is told
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeTry)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	addrs, near := u.worthTrying(there.addrs), u.behindOneRouter(there)
	for i, addr := range addrs {
		hopeless := u.hopeless(here, there, addr)
		may := u.take(id, addr, u.share(id, addr, addrs, hopeless, !client))
		delay := time.Duration(i) * tryStagger
		if !client {
			delay += followerWait
		}
		if !isQUIC(addr) && u.node.outside(addr) || near && pathTo(addr) == PathLAN {
			u.node.start(func() { u.dialAnyway(addr, id, delay, may) })
			continue
		}
		wg.Go(func() {
			switch punched := isQUIC(addr) && u.node.outside(addr) && !hopeless; {
			// Both at this very moment: what comes to a router before anything has
			// gone out may take the port that is about to be used.
			case punched && client:
				u.dialFrom(ctx, fresh, addr, id, may)
			case punched:
				u.punch(ctx, fresh, addr, id, may)
			case sleep(ctx, delay):
				u.dialFrom(ctx, nil, addr, id, may)
			default:
				u.giveBack(id, addr, may)
			}
		})
	}
	for {
		changed := u.node.connsChanged()
		if u.improved(id, stale) {
			cancel()
			u.node.start(func() {
				checked.Wait()
				u.leaveRelay(id)
			})
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// hopeless tells whether no hole can be punched to an address of QUIC: a connection comes
// about only if a router has the port mapped. That is so as well where peers were asked and
// none has seen a datagram of this node.
func (u *upgrades) hopeless(here, there offer, addr multiaddr.Multiaddr) bool {
	to, ok := probeTarget(addr)
	if !ok || !isQUIC(addr) || !u.node.outside(addr) {
		return false
	}
	i := map[bool]int{true: 1}[to.Addr().Is6()]
	return punchable(here.nat[i], there.nat[i]) == No || here.nat[i].UDP == Unknown && u.node.hasWitness(to.Addr().Is6())
}

// behindOneRouter tells whether both ends come out at the same IP address.
func (u *upgrades) behindOneRouter(there offer) bool {
	return slices.ContainsFunc(there.addrs, func(a multiaddr.Multiaddr) bool {
		to, ok := probeTarget(a)
		return ok && u.node.outside(a) && u.node.eye.nat(to.Addr().Is6()).External.Addr() == to.Addr()
	})
}

// Shares are how many packets of a try go to an address that may be a bystander's: of
// maxProbes there has to be something for two more tries, and for others who are behind the
// same router.
const (
	shareOfQUIC     = 2 * quicPerFlight // enough where the round trip is at most shareNear
	shareOfPunch    = 3                 // to open the way
	shareOfHopeless = quicPerFlight     // to one of several ports that no hole can be punched to

	shareNear = 250 * time.Millisecond
)

// share returns how many packets of a try an address is worth, to dial it or to open the
// way for those that come from there.
func (u *upgrades) share(id peer.ID, addr multiaddr.Multiaddr, all []multiaddr.Multiaddr, hopeless, opens bool) int {
	quic := isQUIC(addr)
	want := flights(quic, upgradeTry-1)
	to, ok := probeTarget(addr)
	if !ok || !u.node.outside(addr) || u.node.isAt(to.Addr()) {
		return want
	}
	ports := 0
	for _, a := range all {
		if o, ok := probeTarget(a); ok && o.Addr() == to.Addr() {
			ports++
		}
	}
	switch {
	case !quic: // with the second attempt, by short segments
		return want
	case hopeless && ports > 1:
		return shareOfHopeless
	case opens && !hopeless:
		return shareOfPunch
	case hopeless || ports > 1 || u.node.RTT(id) < shareNear:
		return shareOfQUIC
	}
	return want
}

// take returns how many of the wanted packets may be sent to an address on a peer's word.
func (u *upgrades) take(id peer.ID, addr multiaddr.Multiaddr, want int) int {
	to, ok := probeTarget(addr)
	if !ok {
		return 0
	}
	return u.probes.take(id, to, u.node.isAt(to.Addr()), want, time.Now())
}

// giveBack takes back packets that were not sent.
func (u *upgrades) giveBack(id peer.ID, addr multiaddr.Multiaddr, n int) {
	if to, ok := probeTarget(addr); ok {
		u.probes.giveBack(id, to, n)
	}
}

// relayLeft is how long the connection through a relay is kept once there is a better one:
// the other end has to know of that, and what was about to be sent has to be.
const relayLeft = 500 * time.Millisecond

// leaveRelay closes connections to a peer through a relay that are not needed any more,
// so that nothing goes there that can go the better way. Streams keep theirs.
func (u *upgrades) leaveRelay(id peer.ID) {
	if u.node.pause(relayLeft) && u.node.PathTo(id) != PathRelay {
		u.node.closeWorse(id)
	}
}

const (
	// tryStagger is between the addresses of one peer: most of a host's are of no
	// use, and the useful ones come first.
	tryStagger = 5 * time.Millisecond

	// followerWait lets the end that leads connect first where both could.
	followerWait = 150 * time.Millisecond
)

// worthTrying returns addresses that this node can dial, the best first.
func (u *upgrades) worthTrying(addrs []multiaddr.Multiaddr) (out []multiaddr.Multiaddr) {
	own := u.node.directAddrs()
	for _, a := range rankDials(addrs, nil) {
		if to, ok := probeTarget(a.Addr); ok && isQUIC(a.Addr) && u.node.outside(a.Addr) && u.node.eye.nat(to.Addr().Is6()).UDP == No {
			continue // the packets that may go there are for TCP
		}
		if pathTo(a.Addr) == PathRelay || !u.beyondMachine(a.Addr) || slices.ContainsFunc(own, a.Addr.Equal) || u.node.kit.swarm.TransportForDialing(a.Addr) == nil {
			continue
		}
		switch transportRank(a.Addr) {
		case rankWebSocket, rankOther: // WebSocket without TLS is at the port of TCP
			continue
		}
		out = append(out, a.Addr)
	}
	return out
}

// dial connects to a peer beside the connection that there is.
func (u *upgrades) dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) {
	u.dialFrom(ctx, nil, addr, id, u.take(id, addr, flights(isQUIC(addr), upgradeTry-1)))
}

// dialAnyway connects to an address though another may have led to the peer by then. By
// TCP to where everybody can: who has been dialed so may relay to this node, and TCP costs
// less than QUIC. And on the local network: some routers lead back to it.
func (u *upgrades) dialAnyway(addr multiaddr.Multiaddr, id peer.ID, delay time.Duration, may int) {
	ctx, cancel := context.WithTimeout(u.node.life, upgradeTry)
	defer cancel()
	if !sleep(ctx, delay) {
		u.giveBack(id, addr, may)
		return
	}
	u.dialFrom(ctx, nil, addr, id, may)
}

// dialFrom is dial from a port for this try, if there is one, with no more packets than
// were taken for it.
func (u *upgrades) dialFrom(ctx context.Context, fresh *freshPort, addr multiaddr.Multiaddr, id peer.ID, may int) {
	to, ok := probeTarget(addr)
	t := u.node.kit.swarm.TransportForDialing(addr)
	if ok && fresh != nil && to.Addr().Is4() {
		t = &timedQUIC{fresh.transport, u.node.dials}
	}
	quic := isQUIC(addr)
	limit := dialFor(quic, may)
	if !ok || t == nil || limit == 0 {
		u.giveBack(id, addr, may)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	c, err := t.Dial(ctx, addr, id)
	if err != nil { // the dial log has it
		u.probes.giveBack(id, to, max(may-flights(quic, time.Since(began)), 0))
		return
	}
	u.probes.reached(to)
	if ctx.Err() != nil && u.node.PathTo(id) != PathRelay {
		_ = c.Close()
		return
	}
	u.node.kit.beside.offer(&dialedConn{c})
}

// ledBack tells whether a connection leads to the router in front of this node, and from
// there back to its own network.
func (n *Node) ledBack(c network.Conn) bool {
	ip, ok := ipOf(c)
	return ok && n.outside(c.RemoteMultiaddr()) && n.eye.nat(ip.Is6()).External.Addr() == ip && !n.isOwn(ip)
}

// nearer connects to a peer at addresses on the local network, beside the connection
// that there is across the Internet.
func (u *upgrades) nearer(p peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(u.node.life, upgradeTry)
	defer cancel()
	for _, addr := range u.worthTrying(p.Addrs) {
		if pathTo(addr) != PathLAN || ctx.Err() != nil || u.node.PathTo(p.ID) != PathDirect {
			continue
		}
		u.dial(ctx, addr, p.ID)
	}
}

// punchSends is when datagrams are sent that open the way for those of the peer: not
// more of them than may be sent to somebody who did not ask.
var punchSends = []time.Duration{0, 20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond, 350 * time.Millisecond, 800 * time.Millisecond}

// punch opens the way for a QUIC handshake that the peer begins, with no more datagrams
// than were taken for it.
func (u *upgrades) punch(ctx context.Context, fresh *freshPort, addr multiaddr.Multiaddr, id peer.ID, may int) {
	defer func() { u.giveBack(id, addr, may) }() // what is left of it
	to, ok := probeTarget(addr)
	if !ok {
		return
	}
	socket := u.node.eye.socket(to.Addr().Is6())
	if fresh != nil && to.Addr().Is4() {
		socket = fresh.socket
	}
	if socket == nil {
		return
	}
	began := time.Now()
	for _, at := range punchSends {
		if may == 0 || !sleep(ctx, time.Until(began.Add(at))) {
			return
		}
		may--
		if _, err := socket.WriteTo([]byte{sightMagic}, net.UDPAddrFromAddrPort(to)); err != nil {
			return
		}
	}
}
