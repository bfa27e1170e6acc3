package p2p

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/p2p/durable"
)

// A stream goes on when its connection is closed under it, whichever end opened it and
// whichever closes that.
func TestDurableOutlivesItsConnection(t *testing.T) {
	for _, way := range durableWays {
		for who := range 4 {
			opener, cutter := who&1, who>>1
			t.Run(fmt.Sprintf("%s opened by %d cut by %d", way.name, opener, cutter), func(t *testing.T) {
				t.Parallel()
				from, to := way.pair(t)
				awaitPeers(t, from, to)
				nodes := [2]*Node{from, to}
				near, far := openStream(t, nodes[opener], nodes[1-opener])
				k := newEndlessTalk(t, near, far)
				k.hear(4 << 20)
				until(t, "the connection is cut", func() bool { return cut([]*Stream{near, far}[opener^cutter]) })
				k.hear(4 << 20)
				k.finish()
				for _, n := range nodes {
					until(t, "the stream is forgotten", func() bool { return len(n.Streams()) == 0 })
					if got := n.durables.resumes.Load() + n.durables.moves.Load(); got == 0 {
						t.Error("no resume is counted, want one at least")
					}
				}
			})
		}
	}
}

// awaitPeers waits until each of two nodes has a connection to the other, and knows
// where that may be reached when there is none.
func awaitPeers(t testing.TB, a, b *Node) {
	t.Helper()
	for _, n := range []struct{ at, of *Node }{{a, b}, {b, a}} {
		waitFor(t, n.at, "one to the other", func([]Connection) bool { return n.at.bestConn(n.of.ID()) != nil })
		if err := n.at.Identified(testContext(t), n.of.ID()); err != nil {
			t.Fatal(err)
		}
	}
}

// durableWays are the ways of streams that outlive their connections.
var durableWays = []struct {
	name string
	pair func(testing.TB) (from, to *Node)
}{
	{"tcp", func(t testing.TB) (_, _ *Node) { return newTestPair(t, "/ip4/127.0.0.1/tcp/0") }},
	{"quic", func(t testing.TB) (_, _ *Node) { return newTestPair(t, "/ip4/127.0.0.1/udp/0/quic-v1") }},
	{"ws", func(t testing.TB) (_, _ *Node) { return newTestPair(t, "/ip4/127.0.0.1/tcp/0/ws") }},
	{"relay", func(t testing.TB) (from, to *Node) {
		from, _, to = newThrough(t, Relay{})
		return from, to
	}},
}

// It does so again and again, wherever it is when that happens.
func TestDurableOutlivesManyConnections(t *testing.T) {
	for _, way := range durableWays {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			from, to := way.pair(t)
			near, far := openStream(t, from, to)
			k := newEndlessTalk(t, near, far)
			for range 50 {
				k.hear(rand.Int64N(256 << 10))
				until(t, "the connection is cut", func() bool { return cut([]*Stream{near, far}[rand.IntN(2)]) })
			}
			k.hear(1 << 20)
			k.finish()
		})
	}
}

// Talks of any length, in any pieces, under any number of cuts.
func TestDurableAtRandom(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(uint64(seed), 0))
			from, to := durableWays[r.IntN(3)].pair(t)
			awaitPeers(t, from, to)
			nodes := [2]*Node{from, to}
			if r.IntN(2) == 0 {
				nodes = [2]*Node{to, from}
			}
			near, far := openStream(t, nodes[0], nodes[1])
			size := [2]int64{r.Int64N(1 << (5 + r.IntN(18))), r.Int64N(1 << (5 + r.IntN(18)))}
			k := newTalk(t, near, far, size, 1+r.IntN(1<<(6+r.IntN(12))))
			for range r.IntN(12) {
				k.hear(r.Int64N(1 + max(size[0], size[1])/8))
				cut([]*Stream{near, far}[r.IntN(2)])
			}
			k.work.Wait()
			near.Close()
			far.Close()
			for _, n := range nodes {
				until(t, "the stream is forgotten", func() bool { return len(n.Streams()) == 0 })
				if got := n.durables.budget.Used(); got != 0 {
					t.Errorf("%d bytes of memory are held at the end, want 0", got)
				}
			}
		})
	}
}

// Short streams that follow each other keep apart, and are forgotten, also where
// connections are closed as they end.
func TestDurableEndsUnderCuts(t *testing.T) {
	for _, way := range durableWays[:3] {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			from, to := way.pair(t)
			awaitPeers(t, from, to)
			nodes := [2]*Node{from, to}
			for range 50 {
				opener := rand.IntN(2)
				near, far := openStream(t, nodes[opener], nodes[1-opener])
				size := [2]int64{rand.Int64N(5000), rand.Int64N(5000)}
				k := newTalk(t, near, far, size, 1+rand.IntN(2000))
				for range rand.IntN(3) {
					k.hear(rand.Int64N(1 + max(size[0], size[1])))
					cut([]*Stream{near, far}[rand.IntN(2)])
				}
				k.work.Wait()
				near.Close()
				far.Close()
				if rand.IntN(2) == 0 {
					cutConns(nodes[opener], nodes[1-opener])
				}
				over(t, from, to)
			}
		})
	}
}

// What is called while there is no connection has its effect then, or on the next one.
func TestDurableWithoutACarrier(t *testing.T) {
	big := bytes.Repeat([]byte("words "), 1<<15)
	aborted := errors.New("aborted")
	for _, tt := range []struct {
		name     string
		apart    func(t *testing.T, here *Stream) // while there is no connection
		together func(t *testing.T, here, there *Stream)
	}{
		{"deadlines pass", func(t *testing.T, here *Stream) {
			_ = here.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, err := here.Read(make([]byte, 1))
			checkIs(t, "Read", err, os.ErrDeadlineExceeded)
			_ = here.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			for err = nil; err == nil; {
				_, err = here.Write(big)
			}
			checkIs(t, "Write", err, os.ErrDeadlineExceeded)
			_, err = here.Write([]byte("x"))
			checkIs(t, "Write after its deadline", err, os.ErrDeadlineExceeded)
			_ = here.SetDeadline(time.Time{})
		}, func(t *testing.T, here, there *Stream) {
			readsPattern(t, there, big, 1)
			here.Close()
		}},
		{"bytes are written", func(t *testing.T, here *Stream) {
			if _, err := here.Write(big); err != nil {
				t.Errorf("Write = %v, want nil while there is room", err)
			}
		}, func(t *testing.T, here, there *Stream) {
			reads(t, there, big)
		}},
		{"the side is closed", func(t *testing.T, here *Stream) {
			if err := here.CloseWrite(); err != nil {
				t.Errorf("CloseWrite = %v", err)
			}
			_, err := here.Write([]byte("x"))
			checkIs(t, "Write after CloseWrite", err, net.ErrClosed)
		}, func(t *testing.T, here, there *Stream) {
			readsAll(t, there, nil)
			if _, err := there.Write(big); err != nil {
				t.Error(err)
			}
			_ = there.Close()
			readsAll(t, here, big)
		}},
		{"it is closed with bytes under way", func(t *testing.T, here *Stream) {
			if _, err := here.Write(big); err != nil {
				t.Error(err)
			}
			if err := here.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			_, err := here.Read(make([]byte, 1))
			checkIs(t, "Read after Close", err, net.ErrClosed)
		}, func(t *testing.T, _, there *Stream) {
			readsAll(t, there, big)
			there.Close()
		}},
		{"it is given up", func(_ *testing.T, here *Stream) { here.Reset() }, func(t *testing.T, here, there *Stream) {
			_, err := there.Read(make([]byte, 1))
			checkIs(t, "Read at the other end", err, ErrReset)
			_, err = there.Write([]byte("x"))
			checkIs(t, "Write at the other end", err, ErrReset)
			_, err = here.Read(make([]byte, 1))
			checkIs(t, "own Read", err, net.ErrClosed)
		}},
		{"it is given up for a reason", func(_ *testing.T, here *Stream) { _ = here.Abort(aborted) }, func(t *testing.T, here, there *Stream) {
			_, err := there.Read(make([]byte, 1))
			checkIs(t, "Read at the other end", err, ErrReset)
			_, err = here.Read(make([]byte, 1))
			checkIs(t, "own Read", err, aborted)
		}},
	} {
		for _, end := range []string{"opener", "acceptor"} {
			t.Run(tt.name+" at the "+end, func(t *testing.T) {
				t.Parallel()
				from, to, d := newDoorPair(t, Config{})
				here, there := openStream(t, from, to)
				if end == "acceptor" {
					here, there = there, here
				}
				d.part(t, from, to)
				if !here.Broken() || here.Path() != PathLAN {
					t.Errorf("Broken() = %v, Path() = %v, want true and the last path", here.Broken(), here.Path())
				}
				tt.apart(t, here)
				d.meet(t, from, to)
				_ = there.SetDeadline(time.Now().Add(patience))
				tt.together(t, here, there)
			})
		}
	}
}

// reads expects bytes to come next.
func reads(t testing.TB, s *Stream, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Read = %d bytes, %v, want the %d that were written", n, err, len(want))
	}
}

// readsPattern expects at least so many times the same bytes to come next.
func readsPattern(t testing.TB, s *Stream, want []byte, times int) {
	t.Helper()
	for range times {
		reads(t, s, want)
	}
}

// readsAll expects bytes and the end.
func readsAll(t testing.TB, s *Stream, want []byte) {
	t.Helper()
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAll = %d bytes, %v, want the %d that were written", len(got), err, len(want))
	}
}

// Who waits in Read or Write while there is no connection is freed by what ends it.
func TestDurableWaitsAreFreed(t *testing.T) {
	for _, call := range []struct {
		name string
		call func(*Stream) error
	}{
		{"Read", func(s *Stream) error { _, err := s.Read(make([]byte, 1)); return err }},
		{"Write", func(s *Stream) error { _, err := s.Write(make([]byte, 64<<20)); return err }},
		{"ReadFrom", func(s *Stream) error { _, err := io.Copy(s, words(0)); return err }},
	} {
		for _, free := range []struct {
			name string
			free func(*Stream)
			want error
		}{
			{"Close", func(s *Stream) { s.Close() }, net.ErrClosed},
			{"Reset", func(s *Stream) { s.Reset() }, net.ErrClosed},
			{"a deadline", func(s *Stream) { _ = s.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
			{"its node's Close", func(s *Stream) { s.node.Close() }, ErrReset},
		} {
			t.Run(call.name+" by "+free.name, func(t *testing.T) {
				t.Parallel()
				from, to, d := newDoorPair(t, Config{})
				near, _ := openStream(t, from, to)
				under := durableOf(t, near)
				d.part(t, from, to)
				freed := make(chan error, 1)
				go func() { freed <- call.call(near) }()
				until(t, "it waits", func() bool {
					under.mu.Lock()
					defer under.mu.Unlock()
					return under.wake != nil
				})
				free.free(near)
				select {
				case err := <-freed:
					checkIs(t, call.name, err, free.want)
				case <-time.After(patience):
					t.Errorf("%s hangs", call.name)
				}
			})
		}
	}
}

// Both ends give up who has not come back in time, and say so.
func TestDurableTimeLimit(t *testing.T) {
	t.Parallel()
	from, to, d := newDoorPair(t, Config{StreamLimit: 100 * time.Millisecond})
	near, far := openStream(t, from, to)
	d.part(t, from, to)
	for name, s := range map[string]*Stream{"opener": near, "acceptor": far} {
		for range 2 {
			_, err := s.Read(make([]byte, 1))
			checkIs(t, name+": Read", err, ErrReset)
			checkIs(t, name+": Read", err, durable.ErrTimeLimit)
			_, err = s.Write([]byte("x"))
			checkIs(t, name+": Write", err, durable.ErrTimeLimit)
		}
	}
}
