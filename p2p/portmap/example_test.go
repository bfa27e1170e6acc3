package portmap_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/p2pnode/p2pnode/p2p/portmap"
)

// It has no output to compare, as that is up to the router.
func ExampleMapper() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m := portmap.New(portmap.Config{})
	defer m.Close()
	if err := m.Map(portmap.UDP, 4001); err != nil {
		log.Fatal(err)
	}
	for report := range m.Watch(ctx) {
		for _, a := range report.Attempts {
			fmt.Println(a.Protocol, a.Answer, a.Code, a.Err)
		}
		for _, mapping := range report.Mappings {
			fmt.Println(mapping.External, mapping.By, mapping.Reachable())
		}
	}
}

// What a router has for an address shows whether it is behind another NAT.
func ExampleScopeOf() {
	for _, a := range []string{"203.0.113.7", "192.168.0.2", "100.64.3.4", "0.0.0.0"} {
		fmt.Println(a, portmap.ScopeOf(netip.MustParseAddr(a)))
	}
	// Output:
	// 203.0.113.7 public
	// 192.168.0.2 private
	// 100.64.3.4 shared
	// 0.0.0.0 nowhere
}
