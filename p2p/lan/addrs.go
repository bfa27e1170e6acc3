package lan

import (
	"net/netip"
	"slices"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// An address is of use on one link only: elsewhere it may be of nobody or of
// somebody else. So each link is told the addresses that the node has on it, and
// of those that are heard on a link the ones are believed that are on it.

// toTell returns what the node says on link of the addresses that it has.
func toTell(addrs []multiaddr.Multiaddr, l link) []multiaddr.Multiaddr {
	var here, elsewhere []multiaddr.Multiaddr
	for _, a := range addrs {
		ip, rest, ok := split(a)
		switch {
		case !ok || ip.IsLoopback() || ip.IsMulticast():
		case ip.IsUnspecified():
			for _, own := range l.prefixes {
				if own.Addr().Is4() == ip.Is4() {
					here = append(here, join(own.Addr(), rest))
				}
			}
		case l.owns(ip):
			here = append(here, join(ip, rest))
		case !ip.IsLinkLocalUnicast():
			elsewhere = append(elsewhere, join(ip, rest))
		}
	}
	if len(here) == 0 {
		here = elsewhere
	}
	return unique(here)
}

// toBelieve returns at which of the addresses, that were heard on link from an
// address, a peer is tried: what is where it spoke from, then what is on the
// link, and what is elsewhere only if there is nothing else. Link-local ones get
// this end's zone, without which they can't be dialed.
func toBelieve(addrs []multiaddr.Multiaddr, l link, from netip.Addr) []multiaddr.Multiaddr {
	var same, here, elsewhere []multiaddr.Multiaddr
	for _, a := range addrs {
		ip, rest, ok := split(a)
		if !ok || ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() {
			continue
		}
		a = join(ip, rest)
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			a = join(ip.WithZone(l.name), rest)
		}
		switch {
		case ip == from.WithZone(""):
			same = append(same, a)
		case l.has(ip):
			here = append(here, a)
		case !ip.IsLinkLocalUnicast():
			elsewhere = append(elsewhere, a)
		}
	}
	if here = append(same, here...); len(here) == 0 {
		here = elsewhere
	}
	return unique(here)
}

// split returns the IP that an address begins with, without its zone, and what
// follows it. It is false for an address without one, with nothing behind, or
// that is behind another peer.
func split(a multiaddr.Multiaddr) (ip netip.Addr, rest multiaddr.Multiaddr, ok bool) {
	if _, err := a.ValueForProtocol(multiaddr.P_CIRCUIT); err == nil {
		return ip, nil, false
	}
	for i, c := range a {
		switch c.Code() {
		case multiaddr.P_IP6ZONE:
		case multiaddr.P_IP4, multiaddr.P_IP6:
			ip, ok = netip.AddrFromSlice(c.RawValue())
			rest = a[i+1:]
			if n := len(rest); n > 0 && rest[n-1].Code() == multiaddr.P_P2P {
				rest = rest[:n-1] // the box has the peer already
			}
			return ip.Unmap(), rest, ok && len(rest) > 0
		default:
			return ip, nil, false
		}
	}
	return ip, nil, false
}

func join(ip netip.Addr, rest multiaddr.Multiaddr) multiaddr.Multiaddr {
	a, err := manet.FromIPAndZone(ip.AsSlice(), ip.Zone())
	if err != nil {
		return nil // no zone has such a name; unique drops it
	}
	return multiaddr.Join(a, rest)
}

func unique(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	var out []multiaddr.Multiaddr
	for _, a := range addrs {
		if a != nil && !slices.ContainsFunc(out, a.Equal) && len(out) < maxAddrs {
			out = append(out, a)
		}
	}
	return out
}
