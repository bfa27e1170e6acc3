package forward_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
)

// BenchmarkLocal measures connections through a forward between two nodes on one
// machine: each connects, and gets a byte there and back.
func BenchmarkLocal(b *testing.B) {
	dir := b.TempDir()
	alice, err := overlay.Open(b.Context(), overlay.Config{Name: "alice", LocalDir: dir, LocalOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	defer alice.Close()
	inv, err := alice.Invite(overlay.InviteOptions{})
	if err != nil {
		b.Fatal(err)
	}
	bob, err := overlay.Join(b.Context(), inv.Text(), overlay.Config{Name: "bob", LocalDir: dir, LocalOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	defer bob.Close()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	ln, err := alice.Listen("echo")
	if err != nil {
		b.Fatal(err)
	}
	target, err := forward.ParseAddress(server.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	e, err := forward.NewExpose(ln, target, forward.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	at, err := forward.ParseAddress("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	f, err := forward.NewForward(bob, "alice/echo", at, forward.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := new(net.Dialer).DialContext(context.Background(), "tcp", f.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = c.Write([]byte{1})
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				b.Error(err)
			}
			c.Close()
		}
	})
}
