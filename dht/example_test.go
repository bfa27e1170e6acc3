package dht_test

import (
	"context"
	"fmt"
	"log"

	"github.com/p2pnode/p2pnode/dht"
	"github.com/p2pnode/p2pnode/p2p"
)

// Three nodes, of which two have only met the third, find each other.
func Example() {
	ctx := context.Background()
	var nodes [3]*p2p.Node
	var tables [3]*dht.DHT
	for i := range nodes {
		var err error
		if nodes[i], err = p2p.New(p2p.Config{}); err != nil {
			log.Fatal(err)
		}
		defer nodes[i].Close()
		if tables[i], err = dht.New(nodes[i], dht.Config{}); err != nil {
			log.Fatal(err)
		}
		defer tables[i].Close()
		if i == 0 {
			continue
		}
		if err := nodes[i].Connect(ctx, nodes[0].ID(), nodes[0].Addrs()...); err != nil {
			log.Fatal(err)
		}
		if err := tables[i].Ready(ctx); err != nil {
			log.Fatal(err)
		}
	}
	addrs, err := tables[2].FindPeer(ctx, nodes[1].ID())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(addrs) > 0)
	// Output: true
}
