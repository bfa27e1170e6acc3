package p2p

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multiaddr"
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
)

// rankDials orders the addresses of one peer: by path, then by transport, then
// IPv6 before IPv4. Addresses of equal rank are dialed at once.
func rankDials(addrs []multiaddr.Multiaddr) []network.AddrDelay {
	sorted := slices.Clone(addrs)
	slices.SortStableFunc(sorted, func(a, b multiaddr.Multiaddr) int { return dialRank(a).compare(dialRank(b)) })
	var delay time.Duration
	out := make([]network.AddrDelay, 0, len(sorted))
	for i, addr := range sorted {
		if i > 0 {
			delay += dialRank(sorted[i-1]).wait(dialRank(addr))
		}
		out = append(out, network.AddrDelay{Addr: addr, Delay: delay})
	}
	return out
}

type rank struct {
	path      Path
	transport int
	family    int
}

func dialRank(addr multiaddr.Multiaddr) rank {
	r := rank{path: pathTo(addr), transport: transportRank(addr)}
	if len(addr) > 0 && addr[0].Protocol().Code == multiaddr.P_IP4 {
		r.family = 1
	}
	return r
}

func (r rank) compare(o rank) int {
	for _, d := range []int{int(r.path) - int(o.path), r.transport - o.transport, r.family - o.family} {
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
	return 0
}
