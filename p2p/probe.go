package p2p

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Where a better path is looked for is the peer's word, and it may name somebody who
// has nothing to do with it. So nobody of whom nothing is known but that word gets
// more than a few packets.

const (
	// probeWindow is over what time packets are counted.
	probeWindow = time.Minute

	// maxProbes is how many packets go to one address of which no connection came:
	// enough for two tries.
	maxProbes = 10

	// maxProbesOfPeer is how many packets one peer's word is good for: two tries at
	// all addresses that it may tell at once.
	maxProbesOfPeer = 2 * maxOffered * len(quicFlights)

	// maxProbed bounds what is counted. Beyond it nothing new is tried.
	maxProbed = 1 << 14
)

// quicFlights is when a QUIC handshake that nobody answers has sent two packets more.
// What comes later is not waited for.
var quicFlights = [...]time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, quicGivenUp}

// tcpFlights is when a connection attempt over TCP has sent a packet more (RFC 6298):
// one, and from narrowAfter on another one.
var tcpFlights = [...]time.Duration{0, time.Second, narrowAfter, narrowAfter + time.Second, 3 * time.Second}

const (
	quicGivenUp   = 1400 * time.Millisecond
	quicPerFlight = 2
)

// A prober counts packets that are sent on a peer's word.
type prober struct {
	mu    sync.Mutex
	spent map[any]*probeCount // by peer.ID, netip.Addr and netip.AddrPort
	swept time.Time           // when what is over was last dropped
	left  map[netip.Addr]time.Time
}

type probeCount struct {
	since time.Time
	sent  int
}

func newProber() *prober {
	return &prober{spent: map[any]*probeCount{}, left: map[netip.Addr]time.Time{}}
}

// take returns how many of the wanted packets may be sent to an address on a peer's
// word, and counts them. If a connection came of the IP address, known is true and
// only the port counts.
func (p *prober) take(id peer.ID, to netip.AddrPort, known bool, want int, now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spent) >= maxProbed && now.Sub(p.swept) >= probeWindow/60 {
		p.swept = now
		for key, c := range p.spent {
			if now.Sub(c.since) >= probeWindow {
				delete(p.spent, key)
			}
		}
	}
	want = min(want, maxProbes-p.countLocked(to, now), maxProbesOfPeer-p.countLocked(id, now))
	if !known {
		want = min(want, maxProbes-p.countLocked(to.Addr(), now))
	}
	if want <= 0 || len(p.spent) >= maxProbed {
		return 0
	}
	for _, key := range []any{id, to, to.Addr()} {
		if p.countLocked(key, now) == 0 {
			p.spent[key] = &probeCount{since: now}
		}
		p.spent[key].sent += want
	}
	return want
}

func (p *prober) countLocked(key any, now time.Time) int {
	if c := p.spent[key]; c != nil && now.Sub(c.since) < probeWindow {
		return c.sent
	}
	return 0
}

// giveBack takes back packets that were not sent.
func (p *prober) giveBack(id peer.ID, to netip.AddrPort, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range []any{id, to, to.Addr()} {
		if c := p.spent[key]; c != nil {
			c.sent = max(c.sent-n, 0)
		}
	}
}

// reached takes in that a peer was where it said.
func (p *prober) reached(to netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.spent, to)
	delete(p.spent, to.Addr())
}

// probeLeft is for how long the IP address of a connection that was lost is not taken
// for a bystander's: a router that has forgotten its connections makes it hard enough to
// get there again.
const probeLeft = 10 * time.Minute

// lost takes in that a connection to an IP address is gone.
func (p *prober) lost(ip netip.Addr, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.left) >= maxProbed {
		clear(p.left)
	}
	p.left[ip] = now
}

// wasAt tells whether there was a connection to an IP address lately.
func (p *prober) wasAt(ip netip.Addr, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.left[ip]
	return ok && now.Sub(at) < probeLeft
}

// isAt tells whether a peer is connected to from an IP address, or was a moment ago, so
// that it is no bystander's.
func (n *Node) isAt(ip netip.Addr) bool {
	if n.upgrades.probes.wasAt(ip, time.Now()) {
		return true
	}
	for _, c := range n.kit.swarm.Conns() {
		if at, ok := ipOf(c); ok && at == ip && pathTo(c.RemoteMultiaddr()) != PathRelay {
			return true
		}
	}
	return false
}

// probeTarget returns where packets to an address go: an IP address and a port of a
// single machine.
func probeTarget(a multiaddr.Multiaddr) (netip.AddrPort, bool) {
	at, err := manet.ToNetAddr(a)
	switch {
	case isQUIC(a):
		at, err = manet.ToNetAddr(a.Decapsulate(quicSuffix))
	case transportRank(a) == rankWebSocketTLS && len(a) > 2:
		at, err = manet.ToNetAddr(a[:2])
	}
	if err != nil {
		return netip.AddrPort{}, false
	}
	to, err := netip.ParseAddrPort(at.String())
	ip := to.Addr().Unmap()
	if err != nil || to.Port() == 0 || !ip.IsGlobalUnicast() && !ip.IsLoopback() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip, to.Port()), true
}

// flights returns how many packets a dial that nobody answers has sent after a time.
func flights(quic bool, after time.Duration) (sent int) {
	if quic {
		for _, at := range quicFlights[:len(quicFlights)-1] {
			if after >= at {
				sent += quicPerFlight
			}
		}
		return sent
	}
	for _, at := range tcpFlights {
		if after >= at {
			sent++
		}
	}
	return sent
}

// dialFor returns how long a dial may take that may send so many packets.
func dialFor(quic bool, packets int) time.Duration {
	if quic {
		return quicFlights[min(packets/quicPerFlight, len(quicFlights)-1)] * 19 / 20
	}
	return tcpFlights[min(packets, len(tcpFlights)-1)] * 19 / 20
}
