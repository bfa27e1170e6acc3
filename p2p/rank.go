package p2p

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// How long an address waits for the better ones before it is tried as well.
const (
	// nextFamily is RFC 8305's connection attempt delay for the other family.
	nextFamily = 250 * time.Millisecond

	// nextTransport gives TCP three round trips of 100 ms, so that QUIC, which
	// costs more per byte, only wins where TCP is slow or blocked.
	nextTransport = 300 * time.Millisecond

	// nextPath lets a peer on the same network answer before it is dialed
	// across the Internet.
	nextPath = 50 * time.Millisecond

	// nextRelay is how long a relay waits for the peer itself to answer. Nobody waits
	// for a better path than there is: it is looked for afterwards.
	nextRelay = 250 * time.Millisecond

	// nextAddress is longer than a peer on the same network takes to answer and
	// prove itself, so that its many addresses don't make many connections.
	nextAddress = 20 * time.Millisecond
)

// rankDials orders the addresses of one peer: by path, then by transport, then
// IPv6 before IPv4, and loopback last, where somebody else may be. Addresses
// are waited for only as long as some dial is going on: swarm dials the next at
// once when all before it have failed.
func rankDials(addrs []multiaddr.Multiaddr) []network.AddrDelay {
	sorted := slices.Clone(addrs)
	slices.SortStableFunc(sorted, func(a, b multiaddr.Multiaddr) int { return dialRank(a).compare(dialRank(b)) })
	var delay time.Duration
	out := make([]network.AddrDelay, 0, len(sorted))
	for i, addr := range sorted {
		at, before := dialRank(addr), rank{}
		if i > 0 {
			before = dialRank(sorted[i-1])
			delay += before.wait(at)
		}
		if at.path == PathRelay && before.path != PathRelay && i > 0 {
			delay = nextRelay
		}
		out = append(out, network.AddrDelay{Addr: addr, Delay: delay})
	}
	return out
}

type rank struct {
	path      Path
	transport int
	family    int
	loopback  int
}

func dialRank(addr multiaddr.Multiaddr) rank {
	r := rank{path: pathTo(addr), transport: transportRank(addr)}
	if len(addr) > 0 && addr[0].Protocol().Code == multiaddr.P_IP4 {
		r.family = 1
	}
	if manet.IsIPLoopback(addr) {
		r.loopback = 1
	}
	return r
}

func (r rank) compare(o rank) int {
	for _, d := range []int{int(r.path) - int(o.path), r.transport - o.transport, r.family - o.family, r.loopback - o.loopback} {
		if d != 0 {
			return d
		}
	}
	return 0
}

// wait tells how much later next, which does not rank before r, is dialed.
func (r rank) wait(next rank) time.Duration {
	switch {
	case r.path != next.path:
		return nextPath
	case r.transport != next.transport:
		return nextTransport
	case r.family != next.family:
		return nextFamily
	}
	return nextAddress
}
