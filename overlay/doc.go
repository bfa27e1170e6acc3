// Package overlay is a private mesh: who belongs to it, what they are called,
// what they offer, and streams between them by name.
//
// A mesh is founded by opening an empty directory. Others join by an invite, one
// text, and are members from then on; directory and key are all it takes to come
// back.
//
//	mesh, err := overlay.Open(ctx, overlay.Config{Dir: dir, Name: "alice"})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer mesh.Close()
//	listener, err := mesh.Listen("web")
//	...
//	http.Serve(listener, handler)
//
// and on another machine
//
//	mesh, err := overlay.Join(ctx, invite, overlay.Config{Dir: dir})
//	...
//	conn, err := mesh.Dial(ctx, "alice/web") // a net.Conn
//	...
//	client := http.Client{Transport: &http.Transport{DialContext: mesh.DialContext}}
//	client.Get("http://web.alice.mesh/")
//
// # Who is in
//
// Every connection proves membership both ways before anything else is answered
// on it, so all that follows, the DHT included, is between members. A member's
// name and roles are in its credential, see package credential; a credential
// that came from an invite is exchanged for a lasting one as soon as an admin is
// met. An invite whose uses are counted is exchanged on the way in.
//
// # Who is out
//
// [Mesh.Revoke] puts out a member, an admin or an invite, and [Mesh.Leave] this
// node. A revocation only ever adds to what is known, every member keeps it, and
// whoever hears of it ends what the revoked has open. A node that comes back asks
// what it missed before it serves anyone. [Mesh.Done] is closed at the one that is
// out.
//
// # Who may use what
//
// [Mesh.Listen] takes rules: everyone, a role, a member by peer ID, or one whose
// name an admin gave. They can be changed while streams are open. Those who may
// not use a service don't find it listed.
//
// # How members are found
//
// [Mesh.Members] are those this node knows of: each tells the others by gossip
// that it is up, and whoever comes asks one for all. A name that is not among
// them is looked up in the DHT, and so are the addresses of every member there
// is no connection to, and the members that offer a service, for "/web". What
// the DHT says is believed once the member has proven it.
//
// # By which path
//
// A stream takes the best path there is: a socket on this machine, an address of the
// local network, a public one, or another member that relays. With the ctx of
// [p2p.DirectOnly] or [p2p.WaitDirect] it takes none through a relay.
// [Mesh.PathChanges] tells when and why the path to a member became another one, and
// [p2p.Node.Why] what is known of all of them.
//
// # Wire protocols
//
// They are described in docs/protocol.md: "/p2pnode/stream/1" and
// "/p2pnode/services/1" for services, "/p2pnode/roster/1" and the presence
// statements, "/p2pnode/revocations/1", and "/p2pnode/renew/1",
// "/p2pnode/redeem/1" and "/p2pnode/claims/1" for credentials.
package overlay
