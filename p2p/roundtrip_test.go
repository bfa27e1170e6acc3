package p2p

import (
	"io"
	"testing"
)

// BenchmarkRoundTrip sends 64 bytes there and back on a stream that outlives its
// connection, on one that stays on the connection that carries others, and on a plain one.
func BenchmarkRoundTrip(b *testing.B) {
	for _, kind := range []struct {
		name  string
		plain bool
		stays bool
	}{{"plain", true, true}, {"durable", false, false}, {"durable beside others", false, true}} {
		b.Run(kind.name, func(b *testing.B) {
			from, to := newTestPair(b, "/ip4/127.0.0.1/tcp/0")
			if kind.stays {
				neverBulk(from)
			}
			ctx := testContext(b)
			if kind.plain {
				ctx = Plain(ctx)
			}
			near, far := openStreamWith(b, ctx, from, to)
			defer near.Close()
			go func() {
				defer far.Close()
				_, _ = io.CopyBuffer(struct{ io.Writer }{far}, struct{ io.Reader }{far}, make([]byte, 64))
			}()
			msg := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := near.Write(msg); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(near, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
