package lan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// maxLinks bounds on how many interfaces a node speaks, for a host of containers
// may have hundreds.
const maxLinks = 16

// A link is an interface that is up and knows multicast.
type link struct {
	index    int
	name     string
	prefixes []netip.Prefix // each with the address that this end has in it
}

// links returns what there is to speak on. Tunnels to one other end are not a
// local network, and what is said on an interface reaches the nodes of this
// machine too, so that loopback has nothing to add.
func links() ([]link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	var out []link
	for _, i := range all {
		const must, mustNot = net.FlagUp | net.FlagMulticast, net.FlagLoopback | net.FlagPointToPoint
		if i.Flags&must != must || i.Flags&mustNot != 0 || len(out) == maxLinks {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		l := link{index: i.Index, name: i.Name}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				l.prefixes = append(l.prefixes, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
			}
		}
		if len(l.prefixes) > 0 {
			out = append(out, l)
		}
	}
	return out, nil
}

// speaks tells whether this end has an address of the family to speak from.
func (l link) speaks(f family) bool {
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == (f == v4) })
}

// owns tells whether ip is an address of this end.
func (l link) owns(ip netip.Addr) bool {
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Addr() == ip })
}

// has tells whether ip is an address of some node on the link.
func (l link) has(ip netip.Addr) bool {
	if ip.Is6() && ip.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}
