package overlaytest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"github.com/p2pnode/p2pnode/p2p"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// serve writes a word to all who come, and what they sent.
func serve(t testing.TB, l net.Listener, word string) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				got, err := io.ReadAll(c)
				if err == nil {
					fmt.Fprintf(c, "%s heard %s", word, got)
				}
			}()
		}
	}()
}

// halfCloser is what a stream is, beside a net.Conn.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// say sends a word, ends it, and returns the answer.
func say(c net.Conn, word string) (string, error) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	if err := c.(halfCloser).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

func TestNew(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			nodes := overlaytest.New(t, n)
			if len(nodes) != n {
				t.Fatalf("New(%d) gives %d nodes", n, len(nodes))
			}
			for i, m := range nodes {
				if self := m.Self(); self.Name != fmt.Sprint("node", i) || m.ID() != nodes[0].ID() {
					t.Errorf("node %d is %s of mesh %v, want node%d of %v", i, self.Name, m.ID(), i, nodes[0].ID())
				}
				l, err := m.Listen("echo")
				if err != nil {
					t.Fatal(err)
				}
				serve(t, l, m.Self().Name)
			}
			for i, from := range nodes {
				for j := range nodes {
					c, err := from.Dial(testContext(t), fmt.Sprintf("node%d/echo", j))
					if err != nil {
						t.Fatalf("node%d dials node%d: %v", i, j, err)
					}
					if got, err := say(c, "word"); err != nil || got != fmt.Sprintf("node%d heard word", j) {
						t.Errorf("node%d hears %q, %v of node%d", i, got, err, j)
					}
				}
			}
		})
	}
}

// Nodes meet with no port and with one, as they are told.
func TestNewWith(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config overlay.Config
		addrs  int
		path   p2p.Path
	}{
		{"local", overlaytest.Local(t), 0, p2p.PathUnix},
		{"network", overlaytest.Network(), 1, p2p.PathLAN},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.path == p2p.PathUnix && !unixsock.Supported {
				t.Skip("no such path on this system")
			}
			nodes := overlaytest.NewWith(t, 2, tt.config)
			if addrs := nodes[0].Addrs(); len(addrs) != tt.addrs {
				t.Errorf("Addrs = %v, want %d", addrs, tt.addrs)
			}
			if _, path, err := nodes[1].Ping(testContext(t), "node0"); err != nil || path != tt.path {
				t.Errorf("Ping goes by %v, %v, want %v", path, err, tt.path)
			}
		})
	}
}

// The directory in which nodes meet is there as long as a test needs it.
func TestLocalEndsWithItsTests(t *testing.T) {
	if !unixsock.Supported {
		t.Skip("no such path on this system")
	}
	var dir string
	t.Run("tests", func(t *testing.T) {
		dir = overlaytest.Local(t).LocalDir
		t.Run("one", func(t *testing.T) { overlaytest.New(t, 1) })
		if got := overlaytest.Local(t).LocalDir; got != dir {
			t.Errorf("another node is to be in %s, want %s", got, dir)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("the directory while a test needs it: %v", err)
		}
	})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory after the tests: %v, want that it is gone", err)
	}
}

// What New started is gone when the test it was started for has ended.
func TestNewEndsWithItsTest(t *testing.T) {
	var nodes []*overlay.Mesh
	t.Run("test", func(t *testing.T) { nodes = overlaytest.New(t, 2) })
	for _, m := range nodes {
		if _, err := m.Listen("web"); !errors.Is(err, overlay.ErrClosed) {
			t.Errorf("Listen after the test = %v, want %v", err, overlay.ErrClosed)
		}
	}
}

func TestProcesses(t *testing.T) {
	all := overlaytest.Processes(t, 3)
	for i, p := range all {
		if want := fmt.Sprint("node", i); p.Name != want {
			t.Errorf("process %d is %s, want %s", i, p.Name, want)
		}
		serve(t, p.Listen("echo"), p.Name)
	}
	for i, from := range all {
		for j := range all {
			c, err := from.Dial(testContext(t), fmt.Sprintf("node%d/echo", j))
			if err != nil {
				t.Fatalf("node%d dials node%d: %v", i, j, err)
			}
			if got, err := say(c, "word"); err != nil || got != fmt.Sprintf("node%d heard word", j) {
				t.Errorf("node%d hears %q, %v of node%d", i, got, err, j)
			}
		}
	}
	if _, err := all[0].Dial(testContext(t), "node1/none"); err == nil || err.Error() != "dial node1/none: no such service" {
		t.Errorf("Dial of a service that nobody offers = %v, want the mesh's error", err)
	}
}

// A process that is killed leaves its state, and comes back on it, as often as
// one likes. It may offer the services that it had again.
func TestKillAndRestart(t *testing.T) {
	all := overlaytest.Processes(t, 2)
	for round := range 3 {
		word := fmt.Sprint("round ", round)
		serve(t, all[1].Listen("echo"), word)
		c, err := all[0].Dial(testContext(t), "node1/echo")
		if err != nil {
			t.Fatalf("%s: Dial = %v, want nil", word, err)
		}
		if got, err := say(c, "x"); err != nil || got != word+" heard x" {
			t.Errorf("%s: %q, %v", word, got, err)
		}
		all[1].Kill()
		all[1].Kill() // again, which does nothing
		if _, err := all[1].Dial(testContext(t), "node0/echo"); err == nil {
			t.Errorf("%s: Dial from a killed process = nil, want an error", word)
		}
		if _, err := os.Stat(all[1].Dir); err != nil {
			t.Errorf("%s: the state of a killed process: %v", word, err)
		}
		all[1].Restart()
	}
}

// The founder can be killed and restarted, and others join through it.
func TestRestartedFounderInvites(t *testing.T) {
	all := overlaytest.Processes(t, 2)
	all[0].Kill()
	all[0].Restart()
	m, err := overlay.Join(testContext(t), all[0].Invite(), named(t, "guest"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, _, err := m.Ping(testContext(t), "node0"); err != nil {
		t.Errorf("Ping = %v, want nil", err)
	}
}

// A stream breaks when the process at its other end is killed: its reader does
// not see an end.
func TestKilledProcessBreaksItsStreams(t *testing.T) {
	all := overlaytest.Processes(t, 2)
	l := all[1].Listen("sink")
	m, err := overlay.Join(testContext(t), all[0].Invite(), overlaytest.Local(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := m.Dial(testContext(t), "node1/sink")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	all[1].Kill()
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, p2p.ErrReset) {
		t.Errorf("Read = %d bytes, %v, want %v", n, err, p2p.ErrReset)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("Read at the killed process's end = %d bytes, %v, want an error", n, err)
	}
}

// A dial's ctx ends it.
func TestProcessDialEndsWithItsContext(t *testing.T) {
	p := overlaytest.Processes(t, 1)[0]
	m, err := overlay.Join(testContext(t), p.Invite(), named(t, "mute"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	web, err := m.Listen("web")
	if err != nil {
		t.Fatal(err)
	}
	web.HandsOver(func(net.Conn) bool { // takes the stream and does not answer
		cancel()
		return true
	})
	if _, err := p.Dial(ctx, "mute/web"); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial = %v, want %v", err, context.Canceled)
	}
}

// named configures a node that meets those of Processes.
func named(t *testing.T, name string) overlay.Config {
	c := overlaytest.Local(t)
	c.Name = name
	return c
}
