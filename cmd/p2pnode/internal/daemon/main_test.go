package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { overlaytest.Main(leakChecked{m}) }

// leakChecked runs tests and fails if goroutines are left.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// A served is a node that Serve runs.
type served struct {
	*control.Client
	dir   string
	stop  context.CancelFunc
	ended chan error // gets what Serve returns
}

// serve runs a mesh until the test ends, which must go well.
func serve(t testing.TB, mesh *overlay.Mesh) *served {
	t.Helper()
	s := serveOut(t, mesh)
	t.Cleanup(func() {
		s.stop()
		s.wait(t)
	})
	return s
}

// serveOut runs a mesh until the test ends.
func serveOut(t testing.TB, mesh *overlay.Mesh) *served {
	t.Helper()
	dir, err := os.MkdirTemp("", "d") // a socket's path must not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &served{dir: dir, stop: stop, ended: make(chan error, 1)}
	go func() { s.ended <- Serve(ctx, l, mesh, Config{}) }()
	t.Cleanup(func() {
		stop()
		_ = s.result(t)
	})
	if s.Client, err = control.Open(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// wait waits until the node has ended, which must go well.
func (s *served) wait(t testing.TB) {
	t.Helper()
	if err := s.result(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// result waits until the node has ended, and returns how.
func (s *served) result(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(patience):
		return fmt.Errorf("it has not ended after %v", patience)
	}
}

// listen offers a service and hands out its streams.
func listen(t testing.TB, mesh *overlay.Mesh, service string) *overlay.Listener {
	t.Helper()
	l, err := mesh.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accept(t testing.TB, l *overlay.Listener) *overlay.Conn {
	t.Helper()
	c, err := l.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echo is a server that answers what it was sent once the client has ended its
// side.
func echo(t testing.TB) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			data, err := io.ReadAll(c)
			if err == nil {
				fmt.Fprintf(c, "got %s", data)
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}
