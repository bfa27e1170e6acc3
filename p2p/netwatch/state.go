package netwatch

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
)

// A State is what this machine's networks are at one time. It is shared by all
// who watch, and not to be written to.
type State struct {
	// Interfaces are those that are up and have an address, by index.
	Interfaces []Interface

	// Defaults are the default routes, of each family the preferred one first.
	Defaults []Route

	// Sleeps counts how often the machine was seen to sleep, or its clock to be
	// set far forward, since the Watcher was made. Connections of before may
	// be dead at the other end even where all else is the same.
	Sleeps int
}

// An Interface is a network interface that is up.
type Interface struct {
	Index int
	Name  string
	Flags net.Flags
	MTU   int

	// Addrs are its addresses with the length of their prefix, in order. One
	// that isn't usable yet, or that another machine has too, isn't here.
	Addrs []netip.Prefix
}

// A Route is a default route.
type Route struct {
	Interface string
	Gateway   netip.Addr // not valid if there is none or it isn't known
	IPv6      bool
	Metric    int // the lower is preferred
}

// Equal tells whether two states are the same.
func (s State) Equal(t State) bool {
	return s.Sleeps == t.Sleeps && slices.Equal(s.Defaults, t.Defaults) &&
		slices.EqualFunc(s.Interfaces, t.Interfaces, Interface.equal)
}

func (i Interface) equal(j Interface) bool {
	return i.Index == j.Index && i.Name == j.Name && i.Flags == j.Flags && i.MTU == j.MTU &&
		slices.Equal(i.Addrs, j.Addrs)
}

// canonical drops what makes no difference, and sorts the rest, so that states
// can be compared whatever order the system lists things in.
func (s State) canonical() State {
	s.Interfaces = slices.DeleteFunc(s.Interfaces, func(i Interface) bool {
		return i.Flags&net.FlagUp == 0 || len(i.Addrs) == 0
	})
	slices.SortFunc(s.Interfaces, func(a, b Interface) int { return cmp.Compare(a.Index, b.Index) })
	for _, i := range s.Interfaces {
		slices.SortFunc(i.Addrs, netip.Prefix.Compare)
	}
	slices.SortFunc(s.Defaults, Route.compare)
	s.Defaults = slices.Compact(s.Defaults)
	return s
}

func (r Route) compare(q Route) int {
	if r.IPv6 != q.IPv6 {
		if q.IPv6 {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(r.Metric, q.Metric), cmp.Compare(r.Interface, q.Interface),
		r.Gateway.Compare(q.Gateway))
}

// prefixOf converts what the net package calls an address of an interface.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap()
	return netip.PrefixFrom(ip, ones-(bits-ip.BitLen())), true
}
