package p2p

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A closing is an Admission that admits everybody until it is closed.
type closing struct{ closed atomic.Bool }

func (*closing) Proof(peer.ID) []byte { return []byte("me") }

func (a *closing) Check(peer.ID, []byte) error {
	if a.closed.Load() {
		return errWrongWord
	}
	return nil
}

// newSinglePair returns two nodes that are connected by TCP, and where streams come out
// that the one opens to the other.
func newSinglePair(t *testing.T, a, b Config) (from, to *Node, arrived <-chan network.MuxedStream) {
	t.Helper()
	from, to = bulkOf(newTestNode(t, a)), bulkOf(newTestNode(t, b))
	connected(t, from, to)
	until(t, "both ends have the connection", func() bool { return to.bestConn(from.ID()) != nil })
	return from, to, singlesOf(t, to, from)
}

// singlesOf returns where streams come out that a peer opens.
func singlesOf(t testing.TB, to, from *Node) <-chan network.MuxedStream {
	ch := make(chan network.MuxedStream, 1)
	to.singles.mu.Lock()
	defer to.singles.mu.Unlock()
	to.singles.accept = func(c network.Conn, s network.MuxedStream) {
		if id := c.RemotePeer(); id != from.ID() {
			t.Errorf("a stream of %v, want of %v", id, from.ID())
		}
		ch <- s
	}
	return ch
}

func countSingles(n *Node) int {
	n.singles.mu.Lock()
	defer n.singles.mu.Unlock()
	all := 0
	for _, of := range n.singles.all {
		all += len(of)
	}
	return max(all, n.singles.count) // which are the same
}

// openSingle returns both ends of a stream with a connection of its own.
func openSingle(t *testing.T, from, to *Node, arrived <-chan network.MuxedStream) (here, there network.MuxedStream) {
	t.Helper()
	here, err := from.singles.open(testContext(t), from.bestConn(to.ID()), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Reset() })
	select {
	case there = <-arrived:
	case <-testContext(t).Done():
		t.Fatal("no stream has come")
	}
	t.Cleanup(func() { there.Reset() })
	return here, there
}

func TestSingleCarriesAllAndEnds(t *testing.T) {
	from, to, arrived := newSinglePair(t, Config{}, Config{})
	here, there := openSingle(t, from, to, arrived)
	if conns := from.Connections(); len(conns) != 1 {
		t.Errorf("libp2p has %d connections, want the one that it had", len(conns))
	}
	want := make([]byte, 8<<20)
	rand.Read(want)
	sent := make(chan error, 2)
	for _, s := range []network.MuxedStream{here, there} {
		go func() {
			_, err := io.Copy(s, readerOf(bytes.NewReader(want), 300<<10))
			sent <- errors.Join(err, s.CloseWrite())
		}()
	}
	for _, s := range []network.MuxedStream{here, there} {
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, %v, want the %d that were written", len(got), err, len(want))
		}
	}
	if err := errors.Join(<-sent, <-sent); err != nil {
		t.Error(err)
	}
	here.Close()
	there.Close()
	until(t, "nothing is left of it", func() bool {
		return countSingles(from) == 0
	})
}

// Each way in which one end can go, but for the orderly one, is an error at the other.
func TestSingleBreaks(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(from, to *Node, s network.MuxedStream) error
	}{
		{"reset", func(_, _ *Node, s network.MuxedStream) error { return s.Reset() }},
		{"disconnected", func(from, to *Node, _ network.MuxedStream) error { return from.Disconnect(to.ID()) }},
		{"disconnected by the other", func(from, to *Node, _ network.MuxedStream) error { return to.Disconnect(from.ID()) }},
		{"node closed", func(from, _ *Node, _ network.MuxedStream) error { return from.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to, arrived := newSinglePair(t, Config{}, Config{})
			here, there := openSingle(t, from, to, arrived)
			if _, err := here.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(there, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := tt.end(from, to, here); err != nil {
				t.Fatal(err)
			}
			_, err := there.Read(make([]byte, 1))
			checkIs(t, "Read at the other end", err, network.ErrReset)
		})
	}
}

func TestSingleIsAdmitted(t *testing.T) {
	for _, side := range []string{"dialed", "dialing"} {
		t.Run("the "+side+" end refuses", func(t *testing.T) {
			a, b := &closing{}, &closing{}
			from, to, arrived := newSinglePair(t, Config{Admission: a}, Config{Admission: b})
			if side == "dialing" {
				a.closed.Store(true)
			} else {
				b.closed.Store(true)
			}
			if _, err := from.singles.open(testContext(t), from.bestConn(to.ID()), true); !errors.As(err, new(*RefusedError)) {
				t.Errorf("open = %v, want a refusal", err)
			}
			if side == "dialed" && len(arrived) > 0 {
				t.Error("the stream came out")
			}
		})
	}
	t.Run("both admit", func(t *testing.T) {
		from, to, arrived := newSinglePair(t, Config{Admission: secret("word")}, Config{Admission: secret("word")})
		here, there := openSingle(t, from, to, arrived)
		if _, err := there.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(here, got); err != nil || string(got) != "hello" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

// The end that was dialed opens one too, to where the other listens.
func TestSingleOpenedByTheDialedEnd(t *testing.T) {
	to, from, arrived := newSinglePair(t, Config{}, Config{})
	ch := singlesOf(t, to, from)
	until(t, "where the other listens is known", func() bool { return len(from.singles.addrs(from.bestConn(to.ID()))) > 0 })
	openSingle(t, from, to, ch)
	if len(arrived) > 0 {
		t.Error("it came out at the wrong end")
	}
}

func TestNoSingle(t *testing.T) {
	quic := Config{Listen: addrs("/ip4/127.0.0.1/udp/0/quic-v1")}
	from, to, _ := newSinglePair(t, quic, quic)
	_, err := from.singles.open(testContext(t), from.bestConn(to.ID()), true)
	checkIs(t, "open to a peer by QUIC", err, errNoSingle)
}

// What does not begin as a carrier does is reset.
func TestSingleOfNoStream(t *testing.T) {
	from, to := bulkOf(newTestNode(t, Config{})), newTestNode(t, Config{})
	connected(t, from, to)
	s, err := from.singles.open(testContext(t), from.bestConn(to.ID()), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if _, err := s.Write([]byte("GET / HTTP/1.1")); err != nil {
		t.Fatal(err)
	}
	_, err = s.Read(make([]byte, 1))
	checkIs(t, "Read", err, network.ErrReset)
}

// A deadline that has passed before a Write breaks nothing.
func TestSingleWriteDeadline(t *testing.T) {
	from, to, arrived := newSinglePair(t, Config{}, Config{})
	here, there := openSingle(t, from, to, arrived)
	_ = here.SetDeadline(time.Unix(1, 0))
	_, err := here.Write([]byte("late"))
	checkIs(t, "Write", err, os.ErrDeadlineExceeded)
	_, err = here.Read(make([]byte, 1))
	checkIs(t, "Read", err, os.ErrDeadlineExceeded)
	_ = here.SetDeadline(time.Time{})
	if _, err := here.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(there, got); err != nil || string(got) != "word" {
		t.Errorf("read %q, %v", got, err)
	}
	_ = here.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for err = nil; err == nil; {
		_, err = here.Write(make([]byte, 1<<20))
	}
	if checkIs(t, "Write that a deadline meets", err, network.ErrReset); timedOut(err) {
		t.Errorf("it may be tried again: %v", err)
	}
}

// Bulk over a stream beside others and over one with a connection of its own, both in
// this process.
func BenchmarkBulk(b *testing.B) {
	from, to := bulkOf(newTestNode(b, Config{})), newTestNode(b, Config{})
	connected(b, from, to)
	l, err := to.Listen("/bulk/1")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	ch := singlesOf(b, to, from)
	b.Run("muxed", func(b *testing.B) {
		s, err := from.Dial(testContext(b), to.ID(), "/bulk/1")
		if err != nil {
			b.Fatal(err)
		}
		defer s.Reset()
		if _, err := s.Write(nil); err != nil {
			b.Fatal(err)
		}
		s.flush()
		there, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		benchmarkBulk(b, s, there)
	})
	b.Run("single", func(b *testing.B) {
		s, err := from.singles.open(testContext(b), from.bestConn(to.ID()), true)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Reset()
		benchmarkBulk(b, s, <-ch)
	})
}

// What it costs to make one, at both ends, with admission.
func BenchmarkSingle(b *testing.B) {
	c := Config{Admission: secret("word")}
	from, to := bulkOf(newTestNode(b, c)), newTestNode(b, c)
	connected(b, from, to)
	until(b, "both ends have the connection", func() bool { return to.bestConn(from.ID()) != nil })
	ch := singlesOf(b, to, from)
	for b.Loop() {
		s, err := from.singles.open(b.Context(), from.bestConn(to.ID()), true)
		if err != nil {
			b.Fatal(err)
		}
		s.Reset()
		(<-ch).Reset()
	}
}

func benchmarkBulk(b *testing.B, w io.Writer, r io.Reader) {
	block := make([]byte, 256<<10)
	b.SetBytes(int64(len(block)))
	got := make(chan error, 1)
	go func() {
		left := int64(b.N) * int64(len(block))
		for buf := make([]byte, len(block)); left > 0; {
			n, err := r.Read(buf)
			if left -= int64(n); err != nil {
				got <- err
				return
			}
		}
		got <- nil
	}()
	for range b.N {
		if _, err := w.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-got; err != nil {
		b.Fatal(err)
	}
}
