package overlay

import (
	"cmp"
	"slices"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// portable returns the addresses that mean something on another machine. What a
// node writes down or hands on of itself and of others is of these: a unix socket
// is for this machine alone, where a peer is found by its ID, and its path is
// nobody else's business.
func portable(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a multiaddr.Multiaddr) bool {
		return slices.ContainsFunc(a, func(c multiaddr.Component) bool { return c.Protocol().Code == multiaddr.P_UNIX })
	})
}

// pickAddrs chooses the addresses that are most likely to be of use: public
// ones first, then private ones, TCP before QUIC before WebSocket, one by WebSocket
// over TLS for those who can only get out so, and one on loopback, for those on the
// same machine.
func pickAddrs(addrs []multiaddr.Multiaddr, n int) []multiaddr.Multiaddr {
	sorted := portable(addrs)
	slices.SortStableFunc(sorted, func(a, b multiaddr.Multiaddr) int {
		return cmp.Or(cmp.Compare(reach(a), reach(b)), cmp.Compare(transportOrder(a), transportOrder(b)))
	})
	var out []multiaddr.Multiaddr
	for _, a := range sorted {
		if len(out) < n-1 && !manet.IsIPLoopback(a) && !manet.IsIP6LinkLocal(a) {
			out = append(out, a)
		}
	}
	gate := slices.IndexFunc(sorted, func(a multiaddr.Multiaddr) bool { return narrow(a) && reach(a) == 0 })
	if gate >= 0 && len(out) > 1 && !slices.ContainsFunc(out, narrow) {
		out[len(out)-1] = sorted[gate]
	}
	for _, a := range sorted {
		if manet.IsIPLoopback(a) && len(out) < n {
			return append(out, a)
		}
	}
	return out
}

// reach orders addresses by how far they reach.
func reach(a multiaddr.Multiaddr) int {
	switch {
	case manet.IsPublicAddr(a):
		return 0
	case manet.IsIPLoopback(a):
		return 2
	}
	return 1
}

// transportOrder puts TCP before QUIC, that before WebSocket, and that before
// WebSocket over TLS.
func transportOrder(a multiaddr.Multiaddr) int {
	if narrow(a) {
		return 3
	}
	order := 0
	for _, c := range a {
		switch c.Protocol().Code {
		case multiaddr.P_QUIC_V1:
			order = 1
		case multiaddr.P_WS:
			order = 2
		}
	}
	return order
}

// narrow tells whether an address is by WebSocket over TLS, which gets through
// where little else does.
func narrow(a multiaddr.Multiaddr) bool {
	return slices.ContainsFunc(a, func(c multiaddr.Component) bool {
		return c.Protocol().Code == multiaddr.P_TLS || c.Protocol().Code == multiaddr.P_WSS
	})
}
