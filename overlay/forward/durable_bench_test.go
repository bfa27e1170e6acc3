package forward_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"github.com/p2pnode/p2pnode/p2p"
)

// BenchmarkDurable measures bytes that go through a forward to a service at another
// node, over loopback, by streams that outlive their connections and plain ones.
func BenchmarkDurable(b *testing.B) {
	for _, kind := range []string{"durable", "plain"} {
		b.Run(kind, func(b *testing.B) {
			_, client, server := throughForward(b, kind == "plain")
			block := make([]byte, 256<<10)
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			done := make(chan error, 1)
			go func() {
				_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{server}, make([]byte, 256<<10))
				done <- err
			}()
			for b.Loop() {
				if _, err := client.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			if err := client.CloseWrite(); err != nil {
				b.Fatal(err)
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// throughForward returns a forward, a connection to it, and the stream at the service.
func throughForward(tb testing.TB, plain bool) (*forward.Forward, *net.TCPConn, *overlay.Conn) {
	tb.Helper()
	nodes := overlaytest.NewWith(tb, 2, overlaytest.Network())
	l, err := nodes[0].Listen("web")
	if err != nil {
		tb.Fatal(err)
	}
	at, err := forward.ParseAddress("127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f, err := forward.NewForward(dialer{nodes[1], plain}, "node0/web", at, forward.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	client, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close() })
	server, err := l.AcceptConn()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { server.Close() })
	return f, client.(*net.TCPConn), server
}

// A dialer opens plain streams if it is to.
type dialer struct {
	*overlay.Mesh
	plain bool
}

func (d dialer) DialContext(ctx context.Context, network, target string) (net.Conn, error) {
	if d.plain {
		ctx = p2p.Plain(ctx)
	}
	return d.Mesh.DialContext(ctx, network, target)
}
