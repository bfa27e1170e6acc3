// Package forward ties local sockets to services of a mesh.
//
// A [Forward] listens on a local socket and opens a stream to a service for
// each connection it accepts. An [Expose] is the other end: it accepts the
// streams of a service and connects each to a local socket, its target. Between
// a client of the one and the server behind the other lies what looks like one
// connection:
//
//	client -> Forward -> stream -> Expose -> server
//
// On the node that has a web server on port 3000:
//
//	target, err := forward.ParseAddress("3000")
//	if err != nil {
//		log.Fatal(err)
//	}
//	ln, err := mesh.Listen("web")
//	if err != nil {
//		log.Fatal(err)
//	}
//	e, err := forward.NewExpose(ln, target, forward.Config{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer e.Close()
//
// On the node that wants to use it, at http://127.0.0.1:8080:
//
//	listen, err := forward.ParseAddress("8080")
//	if err != nil {
//		log.Fatal(err)
//	}
//	f, err := forward.NewForward(mesh, "alice/web", listen, forward.Config{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer f.Close()
//
// [NewExposePorts] offers a range of ports, each as the service that is named like it:
// port 8080 as "8080".
//
// A [Proxy] is a Forward to all services at once, for programs that know proxies:
// they say by host name which they want, as http://web.alice.mesh/.
//
//	p, err := forward.NewProxy(mesh, listen, forward.ProxyConfig{})
//
// # How a connection ends
//
// Each direction ends by itself, as in TCP. The end of what one side sends is
// passed on as an end, and the other direction stays open for as long as its
// sender likes. A connection that breaks is broken off on both sides, and what
// breaks it off on one side is turned into its like on the other:
//
//	TCP                    stream
//	FIN                    CloseWrite
//	RST                    Reset
//
// So bytes that were lost are never followed by a clean end: a reader that sees
// io.EOF has got all that was sent. This asks of a stream that it has the
// methods CloseWrite() error and Reset() error, that after a Reset its far end
// reads an error other than io.EOF, and that Reset ends a blocked Read or Write.
// A dial that fails resets the connection it was made for.
//
// Unix sockets have a FIN and no RST. A program at one sees a connection that
// broke as closed; the kernel gives it an error only if bytes that it had sent
// were not yet read.
//
// A connection that has ended in one direction and is idle in the other can
// still break. A TCP peer that resets it then is noticed on Linux, and
// elsewhere at the next write to it. A reset of the stream in that state is
// noticed at the next write to the stream. A connection that breaks while bytes
// from it wait for a slow reader is noticed when they have been taken.
//
// # Datagrams
//
// A Forward at a UDP port has a flow for each client that sends to it, which is a
// stream of its own to a service of datagrams; at the other end an Expose has a
// socket of its own for each. So nothing goes to another client, and where one
// datagram ends and the next begins stays as it was. A flow ends when it has been
// idle for [Config].IdleTimeout.
//
// As with UDP itself, what can't go on at once is lost: a flow keeps at most 256 KiB
// for a stream that is slower. What is lost here is counted in [Stats].Dropped; what a
// kernel drops is not. What does go on arrives in order. Each datagram takes two bytes
// more on a stream.
//
// # What it costs
//
// A reader that is slow holds back the writer: a connection buffers at most
// 256 KiB in each direction, beside what the kernel and the stream hold. Buffers
// start at 16 KiB, grow while reads fill them and come from a pool. On Linux a
// socket that is waited on has no buffer at all, and bytes between two sockets
// do not pass through this process: a stream that is itself a kernel socket
// says so by having a SyscallConn method, which promises that the descriptor
// carries the stream's bytes and nothing else.
//
// An Expose may not even be in between. A stream that comes from a process of the
// same user on the same machine is not joined to the connection to the target: that
// process is given the connection itself, and its Forward moves all bytes by one
// splice. The Expose keeps a descriptor of the connection, breaks it off when it is
// closed or the stream is reset, and closes it when the other process is done.
//
// # What it does not do
//
// It decides neither who may use a service nor where a service is; that is
// package overlay's task. It does not look into the bytes.
package forward
