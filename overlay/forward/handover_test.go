package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
)

// A localMesh has two nodes on one machine, and nothing else to meet by.
type localMesh struct {
	dialer, listener *overlay.Mesh
}

// newLocalMesh starts the nodes. They are of one process and so of one user: what
// one has connected to is handed over to the other.
func newLocalMesh(tb testing.TB) *localMesh {
	tb.Helper()
	dir, err := os.MkdirTemp("", "fw")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	config := func(name string) overlay.Config {
		return overlay.Config{Name: name, LocalDir: dir, LocalOnly: true}
	}
	m := &localMesh{}
	if m.listener, err = overlay.Open(tb.Context(), config("alice")); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.listener.Close() })
	invite, err := m.listener.Invite(overlay.InviteOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	if m.dialer, err = overlay.Join(tb.Context(), invite.Text(), config("bob")); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.dialer.Close() })
	return m
}

func (m *localMesh) DialContext(ctx context.Context, network, target string) (net.Conn, error) {
	return m.dialer.DialContext(ctx, network, target)
}

func (m *localMesh) Listen(service string) (net.Listener, error) {
	return m.listener.Listen(service)
}

// forEachChain runs a test with a chain on this machine for each kind of socket at
// its ends.
func forEachChain(t *testing.T, test func(*testing.T, *localMesh, *chain)) {
	for _, clientNet := range []string{"tcp", "unix"} {
		for _, serverNet := range []string{"tcp", "unix"} {
			t.Run(clientNet+"-"+serverNet, func(t *testing.T) {
				m := newLocalMesh(t)
				test(t, m, newChain(t, m, clientNet, serverNet))
			})
		}
	}
}

// A connection to a target that was handed over ends as one that was not.
func TestEndingsOfHandedOver(t *testing.T) {
	forEachChain(t, func(t *testing.T, _ *localMesh, c *chain) { testEndings(t, c) })
}

func TestRandomEndingsOfHandedOver(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	forEachChain(t, func(t *testing.T, _ *localMesh, c *chain) {
		for i := range 100 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				testRandomEnding(t, c, rand.New(rand.NewPCG(s, uint64(i))))
			})
		}
	})
}

// A reset of a connection between two TCP sockets is one at the other end, and not
// any other error.
func TestResetOfHandedOver(t *testing.T) {
	m := newLocalMesh(t)
	c := newChain(t, m, "tcp", "tcp")
	for _, who := range []string{"client", "target"} {
		t.Run("by the "+who, func(t *testing.T) {
			a, b := c.connectRaw(t)
			if who == "target" {
				a, b = b, a
			}
			if _, err := io.WriteString(a, "x"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			reset(a)
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Read at the other end = %v, want %v", err, syscall.ECONNRESET)
			}
		})
	}
}

// What ends a stream from this node's side ends a connection that was handed over:
// client and target see it break.
func TestHandedOverIsCut(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(*localMesh, *chain) error
	}{
		{"the member is revoked", func(m *localMesh, _ *chain) error {
			return m.listener.Revoke(context.Background(), "bob", overlay.RevokeOptions{})
		}},
		{"the expose is closed", func(_ *localMesh, c *chain) error { return c.expose.Close() }},
		{"the forward is closed", func(_ *localMesh, c *chain) error { return c.forward.Close() }},
		{"the exposing node is closed", func(m *localMesh, _ *chain) error { return m.listener.Close() }},
		{"the forwarding node is closed", func(m *localMesh, _ *chain) error { return m.dialer.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forEachChain(t, func(t *testing.T, m *localMesh, c *chain) {
				client, target := c.connect(t)
				client.send(t, []byte("to"))
				target.send(t, []byte("back"))
				client.waitFor(4)
				target.waitFor(2)
				began := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := tt.cut(m, c); err != nil {
						t.Error(err)
					}
				})
				defer wg.Wait()
				client.wantBroken(t, "the client", []byte("back"), 4)
				target.wantBroken(t, "the target", []byte("to"), 2)
				if took := time.Since(began); took > patience/2 {
					t.Errorf("it took %v", took)
				} else {
					t.Logf("it took %v", took)
				}
			})
		})
	}
}
