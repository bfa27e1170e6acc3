package forward

import (
	"io"
	"net"
	"testing"
)

// joined returns the outer ends of two connections over loopback TCP that are
// joined in the way that is named.
func joined(b *testing.B, kind string) (client, server net.Conn) {
	b.Helper()
	client, local := pair(b, "tcp")
	var other net.Conn
	switch kind {
	case "splice":
		server, other = pair(b, "tcp")
	case "splice-unix":
		server, other = pair(b, "unix")
	case "copy":
		// Hides that it is a socket, as the portable code sees it.
		server, other = pair(b, "tcp")
		local, other = hidden{local}, hidden{other}
	case "mux":
		x, y := pair(b, "tcp")
		m := newMuxMesh(b, x, y)
		var err error
		if other, err = m.dialer.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
		if server, err = m.listener.AcceptStream(); err != nil {
			b.Fatal(err)
		}
	}
	wait := joinInBackground(b.Context(), local, other)
	b.Cleanup(func() {
		reset(client)
		wait()
	})
	return client, server
}

// hidden is a TCP connection that does not show its descriptor.
type hidden struct{ net.Conn }

func (h hidden) CloseWrite() error          { return newSide(h.Conn).closeWrite() }
func (h hidden) SetLinger(sec int) error    { return h.Conn.(*net.TCPConn).SetLinger(sec) }
func (h hidden) Read(b []byte) (int, error) { return h.Conn.Read(b) }

var joinKinds = []string{"splice", "splice-unix", "copy", "mux"}

func BenchmarkJoin(b *testing.B) {
	for _, kind := range joinKinds {
		b.Run(kind, func(b *testing.B) {
			client, server := joined(b, kind)
			block := make([]byte, 256<<10)
			b.SetBytes(int64(len(block)))
			done := make(chan error, 1)
			go func() { done <- readToEnd(server) }()
			for b.Loop() {
				if _, err := client.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			if err := newSide(client).closeWrite(); err != nil {
				b.Fatal(err)
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// readToEnd is io.Copy to io.Discard with a larger buffer than that takes.
func readToEnd(c net.Conn) error {
	buf := make([]byte, 256<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return endOrError(err)
		}
	}
}

func BenchmarkJoinRoundTrip(b *testing.B) {
	for _, kind := range joinKinds {
		b.Run(kind, func(b *testing.B) {
			client, server := joined(b, kind)
			go io.Copy(server, struct{ io.Reader }{server})
			msg := make([]byte, 64)
			for b.Loop() {
				if _, err := client.Write(msg); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(client, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnect makes a connection through a chain, and sends a byte there
// and back.
func BenchmarkConnect(b *testing.B) {
	for _, kind := range []string{"tcp", "mux"} {
		b.Run(kind, func(b *testing.B) {
			c := newChain(b, newMesh(b, kind), "tcp", "tcp")
			go echoAll(c.server)
			msg := make([]byte, 1)
			for b.Loop() {
				conn, err := c.client.dial(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				conn.Write(msg)
				if _, err := io.ReadFull(conn, msg); err != nil {
					b.Fatal(err)
				}
				conn.Close()
			}
		})
	}
}
