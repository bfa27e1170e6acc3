package p2p

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // the fuzzer has goroutines of its own
	}
	goleak.VerifyTestMain(m)
}

// transports are the ways over which every promise is kept, each with where
// to listen for it alone.
var transports = []struct{ name, listen string }{
	{"tcp", "/ip4/127.0.0.1/tcp/0"},
	{"quic", "/ip4/127.0.0.1/udp/0/quic-v1"},
	{"ws", "/ip4/127.0.0.1/tcp/0/ws"},
	{"wss", "/ip4/127.0.0.1/tcp/0/tls/ws"},
}

// onMachine stands for where to listen on the path on this machine.
const onMachine = "unix"

// ways are the transports and the path on this machine.
var ways = append(slices.Clone(transports), struct{ name, listen string }{"unix", onMachine})

// onlyLocal configures nodes of one kind that meet on this machine alone.
func onlyLocal(t testing.TB) *Local {
	return &Local{Dir: t.TempDir(), Secret: []byte("of these"), Only: true}
}

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func addrs(ss ...string) []multiaddr.Multiaddr {
	out := make([]multiaddr.Multiaddr, len(ss))
	for i, s := range ss {
		out[i] = multiaddr.StringCast(s)
	}
	return out
}

// newTestNode runs a node that the test's end closes. It listens over TCP on
// loopback if c does not say where.
func newTestNode(t testing.TB, c Config) *Node {
	t.Helper()
	if c.Listen == nil && c.Local == nil {
		c.Listen = addrs("/ip4/127.0.0.1/tcp/0")
	}
	n, err := New(c)
	if err != nil {
		t.Fatalf("New(%+v) = %v", c, err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// newTestPair returns two nodes, the first of which has a connection to the
// second, made over one transport.
func newTestPair(t testing.TB, listen string) (dialer, listener *Node) {
	t.Helper()
	if listen == onMachine {
		local := onlyLocal(t)
		dialer, listener = newTestNode(t, Config{Local: local}), newTestNode(t, Config{Local: local})
		waitLocal(t, dialer, listener.ID())
	} else {
		dialer, listener = newTestNode(t, Config{}), newTestNode(t, Config{Listen: addrs(listen)})
	}
	if err := dialer.Connect(testContext(t), listener.ID(), listener.Addrs()...); err != nil {
		t.Fatal(err)
	}
	return dialer, listener
}

// waitLocal waits until a node has seen a peer's socket.
func waitLocal(t testing.TB, n *Node, id peer.ID) {
	t.Helper()
	for changed := n.LocalChanged(); !slices.Contains(n.LocalPeers(), id); changed = n.LocalChanged() {
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatalf("%v has no socket after %v", id, patience)
		}
	}
}

// openStream returns both ends of a stream. If from and to are one node, it is
// a stream to itself.
func openStream(t testing.TB, from, to *Node) (near, far *Stream) {
	t.Helper()
	return openStreamWith(t, testContext(t), from, to)
}

// openPlainStream is openStream for one that ends with its connection.
func openPlainStream(t testing.TB, from, to *Node) (near, far *Stream) {
	t.Helper()
	return openStreamWith(t, Plain(testContext(t)), from, to)
}

func openStreamWith(t testing.TB, ctx context.Context, from, to *Node) (near, far *Stream) {
	t.Helper()
	const proto = "/test/1"
	l, err := to.Listen(proto)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = from.Dial(ctx, to.ID(), proto)
	if err != nil {
		t.Fatal(err)
	}
	near.flush()
	far, err = l.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Reset(); far.Reset() })
	return near, far
}

// serveEcho sends back what comes in, until the node closes.
func serveEcho(t testing.TB, n *Node, proto string) {
	t.Helper()
	l, err := n.Listen(proto)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			s, err := l.AcceptStream()
			if err != nil {
				return
			}
			go func() {
				defer s.Close()
				_, _ = io.Copy(s, s)
			}()
		}
	}()
}

// echo sends a word there and back.
func echo(ctx context.Context, n *Node, id peer.ID, proto string) error {
	s, err := n.Dial(ctx, id, proto)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Write([]byte("word")); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(s)
	if err == nil && string(got) != "word" {
		err = fmt.Errorf("echo of %q = %q", "word", got)
	}
	return err
}

func checkIs(t testing.TB, call string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", call, err, want)
	}
}

// until waits for what makes no event of itself.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}
