package netwatch

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// pollEvery is how often the state is read where nobody says when it changes.
const pollEvery = 5 * time.Second

// A poll is a source that looks again and again.
type poll struct {
	done chan struct{}
	once sync.Once
}

func newPoll() *poll { return &poll{done: make(chan struct{})} }

func (p *poll) events() bool { return false }

func (p *poll) close() { p.once.Do(func() { close(p.done) }) }

func (p *poll) run(changed, slept func()) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for last := now(); ; last = now() {
		select {
		case <-tick.C:
		case <-p.done:
			return
		}
		if now().lateBy(last, pollEvery) {
			slept()
		} else {
			changed()
		}
	}
}

func (p *poll) read() (State, error) {
	all, err := net.Interfaces()
	if err != nil {
		return State{}, err
	}
	var s State
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		s.Interfaces = append(s.Interfaces, Interface{i.Index, i.Name, i.Flags, i.MTU, prefixes(addrs)})
	}
	// Addresses that no one has in a network of their own (RFC 7535).
	for _, target := range []string{"192.31.196.1:9", "[2001:4:112::1]:9"} {
		if r, ok := routeTo(target, s.Interfaces); ok {
			s.Defaults = append(s.Defaults, r)
		}
	}
	return s.canonical(), nil
}

func prefixes(addrs []net.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		n, _ := a.(*net.IPNet)
		if p, ok := prefixOf(n); ok {
			out = append(out, p)
		}
	}
	return out
}

// routeTo returns the route by which the system would go to an address. It sends
// nothing: a datagram socket is connected by looking up the route.
func routeTo(target string, among []Interface) (Route, bool) {
	c, err := net.Dial("udp", target)
	if err != nil {
		return Route{}, false
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return Route{}, false
	}
	ip := local.AddrPort().Addr().Unmap().WithZone("")
	for _, i := range among {
		for _, p := range i.Addrs {
			if p.Addr() == ip {
				return Route{Interface: i.Name, IPv6: ip.Is6()}, true
			}
		}
	}
	return Route{}, false
}
