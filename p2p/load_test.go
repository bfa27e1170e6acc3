package p2p

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// manyStreams is how many streams two nodes keep open at once over TCP. With 5000 the
// race detector had two cores so busy that a connection was closed now and then, since it
// took no notes for seconds; e2e/measure has as many without it.
const manyStreams = 1500

func TestManyStreamsAtOnce(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	l, err := to.Listen("/many/1")
	if err != nil {
		t.Fatal(err)
	}
	goroutines := warmUp(t, from, to, l)
	// The first round is for what the runtime keeps of so many goroutines.
	var heap [2]uint64
	for round := range heap {
		began := time.Now()
		near, far := openMany(t, from, to, l, func() {})
		t.Logf("%d streams opened and answered, %.0f a second", manyStreams, manyStreams/time.Since(began).Seconds())
		if got := from.openStreams(); got != manyStreams {
			t.Errorf("openStreams() = %d, want %d", got, manyStreams)
		}
		closeAll(near, far)
		until(t, "all streams are closed", func() bool { return from.openStreams() == 0 && to.openStreams() == 0 })
		until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
		heap[round] = heapInUse()
	}
	if before, after := heap[0], heap[1]; after > before+max(before/10, 1<<20) {
		t.Errorf("heap with all streams closed = %d KiB, want about the %d KiB of the round before", after>>10, before>>10)
	}
}

// Streams wait for a program that is slow to accept them, and none is lost.
func TestManyStreamsAwaitAccept(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	l, err := to.Listen("/many/1")
	if err != nil {
		t.Fatal(err)
	}
	near, far := openMany(t, from, to, l, func() {
		until(t, "all streams wait to be accepted", func() bool { return len(l.pending) == manyStreams })
	})
	closeAll(near, far)
}

// openMany opens streams, all at the same time, and sends one byte there and
// back on each. Far ends are accepted once ready returns.
func openMany(t *testing.T, from, to *Node, l *Listener, ready func()) (near, far []*Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // and not kept until the test ends
	defer cancel()
	near = make([]*Stream, manyStreams)
	failed := make(chan error, 1) // what failed first
	var wg sync.WaitGroup
	for i := range near {
		wg.Go(func() {
			var err error
			if near[i], err = dialAndAsk(ctx, from, to, byte(i)); err != nil {
				select {
				case failed <- err:
				default:
				}
				l.Close() // or it is waited for
			}
		})
	}
	ready()
	for range manyStreams {
		s, err := l.AcceptStream()
		if err != nil {
			break
		}
		far = append(far, s)
		wg.Go(func() { _, _ = io.CopyN(s, s, 1) })
	}
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatalf("a stream of %d: %v", manyStreams, err)
	default:
	}
	return near, far
}

func dialAndAsk(ctx context.Context, from, to *Node, question byte) (*Stream, error) {
	s, err := from.Dial(ctx, to.ID(), "/many/1")
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte{question}); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(s, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != question {
		return nil, errors.New("wrong answer")
	}
	return s, nil
}

// warmUp opens and closes one stream. It returns how many goroutines there are
// then.
func warmUp(t *testing.T, from, to *Node, l *Listener) int {
	t.Helper()
	near, err := from.Dial(testContext(t), to.ID(), "/many/1")
	if err != nil {
		t.Fatal(err)
	}
	near.flush()
	far, err := l.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	closeAll([]*Stream{near}, []*Stream{far})
	until(t, "the first stream is closed", func() bool { return from.openStreams() == 0 && to.openStreams() == 0 })
	for _, n := range []*Node{from, to} { // whose goroutines are busy yet
		for _, c := range n.kit.swarm.Conns() {
			<-n.kit.host.IDService().IdentifyWait(c)
		}
	}
	return runtime.NumGoroutine()
}

func closeAll(lists ...[]*Stream) {
	for _, l := range lists {
		for _, s := range l {
			s.Close()
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// go-libp2p lets a peer have no more than 256 streams open on a QUIC connection.
func TestManyStreamsOverQUIC(t *testing.T) {
	const streams = 1000
	from, to := newTestPair(t, "/ip4/127.0.0.1/udp/0/quic-v1")
	l, err := to.Listen("/many/1")
	if err != nil {
		t.Fatal(err)
	}
	var near, far []*Stream
	for i := range streams {
		s, err := from.Dial(testContext(t), to.ID(), "/many/1")
		if err != nil {
			t.Fatalf("Dial of stream %d = %v, want nil", i+1, err)
		}
		s.flush()
		a, err := l.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		near, far = append(near, s), append(far, a)
	}
	closeAll(near, far)
}

// Nodes behind one address come back all at once, and all get in.
func TestManyNodesFromOneAddress(t *testing.T) {
	const nodes = 40
	hub := newTestNode(t, Config{Admission: secret("word")})
	serveEcho(t, hub, "/echo/1")
	ctx := testContext(t)
	errs := make([]error, nodes)
	var wg sync.WaitGroup
	for i := range errs {
		n := newTestNode(t, Config{Admission: secret("word")})
		n.kit.host.Peerstore().AddAddrs(hub.ID(), hub.Addrs(), patience)
		wg.Go(func() { errs[i] = echo(ctx, n, hub.ID(), "/echo/1") })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("node %d: %v", i, err)
		}
	}
	peers := map[peer.ID]bool{}
	for _, c := range hub.Connections() {
		peers[c.Peer] = true
	}
	if len(peers) != nodes {
		t.Errorf("the hub has connections to %d nodes, want %d", len(peers), nodes)
	}
}
