package lab

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// punch has two sockets send to where the other is seen, and answer whom they
// hear. It tells whether both hear the other.
func punch(t testing.TB, a, b *net.UDPConn, seenA, seenB netip.AddrPort) bool {
	t.Helper()
	hears := func(conn *net.UDPConn, peer netip.AddrPort, result chan<- bool) {
		buf := make([]byte, 64)
		for range 4 {
			_, _ = conn.WriteToUDPAddrPort([]byte("punch"), peer)
			conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, from, err := conn.ReadFromUDPAddrPort(buf); err == nil && string(buf[:n]) == "punch" {
				// What it hears may come before what it sends can pass, so it goes on.
				for range 3 {
					_, _ = conn.WriteToUDPAddrPort([]byte("punch"), from)
				}
				result <- true
				return
			}
		}
		result <- false
	}
	results := make(chan bool, 2)
	go hears(a, seenB, results)
	go hears(b, seenA, results)
	first, second := <-results, <-results
	return first && second
}

// Which NATs can be passed from both sides is known; the lab's are to agree.
func TestPunchingWorksWhereItShould(t *testing.T) {
	l := New(t)
	s := l.Host("server")
	server := listen(t, s, s.Addr())
	kinds := []Kind{FullCone, AddressRestricted, PortRestricted, Symmetric}
	var left, right []*Host
	for _, k := range kinds {
		left = append(left, l.Router("left", NAT{Kind: k}).Host("a"))
		right = append(right, l.Router("right", NAT{Kind: k}).Host("b"))
	}
	for i, ka := range kinds {
		for j, kb := range kinds {
			t.Run(ka.String()+" and "+kb.String(), func(t *testing.T) {
				want := ka != Symmetric && kb != Symmetric || ka < PortRestricted || kb < PortRestricted
				a, b := listen(t, left[i], left[i].Addr()), listen(t, right[j], right[j].Addr())
				if got := punch(t, a, b, seenBy(t, a, server), seenBy(t, b, server)); got != want {
					t.Errorf("both hear the other = %v, want %v", got, want)
				}
			})
		}
	}
}

// Hosts in one LAN that know only their public addresses meet there if the
// router lets them.
func TestPunchingInOneNetworkTakesAHairpin(t *testing.T) {
	for _, kind := range []Kind{FullCone, AddressRestricted, PortRestricted} {
		for _, hairpin := range []bool{false, true} {
			nat := NAT{Kind: kind, Hairpin: hairpin}
			t.Run(nat.String(), func(t *testing.T) {
				l := New(t)
				s, r := l.Host("server"), l.Router("r", nat)
				ha, hb := r.Host("a"), r.Host("b")
				server := listen(t, s, s.Addr())
				a, b := listen(t, ha, ha.Addr()), listen(t, hb, hb.Addr())
				if got := punch(t, a, b, seenBy(t, a, server), seenBy(t, b, server)); got != hairpin {
					t.Errorf("both hear the other = %v, want %v", got, hairpin)
				}
			})
		}
	}
}
