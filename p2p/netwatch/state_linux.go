package netwatch

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// unusable are the flags of an address that is not to be used: one that is still
// checked for whether another machine has it, and one that another has.
const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED

func (k *kernel) read() (State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return State{}, net.ErrClosed
	}
	// What is changed while it is listed may be listed in part. It is listed anew;
	// if that goes on, the Watcher tries again later.
	var s State
	var err error
	for range 3 {
		if s, err = k.list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return State{}, err
	}
	return s.canonical(), nil
}

func (k *kernel) list() (State, error) {
	links, err := k.asks.LinkList()
	if err != nil {
		return State{}, err
	}
	addrs, err := k.asks.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return State{}, err
	}
	names, of := map[int]string{}, map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && a.Flags&unusable == 0 {
			of[a.LinkIndex] = append(of[a.LinkIndex], p)
		}
	}
	vrf := map[int]bool{}
	for _, l := range links {
		vrf[l.Attrs().Index] = l.Type() == "vrf"
	}
	var s State
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		// The port of a bridge or the like leaves its addresses to that; one of
		// a VRF has its own.
		if a.MasterIndex == 0 || vrf[a.MasterIndex] {
			s.Interfaces = append(s.Interfaces, Interface{a.Index, a.Name, flagsOf(a), a.MTU, of[a.Index]})
		}
	}
	s.Defaults, err = k.defaults(names)
	return s, err
}

// flagsOf are the flags that users of the net package know.
func flagsOf(a *netlink.LinkAttrs) net.Flags {
	flags := a.Flags
	if a.RawFlags&unix.IFF_RUNNING != 0 {
		flags |= net.FlagRunning
	}
	return flags
}

// defaults lists the default routes of the main table. A machine may have a
// million of others, so none of them is kept.
func (k *kernel) defaults(names map[int]string) ([]Route, error) {
	main := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	var out []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := k.asks.RouteListFilteredIter(family, main, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if isDefault(r) {
				out = append(out, hops(r, names, family == netlink.FAMILY_V6)...)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func isDefault(r netlink.Route) bool {
	if r.Type != unix.RTN_UNICAST {
		return false // the kernel's "unreachable" of IPv6
	}
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// hops returns what a route says, once for each of the ways it has.
func hops(r netlink.Route, names map[int]string, ipv6 bool) []Route {
	route := func(link int, gateway net.IP) Route {
		ip, _ := netip.AddrFromSlice(gateway)
		return Route{Interface: names[link], Gateway: ip.Unmap(), IPv6: ipv6, Metric: r.Priority}
	}
	if len(r.MultiPath) == 0 {
		return []Route{route(r.LinkIndex, r.Gw)}
	}
	var out []Route
	for _, hop := range r.MultiPath {
		out = append(out, route(hop.LinkIndex, hop.Gw))
	}
	return out
}
