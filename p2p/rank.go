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

	// nextStranger is how much longer relays wait that this node has no connection to,
	// which may be gone, and further addresses of the peer itself.
	nextStranger = 250 * time.Millisecond

	// beforeRelays is how many addresses of a path may be dialed before relays are. One
	// that does not answer has one of the 8 turns that go-libp2p gives to the dials to a
	// peer until it times out: with 32 of another network relays had theirs after 5 s.
	beforeRelays = 3

	// nextAddress is longer than a peer on the same network takes to answer and
	// prove itself, so that its many addresses don't make many connections.
	nextAddress = 20 * time.Millisecond
)

// rankDials orders the addresses of one peer: by path, then by transport, then
// IPv6 before IPv4, and loopback last, where somebody else may be. Of each path a few are
// before the relays and the rest behind them, so that relays are not kept waiting; of the
// relays those are last that strange, which may be nil, tells of. Addresses are waited for
// only as long as some dial is going on: swarm dials the next at once when all before it
// have failed.
func rankDials(addrs []multiaddr.Multiaddr, strange func(multiaddr.Multiaddr) bool) []network.AddrDelay {
	type ranked struct {
		addr multiaddr.Multiaddr
		rank rank
	}
	sorted := make([]ranked, len(addrs))
	for i, a := range addrs {
		r := dialRank(a)
		if r.path == PathRelay && strange != nil && strange(a) {
			r.strange = 1
		}
		sorted[i] = ranked{a, r}
	}
	slices.SortStableFunc(sorted, func(a, b ranked) int { return a.rank.compare(b.rank) })
	var out, further []network.AddrDelay
	var delay, late time.Duration
	relays := len(sorted) > 0 && sorted[len(sorted)-1].rank.path == PathRelay
	of := map[Path]int{}
	for i, at := range sorted {
		var wait time.Duration
		if i > 0 {
			wait = sorted[i-1].rank.wait(at.rank)
		}
		if of[at.rank.path]++; relays && at.rank.path != PathRelay && of[at.rank.path] > beforeRelays {
			late += wait
			further = append(further, network.AddrDelay{Addr: at.addr, Delay: nextRelay + nextStranger + late})
			continue
		}
		if delay += wait; at.rank.path == PathRelay && i > 0 && sorted[i-1].rank.path != PathRelay {
			delay = nextRelay
		}
		out = append(out, network.AddrDelay{Addr: at.addr, Delay: delay})
	}
	return append(out, further...)
}

type rank struct {
	path      Path
	strange   int
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
	for _, d := range []int{int(r.path) - int(o.path), r.strange - o.strange, r.transport - o.transport, r.family - o.family, r.loopback - o.loopback} {
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
	case r.strange != next.strange:
		return nextStranger
	case r.transport != next.transport:
		return nextTransport
	case r.family != next.family:
		return nextFamily
	}
	return nextAddress
}
