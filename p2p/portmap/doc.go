// Package portmap asks the router for port mappings, so that others reach this
// machine from outside a NAT: by PCP (RFC 6887), by NAT-PMP (RFC 6886) and by
// UPnP, whichever the router speaks.
//
// A [Mapper] keeps the mappings that it is asked for, and says what it got:
//
//	m := portmap.New(portmap.Config{})
//	defer m.Close()
//	if err := m.Map(portmap.UDP, 4001); err != nil {
//		log.Fatal(err)
//	}
//	for report := range m.Watch(ctx) { // first the present one
//		for _, mapping := range report.Mappings {
//			fmt.Println(mapping.External, mapping.By, mapping.Reachable())
//		}
//	}
//
// No method waits for the router. All three ways are asked at once, and the first
// that works is kept; the [Report] has what came of each. A mapping is renewed
// when half of its lifetime is over, and deleted by Unmap and by Close. A router
// that forgot its mappings, as its count of time shows, is asked for all of them
// again when one is renewed.
//
// [Mapper.Refresh] is for when the network changed, which a Mapper doesn't see by
// itself: package netwatch does.
//
// # What is believed
//
// What comes from another address than the gateway's is never looked at, nor is
// an answer that doesn't fit the question. The router is believed as far as its
// external address, which proves nothing: only a peer that came by it does. A
// router that is behind another NAT has an address that isn't public, and then a
// mapping is of no use outside; [Mapping.Reachable] is false.
//
// # What it doesn't do
//
// It asks for IPv4 only: it opens no pinholes in IPv6 firewalls. It doesn't listen
// for what routers announce by multicast when they start.
package portmap
