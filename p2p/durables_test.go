package p2p

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"os"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/p2p/durable"
)

// A peer that was started anew says at once that it knows nothing of a stream, whichever
// end that is.
func TestDurablePeerRestarted(t *testing.T) {
	for name, opener := range map[string]bool{"the opener": true, "the acceptor": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			d := new(door)
			c := Config{Key: key, Admission: d}
			dies, stays := newTestNode(t, c), newTestNode(t, Config{Admission: d})
			if err := stays.Connect(testContext(t), dies.ID(), dies.Addrs()...); err != nil {
				t.Fatal(err)
			}
			awaitPeers(t, dies, stays)
			from, to := stays, dies
			if opener {
				from, to = dies, stays
			}
			near, far := openStream(t, from, to)
			left := near
			if opener {
				left = far
			}
			if _, err := far.Write([]byte("word")); err != nil {
				t.Fatal(err)
			}
			reads(t, near, []byte("word")) // or it is taken for one that did not arrive
			d.part(t, dies, stays)         // so that it can't say goodbye
			dies.Close()
			again := newTestNode(t, c)
			d.meet(t, stays, again)
			for range 2 {
				_, err = left.Read(make([]byte, 1))
				checkIs(t, "Read", err, ErrReset)
				checkIs(t, "Read", err, durable.ErrUnknown)
				_, err = left.Write([]byte("x"))
				checkIs(t, "Write", err, durable.ErrUnknown)
			}
			if got := stays.StreamTotals().Unknown; got != 1 {
				t.Errorf("%d streams are counted as lost, want 1", got)
			}
		})
	}
}

// An end that gave up for want of a carrier tells the other why, once it is there.
func TestDurableTimeLimitOfOneEnd(t *testing.T) {
	for name, opener := range map[string]bool{"the opener's": true, "the acceptor's": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := new(door)
			short := newTestNode(t, Config{Admission: d, StreamLimit: 50 * time.Millisecond})
			ever := newTestNode(t, Config{Admission: d, StreamLimit: -1})
			if err := short.Connect(testContext(t), ever.ID(), ever.Addrs()...); err != nil {
				t.Fatal(err)
			}
			awaitPeers(t, short, ever)
			from, to := ever, short
			if opener {
				from, to = short, ever
			}
			near, far := openStream(t, from, to)
			gave, left := far, near
			if opener {
				gave, left = near, far
			}
			d.part(t, short, ever)
			_, err := gave.Read(make([]byte, 1))
			checkIs(t, "Read of who gives up", err, durable.ErrTimeLimit)
			under := durableOf(t, left)
			under.mu.Lock()
			if under.expiry != nil || under.gone {
				t.Error("the other end has a limit, want none")
			}
			under.mu.Unlock()
			d.meet(t, short, ever)
			_, err = left.Read(make([]byte, 1))
			checkIs(t, "Read of the other", err, ErrReset)
			checkIs(t, "Read of the other", err, durable.ErrTimeLimit)
		})
	}
}

func TestStreamLimits(t *testing.T) {
	for _, tt := range []struct{ in, want time.Duration }{
		{0, 5 * time.Minute}, {-1, 0}, {time.Second, time.Second},
	} {
		c, err := Config{StreamLimit: tt.in}.withDefaults()
		if err != nil || c.StreamLimit != tt.want {
			t.Errorf("StreamLimit %v = %v, %v, want %v", tt.in, c.StreamLimit, err, tt.want)
		}
	}
	if _, err := (Config{StreamMemory: -1}).withDefaults(); err == nil {
		t.Error("a negative StreamMemory = nil, want an error")
	}
}

// Streams that nobody reads hold no more memory than there is for them, leave some to
// those of other peers, and give all back.
func TestStreamMemory(t *testing.T) {
	t.Parallel()
	const memory, streams = 4 << 20, 16
	from := newTestNode(t, Config{StreamMemory: memory})
	slow, other := newTestNode(t, Config{}), newTestNode(t, Config{})
	for _, n := range []*Node{slow, other} {
		if err := from.Connect(testContext(t), n.ID(), n.Addrs()...); err != nil {
			t.Fatal(err)
		}
	}
	piece, wrote := bytes.Repeat([]byte("word"), 4<<10), make([]int, streams)
	near, far := make([]*Stream, streams), make([]*Stream, streams)
	for i := range near {
		near[i], far[i] = openStream(t, from, slow)
		n, err := near[i].Write([]byte("word")) // for which there is always room
		if wrote[i] = n; err != nil {
			t.Errorf("stream %d: Write = %v", i, err)
		}
		_ = near[i].SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		for {
			n, err := near[i].Write(piece)
			if wrote[i] += n; err != nil {
				checkIs(t, "Write", err, os.ErrDeadlineExceeded)
				break
			}
		}
	}
	held := 0
	for _, s := range from.Streams() {
		held += s.Held
	}
	const own = 16 << 10 // of each, as Config says
	if most := memory/4 + streams*own; held > most || held == 0 {
		t.Errorf("%d bytes are held for a peer that does not read, want at most %d", held, most)
	}
	near1, far1 := openStream(t, from, other)
	k := newEndlessTalk(t, near1, far1)
	k.hear(4 << 20)
	k.finish()
	for i := range near {
		_ = near[i].CloseWrite()
		if n, err := io.Copy(io.Discard, far[i]); err != nil || n != int64(wrote[i]) {
			t.Errorf("stream %d: %d bytes, %v, want %d", i, n, err, wrote[i])
		}
		far[i].Close()
		near[i].Close()
	}
	until(t, "all streams are forgotten", func() bool { return len(from.Streams()) == 0 })
	if got := from.durables.budget.Used(); got != 0 {
		t.Errorf("%d bytes are held at the end, want 0", got)
	}
}

// What ends a node or its connections to a peer for good ends the streams at both ends,
// at once.
func TestDurableEndsWith(t *testing.T) {
	for name, end := range map[string]func(from, to *Node) error{
		"Close of the opener":         func(from, _ *Node) error { return from.Close() },
		"Close of the acceptor":       func(_, to *Node) error { return to.Close() },
		"Disconnect by the opener":    func(from, to *Node) error { return from.Disconnect(to.ID()) },
		"Disconnect by the acceptor":  func(from, to *Node) error { return to.Disconnect(from.ID()) },
		"a dead peer's Close at last": func(from, to *Node) error { _ = from.Disconnect(to.ID()); return from.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			near, far := openStream(t, from, to)
			blocked := writeForEver(t, near)
			if err := end(from, to); err != nil {
				t.Error(err)
			}
			checkIs(t, "a Write that waits", <-blocked, ErrReset)
			for _, s := range []*Stream{near, far} {
				_, err := io.Copy(io.Discard, s)
				checkIs(t, "Read", err, ErrReset)
				_, err = s.Write([]byte("x"))
				checkIs(t, "Write", err, ErrReset)
			}
			for _, n := range []*Node{from, to} {
				if got := n.Streams(); len(got) > 0 {
					t.Errorf("Streams() = %+v, want none", got)
				}
			}
		})
	}
}

// What was written before a stream is closed arrives though its node closes behind it.
func TestDurableCloseOfStreamAndNode(t *testing.T) {
	for _, way := range durableWays {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			from, to := way.pair(t)
			near, far := openStream(t, from, to)
			want := make([]byte, 1<<20)
			_, _ = rand.Read(want) // it never fails
			closed := make(chan error, 1)
			go func() {
				_, err := near.Write(want)
				near.Close()
				from.Close()
				closed <- err
			}()
			readsAll(t, far, want)
			if err := <-closed; err != nil {
				t.Errorf("Write = %v", err)
			}
		})
	}
}
