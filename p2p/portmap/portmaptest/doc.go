// Package portmaptest is a router's side of PCP and NAT-PMP, to test what asks
// for port mappings with. It keeps the mappings; what they do to packets is up to
// who runs it:
//
//	s, err := portmaptest.Listen(netip.MustParseAddrPort("10.0.0.1:5351"), portmaptest.Config{
//		External: netip.MustParseAddr("203.0.113.7"),
//		Action: func(proto string, internal netip.AddrPort, external uint16, lifetime time.Duration) error {
//			return redirect(proto, external, internal, lifetime > 0)
//		},
//	})
//	defer s.Close()
//
// Its formats are written from the RFCs and not from package portmap, so that the
// two check each other.
package portmaptest
