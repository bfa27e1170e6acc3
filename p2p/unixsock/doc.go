// Package unixsock connects the nodes of one machine: they find each other in a
// directory of unix sockets, with no network at all, and each stream between them
// is a socket of the kernel's own.
//
// A [Directory] is where they meet. Each node has a [Socket] there, under a name
// that tells the others, and nobody else, who it is; file events say who comes
// and goes. A [Transport] makes connections of the sockets. It is a libp2p
// transport:
//
//	dir, err := unixsock.OpenDirectory(path, secret, unixsock.Options{})
//	socket, err := dir.Listen(id)
//	transport, err := unixsock.New(key, resources, gater)
//	listener := transport.ListenOn(socket, addr)
//	...
//	sock, err := dir.Dial(ctx, other)
//	conn, err := transport.Client(ctx, sock, addr, other)
//	stream, err := conn.OpenNamed(ctx, "/echo/1")
//
// # A connection
//
// A [Conn] is one control socket. A handshake proves to both ends the keys and the
// users of each other, once. After that nothing is encrypted and nothing is
// multiplexed: to open a stream is to make a pair of sockets and pass one of them
// to the other end. What the sockets can't say goes by the control socket: that a
// stream was ended, and not cut off by the death of a process, and the codes of
// resets. docs/protocol.md has the bytes.
//
// A stream of [Conn.Ask] gets its socket from the end that answers, which may give
// away one that it has connected to something else: see [Stream.HandOver].
//
// # Where it works
//
// On Linux, and on macOS except for what package kernel does. Elsewhere
// [Supported] is false and all errors are [errors.ErrUnsupported].
package unixsock
