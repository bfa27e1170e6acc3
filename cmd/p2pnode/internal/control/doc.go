// Package control is how the p2pnode command talks to a running node: HTTP
// and JSON over a unix socket in the node's directory, which only its owner
// can reach.
//
//	client, err := control.Open(dir)
//	if err != nil {
//		return err // control.ErrNotRunning, if no node runs there
//	}
//	status, err := client.Status(ctx)
//
// The package serves the command. Programs in any language talk to a node as
// docs/openapi.yaml says, with whatever speaks HTTP on a unix socket.
//
// A stream to a service is a POST that is upgraded to [Protocol], after which
// the connection carries the stream's bytes in chunks: see [Conn]. A program that
// upgrades to [ProtocolRaw] gets the bytes as they are. It ends its direction by
// shutting down the writing side of the socket, and reads an end where the other end
// has done so. When a stream breaks the socket is closed, which looks like an end too:
// a unix socket has no reset that could be made. So the node keeps the [Outcome] of each
// raw stream, under the ID in [StreamHeader]: whoever has read an end asks for it, and if
// the state is not [StreamBroken] then the end is one. The outcome is there before the
// socket is closed.
//
// A request that a page of the web may have made is refused: one with an Origin, or to
// another host than "node" or "localhost".
package control
