package p2p

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// maxAdmissions bounds how many connections from outside may be in the
	// exchange at once: each is a peer that has shown nothing yet.
	maxAdmissions = 256

	// maxAddressAdmissions bounds those from one address, so that one that
	// stalls on purpose leaves room for the others.
	maxAddressAdmissions = maxAdmissions / 2
)

// turns are what goes on at once, bounded in all and by address. Who comes when
// there are too many takes the turn of the oldest: an honest peer needs
// milliseconds, and one that stalls is the oldest soon. If it were the newcomer
// that has to go, then who stalls would keep everybody out.
type turns struct {
	max, maxEach int

	mu   sync.Mutex
	held []*turn // the oldest first
}

// A turn is one of those. It ends by done, or by another that takes its place.
type turn struct {
	from netip.Prefix
	end  func()
}

// take begins a turn, which is over at the latest when end is called.
func (t *turns) take(from netip.Prefix, end func()) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	var oldest *turn
	if mine, n := t.ofLocked(from); n >= t.maxEach {
		oldest = mine
	} else if len(t.held) >= t.max {
		oldest = t.held[0]
	}
	if oldest != nil {
		t.dropLocked(oldest)
		go oldest.end() // which may close a connection, and that may write
	}
	u := &turn{from, end}
	t.held = append(t.held, u)
	return u
}

// ofLocked returns an address's oldest turn and how many it has.
func (t *turns) ofLocked(from netip.Prefix) (oldest *turn, n int) {
	for _, u := range t.held {
		if u.from != from {
			continue
		}
		if n++; n == 1 {
			oldest = u
		}
	}
	return oldest, n
}

// done ends a turn, if it has not ended.
func (t *turns) done(u *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(u)
}

func (t *turns) dropLocked(u *turn) {
	if i := slices.Index(t.held, u); i >= 0 {
		t.held = slices.Delete(t.held, i, i+1)
	}
}

// count returns how many turns there are.
func (t *turns) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held)
}

// A strangerScope calls named when it is known whose its connection is, or when
// that has ended.
type strangerScope struct {
	network.ConnManagementScope
	named func()
}

func (s *strangerScope) SetPeer(id peer.ID) error {
	defer s.named()
	return s.ConnManagementScope.SetPeer(id)
}

func (s *strangerScope) Done() {
	s.ConnManagementScope.Done()
	s.named()
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
