// Package dht finds peers. A [DHT] is a private Kademlia over a [p2p.Node]:
// nobody but the peers that the node admits takes part, and nothing public is
// contacted.
//
//	table, err := dht.New(node, dht.Config{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer table.Close()
//	defer table.Provide("greetings").Stop()  // found by others until then
//	addrs, err := table.FindPeer(ctx, id)    // where is this peer
//	for peer := range table.Providers(ctx, "greetings") {
//		...
//	}
//
// What others say is a hint: that a peer has an ID is proven when it is dialed,
// a record counts for what its [Validator] finds in it, and a provider may not
// provide.
//
// A node that has no address takes part like others: those on its machine, who find
// it by its ID, find it as a provider and as a peer.
//
// Records and provider records live in the memory of the 20 peers whose IDs
// are nearest to the key (bucket size of the Kademlia paper). Their owner
// publishes them again, see [Config.Republish].
package dht
