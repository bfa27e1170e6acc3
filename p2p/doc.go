// Package p2p runs one node: an identity key, the sockets it listens on, and
// the connections it keeps to other nodes.
//
// A peer is named by its peer ID, the hash of its public key, never by an
// address. A [Node] dials a peer by whichever of its known addresses answers
// and proves that ID, and opens [Stream]s to it. A stream is a [net.Conn] with
// half-close; [Stream.Path] tells how its bytes travel.
//
//	node, err := p2p.New(p2p.Config{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer node.Close()
//	listener, err := node.Listen("/echo/1")
//	...
//	stream, err := node.Dial(ctx, peerID, "/echo/1")
//
// # Admission
//
// [Config.Admission] decides who may connect. Both ends of every new
// connection run one exchange, on a stream of its own, before anything else is
// answered on that connection: a peer that is refused learns no protocol, no
// address and no more than the reason, which is one byte. The exchange is
// described in docs/protocol.md, and costs one round trip.
//
// # One machine
//
// With [Config.Local] nodes on one machine meet in a directory of unix sockets, with
// no network. They are dialed there first, and connections that they have by other
// ways move there. Each stream is then a socket of the kernel's own ([PathUnix]),
// which [Stream.SyscallConn] gives, and [Node.Ask] opens one that its accepting end
// may hand over to something else: see [Stream.HandOver].
//
// # Other networks
//
// Peers that can't reach each other are connected through one that both can: a node
// carries for others ([Config.Relay]) and has others carry to it ([Node.Relays]). While
// the best path to a peer is a relay's ([PathRelay]) a better one is looked for, by
// holes punched through NATs among others; [DirectOnly] takes no other. [Config.LAN]
// finds peers on the local network, and a router that translates addresses is asked for
// ports unless [Config.NoPortMapping] is set. Changes of the network are followed.
// [Node.Report] tells what is known of it, [Node.Why] of the ways to one peer, and
// docs/network.md what happens when.
//
// # What it does not do
//
// A node knows no mesh and no names, and looks for no peers but on the local network:
// package dht finds them, package overlay names them. Nobody is contacted but peers and
// the router.
package p2p
