package p2p

import (
	"net/netip"
	"sync"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// maxAdmissions bounds how many connections from outside may be in the
	// exchange at once: each is a peer that has shown nothing yet.
	maxAdmissions = 512

	// maxAddressAdmissions bounds those from one address, so that one that
	// stalls on purpose does not keep the others out.
	maxAddressAdmissions = maxAdmissions / 4
)

// turns counts what goes on at once, in all and by address.
type turns struct {
	max, maxEach int

	mu   sync.Mutex
	all  int
	each map[netip.Prefix]int
}

// take tells whether there is room for one more, which then has to be done.
func (t *turns) take(from netip.Prefix) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= t.max || t.each[from] >= t.maxEach {
		return false
	}
	if t.each == nil {
		t.each = map[netip.Prefix]int{}
	}
	t.all++
	t.each[from]++
	return true
}

func (t *turns) done(from netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	t.each[from]--
	if t.each[from] == 0 {
		delete(t.each, from)
	}
}

// addressOf returns the addresses that are likely one party's: an IPv4
// address, or the 56 bits of an IPv6 address that a provider hands out. It is
// the zero Prefix for what has no IP address.
func addressOf(addr multiaddr.Multiaddr) netip.Prefix {
	ip, err := manet.ToIP(addr)
	if err != nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}
	}
	bits := addressBits4
	if a = a.Unmap(); a.Is6() {
		bits = addressBits6
	}
	prefix, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
