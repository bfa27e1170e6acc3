package p2p

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// spareCount returns how many carriers a node keeps for streams to a peer.
func spareCount(n, to *Node) int {
	s := n.durables.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.of[n.bestConn(to.ID())])
}

// carriersOf counts the streams of libp2p that are carriers on a connection.
func carriersOf(n, to *Node) (count int) {
	for _, s := range n.bestConn(to.ID()).GetStreams() {
		if s.Protocol() == carrierProtocol {
			count++
		}
	}
	return count
}

// over waits until two nodes have no streams any more.
func over(t *testing.T, nodes ...*Node) {
	t.Helper()
	until(t, "the streams have ended", func() bool {
		for _, n := range nodes {
			if n.openStreams() > 0 || len(n.Streams()) > 0 {
				return false
			}
		}
		return true
	})
}

// Streams that follow each other have one carrier, whichever end closes first, and each
// has its own bytes.
func TestSpareCarriesTheNext(t *testing.T) {
	for _, network := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(network[15:18], func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, network)
			for i := range 20 {
				near, far := openStream(t, from, to)
				first, second := near, far
				if i%2 == 1 {
					first, second = far, near
				}
				for _, s := range []struct{ from, to *Stream }{{first, second}, {second, first}} {
					if _, err := s.from.Write([]byte{byte(i), 1, 2}); err != nil {
						t.Fatal(err)
					}
					if err := s.from.CloseWrite(); err != nil {
						t.Fatal(err)
					}
					readsAll(t, s.to, []byte{byte(i), 1, 2})
				}
				first.Close()
				second.Close()
				over(t, from, to)
				until(t, "the carrier is kept", func() bool { return spareCount(from, to) == 1 })
			}
			for _, n := range []struct{ a, b *Node }{{from, to}, {to, from}} {
				if got := carriersOf(n.a, n.b); got != 1 {
					t.Errorf("there were %d carriers for all streams, want 1", got)
				}
			}
		})
	}
}

// Nothing of a stream comes to the next: a carrier on which bytes come again that were
// read from the one before is given up.
func TestSpareHasNothingOfTheLast(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	near, far := openStream(t, from, to)
	if _, err := far.Write([]byte("the last")); err != nil {
		t.Fatal(err)
	}
	_ = far.CloseWrite()
	c := from.bestConn(to.ID())
	err := durableOf(t, near).moveBy(testContext(t), c, nil, func(ctx context.Context, hello []byte) (network.MuxedStream, error) {
		readsAll(t, near, []byte("the last")) // and the hello says that nothing was read
		return from.openRaw(ctx, c, carrierProtocol, hello)
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = near.CloseWrite()
	readsAll(t, far, nil)
	over(t, from, to)
	near, far = openStream(t, from, to)
	_ = near.SetReadDeadline(time.Now().Add(patience))
	if _, err := far.Write([]byte("next")); err != nil {
		t.Fatal(err)
	}
	reads(t, near, []byte("next"))
}

// A carrier of a stream that did not end in order carries no other.
func TestSpareOfABrokenStream(t *testing.T) {
	for name, end := range map[string]func(near, far *Stream){
		"reset by its opener":    func(near, _ *Stream) { near.Reset() },
		"reset by the other end": func(_, far *Stream) { far.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			near, far := openStream(t, from, to)
			end(near, far)
			near.Close()
			far.Close()
			over(t, from, to)
			if got := spareCount(from, to); got != 0 {
				t.Errorf("there are %d carriers to spare, want none", got)
			}
			serveEcho(t, to, "/echo/1")
			if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
				t.Error(err)
			}
		})
	}
}

// A peer may have no more use for a carrier that waits: the next stream on it goes over
// another then.
func TestSpareThatIsGone(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	serveEcho(t, to, "/echo/1")
	for range 3 {
		if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
			t.Fatal(err)
		}
		over(t, from, to)
		for _, s := range to.bestConn(from.ID()).GetStreams() {
			if s.Protocol() == carrierProtocol {
				_ = s.Reset()
			}
		}
	}
}

// A stream that has left its carrier and has yet to hear that the peer has all asks on
// another once that one breaks: the peer may be done, and have nothing more to say.
func TestLeftCarrierBreaks(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	near, far := openStream(t, from, to)
	d := durableOf(t, near)
	func() {
		d.mu.Lock() // so that it acknowledges nothing
		defer d.mu.Unlock()
		d.end.CloseWrite()
		if _, err := d.carrier.raw.Write(d.end.Next(time.Now())); err != nil {
			t.Error(err)
		}
		_ = far.CloseWrite()
		readsAll(t, far, nil)
		under := durableOf(t, far)
		until(t, "the carrier is left", func() bool {
			under.mu.Lock()
			defer under.mu.Unlock()
			return under.left != nil
		})
		_ = d.carrier.raw.Reset()
		d.forgetLocked()
		d.dropCarrierLocked()
	}()
	over(t, from, to)
}

// An opener that has all says so on the carrier, whether another stream follows, or the
// carrier is closed, or nothing happens for a while. The other end forgets the stream.
func TestSpareSaysThatTheOpenerHasAll(t *testing.T) {
	for name, then := range map[string]func(t *testing.T, from, to *Node){
		"nothing": func(*testing.T, *Node, *Node) {},
		"the next": func(t *testing.T, from, to *Node) {
			near, far := openStream(t, from, to)
			near.Close()
			far.Close()
		},
		"its end": func(_ *testing.T, from, to *Node) {
			if raw, _ := from.durables.spares.take(from.bestConn(to.ID())); raw != nil {
				_ = raw.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			near, far := openStream(t, from, to)
			_ = near.CloseWrite()
			readsAll(t, far, nil)
			if _, err := far.Write([]byte("word")); err != nil {
				t.Fatal(err)
			}
			_ = far.CloseWrite()
			readsAll(t, near, []byte("word"))
			near.Close()
			far.Close()
			then(t, from, to)
			over(t, from, to)
		})
	}
}

// shortStream opens a stream that both ends close at once. The other end is still to hear
// that its opener has all.
func shortStream(t *testing.T, from, to *Node) *Stream {
	t.Helper()
	near, far := openStream(t, from, to)
	_ = near.CloseWrite()
	readsAll(t, far, nil)
	far.Close()
	readsAll(t, near, nil)
	near.Close()
	return near
}

// A node that closes, or disconnects a peer, says first that it has all.
func TestSpareIsGivenUpInOrder(t *testing.T) {
	for name, end := range map[string]func(from, to *Node){
		"close":      func(from, _ *Node) { from.Close() },
		"disconnect": func(from, to *Node) { _ = from.Disconnect(to.ID()) },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			shortStream(t, from, to)
			end(from, to)
			until(t, "no stream waits at the other end", func() bool { return len(to.durables.all()) == 0 })
		})
	}
}

// A stream on which nothing is written still says that the one before has ended.
func TestNextStreamSaysThatTheOpenerHasAll(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	before := shortStream(t, from, to)
	l, err := to.Listen("/test/2")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	next, err := from.Dial(testContext(t), to.ID(), "/test/2")
	if err != nil {
		t.Fatal(err)
	}
	defer next.Reset()
	until(t, "the one before is forgotten", func() bool { return to.durables.find(from.ID(), durableOf(t, before).id) == nil })
}

// A hello that comes after the one that resumes its stream changes nothing.
func TestLateFirstHello(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	until(t, "both ends have the connection", func() bool { return to.bestConn(from.ID()) != nil })
	d, err := to.durables.add(from.ID(), newStreamID(), "/test/1", false)
	if err != nil {
		t.Fatal(err)
	}
	c := to.bestConn(from.ID())
	second, first := &closedStream{}, &closedStream{}
	d.resume(&durableCarrier{epoch: 1, conn: c, raw: second}, durable.Hello{ID: d.id, Resume: true, Epoch: 1, Protocol: "/test/1"})
	s := d.begin(&durableCarrier{conn: c, raw: first})
	until(t, "the first is reset", first.reset.Load)
	d.mu.Lock()
	if d.carrier == nil || d.carrier.raw != network.MuxedStream(second) {
		t.Error("the carrier is not the one that resumed the stream")
	}
	d.mu.Unlock()
	s.Reset()
}

// What has ended does not begin again, whatever comes late.
func TestEndedStreamDoesNotBeginAgain(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	near, far := openStream(t, from, to)
	id := durableOf(t, near).id
	_ = near.CloseWrite()
	_ = far.CloseWrite()
	readsAll(t, far, nil)
	readsAll(t, near, nil)
	over(t, from, to)
	l, err := to.Listen("/test/1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := durable.Hello{ID: id, Resume: true, Epoch: 1, Protocol: "/test/1", Age: time.Second}
	raw, err := from.openRaw(testContext(t), from.bestConn(to.ID()), carrierProtocol, h.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	raw.(*namer).Flush()
	if got, err := durable.ReadAnswer(raw); err != nil || got != (durable.Answer{Gone: true, Code: durable.CodeUnknown}) {
		t.Errorf("the answer is %+v, %v, want that it is gone", got, err)
	}
	_ = raw.Close()
	if raw, err = from.openRaw(testContext(t), from.bestConn(to.ID()), carrierProtocol, durable.Hello{ID: id, Protocol: "/test/1"}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	_, err = raw.Read(make([]byte, 1))
	checkIs(t, "Read on one that begins it anew", err, network.ErrReset)
}

// Only so many are kept, and those of a connection that is closed are not.
func TestSparesAreBounded(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	var near, far []*Stream
	for range maxSpares + 20 {
		n, f := openStream(t, from, to)
		near, far = append(near, n), append(far, f)
	}
	closeAll(near, far)
	over(t, from, to)
	until(t, "as many are kept as may be", func() bool { return spareCount(from, to) == maxSpares })
	until(t, "the others are closed", func() bool { return carriersOf(to, from) == maxSpares })
	_ = from.bestConn(to.ID()).Close()
	until(t, "none is left", func() bool {
		s := from.durables.spares
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.of) == 0
	})
}

// A stream that has no carrier yet, or has left it, wants none.
func TestStreamsThatWantNoCarrier(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	d, err := from.durables.add(to.ID(), newStreamID(), "/test/1", true)
	if err != nil {
		t.Fatal(err)
	}
	if got := from.durables.wanting(to.ID(), from.bestConn(to.ID())); len(got) > 0 {
		t.Errorf("%d streams want a carrier, want none", len(got))
	}
	d.end.Lost(0, time.Now())
	if got := from.durables.wanting(to.ID(), from.bestConn(to.ID())); len(got) != 1 {
		t.Errorf("%d streams want a carrier, want the one that has lost it", len(got))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgetLocked()
}

// What begins on a used carrier is a new stream, and nothing else.
func TestSpareThatResumes(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	serveEcho(t, to, "/echo/1")
	if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
		t.Fatal(err)
	}
	over(t, from, to)
	until(t, "the carrier is kept", func() bool { return spareCount(from, to) == 1 })
	raw, _ := from.durables.spares.take(from.bestConn(to.ID()))
	if _, err := raw.Write(durable.Hello{ID: newStreamID(), Resume: true, Epoch: 1}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadAll(raw)
	checkIs(t, "Read", err, network.ErrReset)
}

// Those that nobody needs are closed after a while, the others stay.
func TestSparesAge(t *testing.T) {
	from, _ := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	conn := from.kit.swarm.Conns()[0]
	synctest.Test(t, func(t *testing.T) {
		s := &spares{start: func(f func()) bool { f(); return true }}
		defer s.close()
		old, young := &closedStream{}, &closedStream{}
		s.keep(conn, old, false)
		time.Sleep(spareFor / 2) //nolint:forbidigo // it is synctest's time
		s.keep(conn, young, false)
		time.Sleep(spareFor/2 + time.Millisecond) //nolint:forbidigo // it is synctest's time
		synctest.Wait()
		if got, _ := s.take(conn); got != network.MuxedStream(young) || len(s.of) > 0 {
			t.Errorf("%v is left, and %d more, want the young one", got, len(s.of))
		}
	})
}

// A closedStream is a stream of which nothing comes.
type closedStream struct {
	network.MuxedStream
	reset atomic.Bool
}

func (*closedStream) Close() error                     { return nil }
func (*closedStream) Write(p []byte) (int, error)      { return len(p), nil }
func (*closedStream) Read([]byte) (int, error)         { return 0, network.ErrReset }
func (*closedStream) SetDeadline(time.Time) error      { return nil }
func (*closedStream) SetReadDeadline(time.Time) error  { return nil }
func (*closedStream) SetWriteDeadline(time.Time) error { return nil }

func (s *closedStream) Reset() error {
	s.reset.Store(true)
	return nil
}
