package portmaptest_test

import (
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/p2pnode/p2pnode/p2p/portmap/portmaptest"
)

// A request of NAT-PMP for UDP port 4001, for an hour.
func ExampleServer() {
	s, err := portmaptest.Listen(netip.MustParseAddrPort("127.0.0.1:0"), portmaptest.Config{
		External: netip.MustParseAddr("203.0.113.7"),
		Action: func(proto string, internal netip.AddrPort, external uint16, lifetime time.Duration) error {
			fmt.Println(proto, external, "leads to", internal, "for", lifetime)
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	c, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{0, 1, 0, 0, 15, 161, 0, 0, 0, 0, 14, 16}); err != nil {
		log.Fatal(err)
	}
	answer := make([]byte, 100)
	n, err := c.Read(answer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("answer of", n, "bytes with result", answer[3])
	// Output:
	// udp 4001 leads to 127.0.0.1:4001 for 1h0m0s
	// answer of 16 bytes with result 0
}
