// Package durable keeps a stream of bytes between two nodes when its connection
// doesn't last: it tells each end what to send, and what to make of what comes in, so
// that bytes arrive in order and once over any number of carriers. A carrier is a
// stream of some connection, which may break at any byte. docs/protocol.md has the
// bytes.
//
// An [End] is one end of a stream as a machine without clock, goroutines, or input and
// output of its own, so that all that can happen can be tried:
//
//	end := durable.Open(id, durable.Config{Limit: 5 * time.Minute})
//	end.Append([]byte("hello"), now)
//	for b := end.Next(now); b != nil; b = end.Next(now) {
//		n, err := carrier.Write(b)
//		end.Sent(end.Epoch(), n)
//		if err != nil {
//			end.Lost(end.Epoch(), now) // the same again by another carrier
//		}
//	}
//
// Bytes are kept until the other end has acknowledged them. Acknowledgements go beside
// the carriers, as [Message]s, so that they never wait behind bytes that nobody reads.
// When a carrier is lost, or a better one is there, the opener sends [End.Hello] on the
// new one, the other end answers by [End.Resume], and each goes on where the other says
// that it is: [End.Resumed].
package durable
