package p2p

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

func TestErrClosedIsNetErrClosed(t *testing.T) {
	if !errors.Is(ErrClosed, net.ErrClosed) {
		t.Errorf("errors.Is(ErrClosed, net.ErrClosed) = false, want true")
	}
}

func TestMethodsAfterClose(t *testing.T) {
	n, peer := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	l, err := n.Listen("/before/1")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatalf("Close() = %v, want nil", err)
	}
	ctx := testContext(t)
	for name, call := range map[string]func() error{
		"Dial":            func() error { _, err := n.Dial(ctx, peer.ID(), "/x/1"); return err },
		"Dial of itself":  func() error { _, err := n.Dial(ctx, n.ID(), "/before/1"); return err },
		"Connect":         func() error { return n.Connect(ctx, peer.ID(), peer.Addrs()...) },
		"Connect to self": func() error { return n.Connect(ctx, n.ID()) },
		"Ping":            func() error { _, err := n.Ping(ctx, peer.ID()); return err },
		"Ping of itself":  func() error { _, err := n.Ping(ctx, n.ID()); return err },
		"Listen":          func() error { _, err := n.Listen("/x/1"); return err },
		"Disconnect":      func() error { return n.Disconnect(peer.ID()) },
		"Identified":      func() error { return n.Identified(ctx, peer.ID()) },
	} {
		err := call()
		checkIs(t, name+" after Close", err, ErrClosed)
		checkIs(t, name+" after Close", err, net.ErrClosed)
	}
	_, err = l.Accept()
	checkIs(t, "Accept after the node's Close", err, net.ErrClosed)
	if err := l.Close(); err != nil {
		t.Errorf("Listener.Close after the node's Close = %v, want nil", err)
	}
	if c := n.Connections(); len(c) != 0 {
		t.Errorf("Connections() after Close = %v, want none", c)
	}
	if err := n.Close(); err != nil {
		t.Errorf("second Close() = %v, want nil", err)
	}
	for range n.Watch(ctx) { // ends by itself
	}
}

func TestCloseFromEverywhereAtOnce(t *testing.T) {
	n, peer := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	openStream(t, n, peer)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := n.Close(); err != nil {
				t.Errorf("Close() = %v, want nil", err)
			}
		})
	}
	wg.Wait()
}

// Each of these waits when Close is called, and is freed by it.
func TestCloseFreesWhatWaits(t *testing.T) {
	for name, wait := range map[string]func(t *testing.T, n, peer *Node, waits func()) error{
		"Accept": func(t *testing.T, n, _ *Node, waits func()) error {
			l, err := n.Listen("/x/1")
			if err != nil {
				t.Fatal(err)
			}
			waits()
			_, err = l.Accept()
			return err
		},
		"Connect to a silent address": func(t *testing.T, n, _ *Node, waits func()) error {
			silent := addrs(silentTCP(t))
			waits()
			return n.Connect(testContext(t), strangerID(t), silent...)
		},
		"Dial of a silent address": func(t *testing.T, n, _ *Node, waits func()) error {
			n.kit.host.Peerstore().AddAddrs(strangerID(t), addrs(silentTCP(t)), patience)
			waits()
			_, err := n.Dial(testContext(t), strangerID(t), "/x/1")
			return err
		},
		"Watch": func(t *testing.T, n, _ *Node, waits func()) error {
			waits()
			for range n.Watch(context.Background()) {
			}
			return ErrClosed
		},
		"Read": func(t *testing.T, n, peer *Node, waits func()) error {
			s, _ := openStream(t, n, peer)
			waits()
			_, err := s.Read(make([]byte, 1))
			return errors.Join(err, ErrClosed) // checked below for ErrReset as well
		},
		"Read from itself": func(t *testing.T, n, _ *Node, waits func()) error {
			s, _ := openStream(t, n, n)
			waits()
			_, err := s.Read(make([]byte, 1))
			if !errors.Is(err, ErrReset) {
				return err
			}
			return ErrClosed
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, peer := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			waits, freed := make(chan struct{}), make(chan error, 1)
			go func() { freed <- wait(t, n, peer, func() { close(waits) }) }()
			<-waits
			n.Close()
			select {
			case err := <-freed:
				checkIs(t, name+" while the node closes", err, net.ErrClosed)
			case <-time.After(patience):
				t.Errorf("%s hangs after Close", name)
			}
		})
	}
}

func TestCloseWhileOthersDial(t *testing.T) {
	to := newTestNode(t, Config{Admission: secret("word"), Listen: addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1")})
	serveEcho(t, to, "/echo/1")
	var wg sync.WaitGroup
	began := make(chan struct{}, 8)
	for range cap(began) {
		from := newTestNode(t, Config{Admission: secret("word"), DialTimeout: 200 * time.Millisecond})
		from.kit.host.Peerstore().AddAddrs(to.ID(), to.Addrs(), patience)
		wg.Go(func() {
			began <- struct{}{}
			for range 100 {
				if echo(Plain(testContext(t)), from, to.ID(), "/echo/1") != nil {
					return // of whatever kind: the point is that nothing hangs
				}
			}
		})
	}
	<-began
	to.Close()
	wg.Wait()
}

// Whoever serves a stream may close the node.
func TestCloseFromAStreamHandler(t *testing.T) {
	t.Run("of Accept", func(t *testing.T) {
		from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
		l, err := to.Listen("/close/1")
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			if s, err := l.Accept(); err == nil {
				to.Close()
				s.Close()
			}
		}()
		s, err := from.Dial(testContext(t), to.ID(), "/close/1")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.flush()
		await(t, "Close in the goroutine that accepts", closed)
	})
	t.Run("of libp2p", func(t *testing.T) {
		from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
		closed := make(chan struct{})
		to.Host().SetStreamHandler("/close/1", func(s network.Stream) {
			defer close(closed)
			to.Close()
		})
		s, err := from.Dial(Plain(testContext(t)), to.ID(), "/close/1")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.flush()
		await(t, "Close in a libp2p stream handler", closed)
	})
}

func TestListenerIsAlone(t *testing.T) {
	n := newTestNode(t, Config{})
	l, err := n.Listen("/x/1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Addr(), (Addr{n.ID(), "/x/1"}); got != want {
		t.Errorf("Addr() = %v, want %v", got, want)
	}
	_, err = n.Listen("/x/1")
	checkText(t, "second Listen", err, "listen for /x/1: there is a listener already")
	l.Close()
	l.Close()
	again, err := n.Listen("/x/1")
	if err != nil {
		t.Fatalf("Listen after Close = %v, want nil", err)
	}
	if err := l.Close(); err != nil { // of the old one, which leaves the new one alone
		t.Errorf("third Close() = %v, want nil", err)
	}
	s, err := n.Dial(testContext(t), n.ID(), "/x/1")
	if err != nil {
		t.Fatalf("Dial of the second listener = %v, want nil", err)
	}
	defer s.Close()
	if _, err := again.Accept(); err != nil {
		t.Errorf("Accept of the second listener = %v, want nil", err)
	}
}

// Streams that nobody accepted are reset when the listener closes; accepted
// ones go on.
func TestListenerClose(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to) // its listener is closed
		if _, err := near.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 1)); err != nil {
			t.Errorf("Read of a stream whose listener is closed = %v, want nil", err)
		}
		l, err := to.Listen("/wait/1")
		if err != nil {
			t.Fatal(err)
		}
		s, err := from.Dial(testContext(t), to.ID(), "/wait/1")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.flush()
		until(t, "the stream waits to be accepted", func() bool { return len(l.pending) == 1 })
		l.Close()
		_, err = io.ReadAll(s)
		checkIs(t, "Read of a stream that was not accepted", err, ErrReset)
	})
}

// A listener holds a bounded number of streams that nobody accepts.
func TestListenerRefusesTooMany(t *testing.T) {
	n := newTestNode(t, Config{})
	l, err := n.Listen("/x/1")
	if err != nil {
		t.Fatal(err)
	}
	l.pending = make(chan *Stream, 2)
	var last *Stream
	for range 3 {
		if last, err = n.Dial(testContext(t), n.ID(), "/x/1"); err != nil {
			t.Fatal(err)
		}
		defer last.Close()
	}
	_, err = last.Read(make([]byte, 1))
	checkIs(t, "Read of the stream that was too many", err, ErrReset)
	for i := range 2 {
		s, err := l.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Errorf("Write of stream %d of those that waited = %v, want nil", i+1, err)
		}
		s.Close()
	}
}

func TestWatch(t *testing.T) {
	hub := newTestNode(t, Config{})
	var sizes []int
	for conns := range hub.Watch(testContext(t)) {
		sizes = append(sizes, len(conns))
		switch len(sizes) {
		case 1: // the present state; meanwhile much happens
			for range 3 {
				n := newTestNode(t, Config{})
				if err := n.Connect(testContext(t), hub.ID(), hub.Addrs()...); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "the hub has three connections", func() bool { return len(hub.Connections()) == 3 })
			continue
		case 2: // the newest, with nothing in between
			if err := hub.Disconnect(conns[0].Peer); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if len(conns) == 2 {
			break
		}
	}
	if len(sizes) < 3 || sizes[0] != 0 || sizes[1] != 3 || sizes[len(sizes)-1] != 2 {
		t.Errorf("Watch yielded %v connections, want 0, 3, ..., 2", sizes)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	n := newTestNode(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	yields := 0
	for range n.Watch(ctx) {
		yields++
		cancel()
	}
	if yields != 1 {
		t.Errorf("Watch yielded %d times, want once", yields)
	}
}

func TestConnections(t *testing.T) {
	hub := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws")})
	for range 2 {
		connectByEach(t, newTestNode(t, Config{}), hub)
	}
	var conns []Connection
	waitFor(t, hub, "two peers by three transports each", func(c []Connection) bool { conns = c; return len(c) == 6 })
	for i, c := range conns {
		if i > 0 && c.Peer < conns[i-1].Peer {
			t.Errorf("connection %d is with %v, after one with %v: want them in order", i, c.Peer, conns[i-1].Peer)
		}
		if want := i % 3; transportRank(c.Addr) != want {
			t.Errorf("connection %d is by %v, want that of rank %d: best first", i, c.Addr, want)
		}
		if c.Path != PathLAN || !c.Inbound || c.Since.IsZero() {
			t.Errorf("connection %d = %+v, want one by the LAN, inbound, since some time", i, c)
		}
		if got := hub.PathTo(c.Peer); got != PathLAN {
			t.Errorf("PathTo(%v) = %v, want %v", c.Peer, got, PathLAN)
		}
	}
	if got := hub.PathTo(hub.ID()); got != PathSelf {
		t.Errorf("PathTo(itself) = %v, want %v", got, PathSelf)
	}
	if got := hub.PathTo(strangerID(t)); got != PathUnknown {
		t.Errorf("PathTo(a stranger) = %v, want %v", got, PathUnknown)
	}
}

// connectByEach makes connections from one node to each address of another,
// below the swarm, which would make one.
func connectByEach(t *testing.T, from, to *Node) {
	t.Helper()
	for _, addr := range to.Addrs() {
		c, err := from.kit.swarm.TransportForDialing(addr).Dial(testContext(t), addr, to.ID())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestPing(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	if got := from.RTT(to.ID()); got != 0 {
		t.Errorf("RTT before any Ping = %v, want 0", got)
	}
	if got, err := from.Ping(testContext(t), to.ID()); got <= 0 || err != nil {
		t.Errorf("Ping = %v, %v, want more than 0", got, err)
	}
	if got := from.RTT(to.ID()); got <= 0 {
		t.Errorf("RTT after Ping = %v, want more than 0", got)
	}
	if got, err := from.Ping(testContext(t), from.ID()); got != 0 || err != nil {
		t.Errorf("Ping of itself = %v, %v, want 0", got, err)
	}
	_, err := from.Ping(testContext(t), strangerID(t))
	checkIs(t, "Ping of a stranger", err, ErrNoAddress)

	to.kit.swarm.SetStreamHandler(func(network.Stream) {})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = from.Ping(ctx, to.ID())
	checkIs(t, "Ping of a peer that does not answer", err, context.DeadlineExceeded)
}

func TestDisconnect(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	if err := from.Disconnect(to.ID()); err != nil {
		t.Errorf("Disconnect = %v, want nil", err)
	}
	for _, n := range []*Node{from, to} {
		waitFor(t, n, "none", func(c []Connection) bool { return len(c) == 0 })
	}
	if err := from.Disconnect(strangerID(t)); err != nil {
		t.Errorf("Disconnect of a stranger = %v, want nil", err)
	}
	if err := from.Connect(testContext(t), to.ID()); err != nil {
		t.Errorf("Connect after Disconnect = %v, want nil: the address is known", err)
	}
	if got := from.KnownAddrs(to.ID()); len(got) == 0 {
		t.Errorf("KnownAddrs = none, want the address that was given to Connect")
	}
}

// Connections that carry streams are the last to be closed when there are too
// many.
func TestStreamsProtectTheirConnection(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	first, _ := openStream(t, from, to)
	second, _ := openStream(t, from, to)
	held := func() bool { return from.kit.host.ConnManager().IsProtected(to.ID(), holdTag) }
	if !held() {
		t.Error("a connection with two streams is not protected")
	}
	first.Reset()
	if !held() {
		t.Error("a connection with one stream left is not protected")
	}
	second.Reset()
	if held() {
		t.Error("a connection without streams is still protected")
	}
}
