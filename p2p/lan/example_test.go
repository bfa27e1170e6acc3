package lan_test

import (
	"crypto/rand"
	"fmt"
	"log"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/p2pnode/p2pnode/p2p/lan"
)

// A node of a mesh that nobody else is in finds nobody, whoever is on the network.
func ExampleFinder() {
	secret := []byte(rand.Text()) // all of a mesh have the same
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		log.Fatal(err)
	}

	f, err := lan.New(lan.Config{
		Group: secret,
		Self:  self,
		Addrs: func() []multiaddr.Multiaddr {
			return []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/0.0.0.0/udp/4001/quic-v1")}
		},
		Found: func(p peer.AddrInfo) { fmt.Println("found", p) },
	})
	if err != nil {
		log.Fatal(err)
	}
	f.Refresh() // as after a change of the network
	fmt.Println(len(f.Peers()), "others are here")
	fmt.Println(f.Close())
	// Output:
	// 0 others are here
	// <nil>
}
