package forward_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

const patience = 30 * time.Second

func parse(tb testing.TB, s string) forward.Address {
	tb.Helper()
	a, err := forward.ParseAddress(s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// listenUDP returns a socket that the test's end closes.
func listenUDP(tb testing.TB) *net.UDPConn {
	tb.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// echoDatagrams sends each datagram back to where it came from.
func echoDatagrams(c *net.UDPConn) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.WriteToUDPAddrPort(b[:n], from)
		}
	}
}

// throughDatagrams returns the two ends of a forward of datagrams to a target.
func throughDatagrams(tb testing.TB, nodes []*overlay.Mesh, target net.Addr, c forward.Config) (*forward.Forward, *forward.Expose) {
	tb.Helper()
	l, err := nodes[0].ListenWith("echo", overlay.ListenConfig{
		Kind: overlay.KindDatagram, Access: overlay.Access{Allow: []overlay.Rule{overlay.Everyone}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	e, err := forward.NewExpose(l, parse(tb, "udp:"+target.String()), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { e.Close() })
	f, err := forward.NewForward(nodes[1], "node0/echo", parse(tb, "udp:0"), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f, e
}

func dialUDP(tb testing.TB, at net.Addr) net.Conn {
	tb.Helper()
	c, err := net.Dial("udp", at.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(3 * patience))
	return c
}

// exchange sends a datagram of a size that no other flow sends and wants it back.
func exchange(c net.Conn, flow, size int) error {
	sent := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(flow), byte(flow >> 8), byte(size), byte(size >> 8)}).Read(sent)
	if _, err := c.Write(sent); err != nil {
		return err
	}
	got := make([]byte, 64<<10)
	n, err := c.Read(got)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", size, err)
	}
	if !bytes.Equal(got[:n], sent) {
		return fmt.Errorf("sent a datagram of %d bytes, and another of %d came back", size, n)
	}
	return nil
}

var datagramPaths = []struct {
	name  string
	nodes func(testing.TB, int) []*overlay.Mesh
}{
	{"unix", overlaytest.New},
	{"network", func(tb testing.TB, n int) []*overlay.Mesh { return overlaytest.NewWith(tb, n, overlaytest.Network()) }},
}

// A thousand clients at once each get back what they sent, and nothing else.
func TestThousandFlows(t *testing.T) {
	const clients = 1000
	const longest = 65507
	for _, path := range datagramPaths {
		t.Run(path.name, func(t *testing.T) {
			target := listenUDP(t)
			go echoDatagrams(target)
			f, e := throughDatagrams(t, path.nodes(t, 2), target.LocalAddr(), forward.Config{})
			conns := make([]net.Conn, clients)
			for i := range conns {
				conns[i] = dialUDP(t, f.Addr())
			}
			rounds := []struct {
				atOnce int // what the sockets' buffers have room for: what is lost there is nobody's fault
				size   func(i int) int
			}{
				{100, func(i int) int { return 16 + i%3 }},
				{100, func(int) int { return 0 }},
				{100, func(i int) int { return 1 + i%700 }},
				{2, func(i int) int { return i * longest / (clients - 1) }},
			}
			for _, r := range rounds {
				if errs := eachOf(r.atOnce, clients, func(i int) error { return exchange(conns[i], i, r.size(i)) }); errs != nil {
					t.Errorf("%d at once: %v; %+v, %+v", r.atOnce, errs, f.Stats(), e.Stats())
				}
			}
			// What has come back may not yet be counted as sent.
			waitUntil(t, "as much is sent as received", func() bool { got := f.Stats(); return got.Sent == got.Received })
			if got := f.Stats(); got.Open != clients || got.Total != clients || got.Dropped != 0 {
				t.Errorf("Forward.Stats() = %+v, want %d open and none dropped", got, clients)
			}
			if got := e.Stats(); got.Open != clients || got.Dropped != 0 {
				t.Errorf("Expose.Stats() = %+v, want %d open and none dropped", got, clients)
			}
		})
	}
}

// eachOf calls do with 0 to n-1, some at a time, and returns the first errors.
func eachOf(atOnce, n int, do func(int) error) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("client %d: %w", i, err))
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return errors.Join(errs[:min(len(errs), 5)]...)
}

// A flow that is idle ends at both ends, and another datagram begins a new one.
func TestFlowBeginsAnew(t *testing.T) {
	target := listenUDP(t)
	go echoDatagrams(target)
	f, e := throughDatagrams(t, overlaytest.New(t, 2), target.LocalAddr(), forward.Config{IdleTimeout: 200 * time.Millisecond}) // longer than a datagram takes on a busy machine
	c := dialUDP(t, f.Addr())
	for i := range uint64(3) {
		if err := exchange(c, 1, 5); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "no flow is open", func() bool { return f.Stats().Open == 0 && e.Stats().Open == 0 })
		if got := f.Stats().Total; got != i+1 {
			t.Errorf("Total = %d, want %d", got, i+1)
		}
	}
}

// waitUntil returns when something holds, which no event tells of.
func waitUntil(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("after %v it is not so that %s", patience, what)
		}
	}
}

// A target that is down is told of, and serves once it is up.
func TestDatagramTargetComesUp(t *testing.T) {
	gone := listenUDP(t)
	at := gone.LocalAddr().(*net.UDPAddr)
	gone.Close()
	f, e := throughDatagrams(t, overlaytest.New(t, 2), at, forward.Config{})
	c := dialUDP(t, f.Addr())
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the refusal is known", func() bool { return e.Stats().LastError != nil })
	target, err := net.ListenUDP("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go echoDatagrams(target)
	if err := exchange(c, 1, 5); err != nil {
		t.Error(err)
	}
	if got := e.Stats(); got.Open != 1 || got.Total != 1 {
		t.Errorf("Stats() = %+v, want the one flow", got)
	}
}

// A forward of one kind to a service of another says so.
func TestForwardOfAnotherKind(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	l, err := nodes[0].Listen("web")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := forward.NewExpose(l, parse(t, "udp:53"), forward.Config{}); err == nil {
		t.Error("NewExpose of a service of bytes with a target of UDP = nil, want an error")
	}
	f, err := forward.NewForward(nodes[1], "node0/web", parse(t, "udp:0"), forward.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, want := f.Address(), parse(t, "udp:"+f.Addr().String()); got != want {
		t.Errorf("Address() = %v, want %v", got, want)
	}
	if _, err := dialUDP(t, f.Addr()).Write(nil); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the dial has failed", func() bool { return f.Stats().Failed == 1 })
	if err := f.Stats().LastError; !errors.Is(err, overlay.ErrKind) {
		t.Errorf("LastError = %v, want %v", err, overlay.ErrKind)
	}
}
