package p2p

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// smallBulk is what makes a stream bulk in tests.
const smallBulk = 256 << 10

// neverBulk has a node's streams stay on the connections that carry others.
func neverBulk(n *Node) {
	n.singles.mu.Lock()
	defer n.singles.mu.Unlock()
	n.singles.after = math.MaxUint64
}

// bulkOf has a node's streams be bulk soon.
func bulkOf(n *Node) *Node {
	n.singles.mu.Lock()
	defer n.singles.mu.Unlock()
	n.singles.after = smallBulk
	n.singles.near, n.singles.pause = patience, 0 // however busy the machine is
	return n
}

// newBulkNodes returns two connected nodes whose streams are bulk soon.
func newBulkNodes(t testing.TB, a, b Config) (from, to *Node) {
	t.Helper()
	from, to = bulkOf(newTestNode(t, a)), bulkOf(newTestNode(t, b))
	connected(t, from, to)
	awaitPeers(t, from, to)
	return from, to
}

// alone tells whether a stream has a connection of its own.
func alone(t testing.TB, s *Stream) bool {
	d := durableOf(t, s)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.carrier != nil && d.carrier.single()
}

func awaitAlone(t testing.TB, near, far *Stream) {
	t.Helper()
	until(t, "the stream has a connection of its own", func() bool { return alone(t, near) && alone(t, far) })
}

func awaitNoSingles(t testing.TB, nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		until(t, "no connection for one stream is left", func() bool { return countSingles(n) == 0 })
	}
}

// Bulk moves to a connection of its own while bytes flow, whichever end opened it and
// whichever made the connection there is.
func TestBulkStreamMoves(t *testing.T) {
	for _, opener := range []string{"dialer", "dialed"} {
		t.Run("opened by the "+opener, func(t *testing.T) {
			t.Parallel()
			from, to := newBulkNodes(t, Config{Admission: secret("word")}, Config{Admission: secret("word")})
			if opener == "dialed" {
				from, to = to, from
			}
			near, far := openStream(t, from, to)
			k := newEndlessTalk(t, near, far)
			awaitAlone(t, near, far)
			k.hear(2 << 20)
			for _, s := range []*Stream{near, far} {
				if got, _ := s.Info(); got.Moves != 1 || got.Resumes != 0 || got.Path != PathLAN {
					t.Errorf("Info() = %+v, want one move, on the same path", got)
				}
				if conns := s.node.Connections(); len(conns) != 1 {
					t.Errorf("%d connections, want the one that there was", len(conns))
				}
			}
			k.finish()
			near.Close()
			far.Close()
			awaitNoSingles(t, from, to)
			for _, n := range []*Node{from, to} {
				until(t, "the stream is forgotten", func() bool { return len(n.Streams()) == 0 })
				if got := n.durables.resumes.Load(); got != 0 {
					t.Errorf("%d resumes, want none: it ended in order", got)
				}
			}
		})
	}
}

// A stream that goes to and fro much moves too, and of those not so many that bulk finds
// no room.
func TestStreamToAndFroMoves(t *testing.T) {
	const most = 4
	from, to := newBulkNodes(t, Config{}, Config{})
	from.singles.most = most
	talk := func(near, far *Stream) {
		t.Helper()
		for range smallBulk/singleTrip + 1 {
			for _, s := range [][2]*Stream{{near, far}, {far, near}} {
				if _, err := s[0].Write([]byte("word")); err != nil {
					t.Fatal(err)
				}
				reads(t, s[1], []byte("word"))
			}
		}
	}
	for i := range most {
		near, far := openStream(t, from, to)
		talk(near, far)
		if i < most/2 {
			awaitAlone(t, near, far)
		}
		talk(near, far)
		until(t, "nothing is being made", func() bool {
			d := durableOf(t, near)
			d.mu.Lock()
			defer d.mu.Unlock()
			return !d.leaving
		})
	}
	if got := countSingles(from); got != most/2 {
		t.Errorf("%d connections for one stream, want half of %d", got, most)
	}
}

// Where bulk can't have a connection of its own, or is none, it stays where it is.
func TestBulkStreamStays(t *testing.T) {
	for _, tt := range []struct {
		name string
		pair func(t *testing.T) (from, to *Node)
		size int64
	}{
		{"no bulk", func(t *testing.T) (_, _ *Node) { return newBulkNodes(t, Config{}, Config{}) }, smallBulk/2 - 1<<10},
		{"by QUIC", func(t *testing.T) (_, _ *Node) { return newTestPair(t, "/ip4/127.0.0.1/udp/0/quic-v1") }, 4 << 20},
		{"by WebSocket", func(t *testing.T) (_, _ *Node) { return newTestPair(t, "/ip4/127.0.0.1/tcp/0/ws") }, 4 << 20},
		{"through a relay", func(t *testing.T) (from, to *Node) {
			from, _, to = newThrough(t, Relay{})
			return from, to
		}, 4 << 20},
		{"a peer of before", func(t *testing.T) (from, to *Node) {
			from, to = newBulkNodes(t, Config{}, Config{})
			if err := from.kit.addSingles("/test/unknown/1", Config{DialTimeout: patience}, from.gate); err != nil {
				t.Fatal(err)
			}
			return from, to
		}, 4 << 20},
		{"the peer has enough", func(t *testing.T) (from, to *Node) {
			from, to = newBulkNodes(t, Config{}, Config{})
			to.singles.mu.Lock()
			defer to.singles.mu.Unlock()
			to.singles.most = 0
			return from, to
		}, 4 << 20},
		{"the peer is far", func(t *testing.T) (from, to *Node) {
			from, to = newBulkNodes(t, Config{}, Config{})
			from.singles.mu.Lock()
			defer from.singles.mu.Unlock()
			from.singles.near = 0
			return from, to
		}, 4 << 20},
		{"the node has enough", func(t *testing.T) (from, to *Node) {
			from, to = newBulkNodes(t, Config{}, Config{})
			from.singles.mu.Lock()
			defer from.singles.mu.Unlock()
			from.singles.mostInAll = 0
			return from, to
		}, 4 << 20},
		{"the other end has made the connection, and takes none by TCP", func(t *testing.T) (from, to *Node) {
			to, from = newBulkNodes(t, Config{Listen: addrs("/ip4/127.0.0.1/udp/0/quic-v1")}, Config{})
			return from, to
		}, 4 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := tt.pair(t)
			from.singles.mu.Lock()
			from.singles.after = smallBulk
			from.singles.mu.Unlock()
			near, far := openStream(t, from, to)
			k := newTalk(t, near, far, [2]int64{tt.size, tt.size}, 64<<10)
			k.work.Wait()
			for _, s := range []*Stream{near, far} {
				if got := s.node.StreamTotals(); got.Moves+got.Resumes != 0 {
					t.Errorf("StreamTotals() = %+v, want no move", got)
				}
			}
			near.Close()
			far.Close()
			awaitNoSingles(t, from, to)
		})
	}
}

// One that could not be had is not asked for again and again.
func TestBulkStreamWaitsBeforeItAsksAgain(t *testing.T) {
	from, to := newBulkNodes(t, Config{}, Config{})
	from.singles.pause = patience
	c := from.bestConn(to.ID())
	from.singles.failed(c)
	_, err := from.singles.open(testContext(t), c, true)
	checkIs(t, "open", err, errNoSingleYet)
	_ = c.Close()
	until(t, "it is forgotten", func() bool { return !from.singles.failedLately(c) })
}

// No more streams than so many have a connection of their own, and the others go on.
func TestBulkStreamsAreBounded(t *testing.T) {
	t.Parallel()
	const most, streams = 2, 4
	from, to := newBulkNodes(t, Config{}, Config{})
	for _, n := range []*Node{from, to} {
		n.singles.mu.Lock()
		n.singles.most = most
		n.singles.mu.Unlock()
	}
	var talks [streams]*talk
	var ends [streams][2]*Stream
	for i := range talks {
		near, far := openStream(t, from, to)
		ends[i], talks[i] = [2]*Stream{near, far}, newEndlessTalk(t, near, far)
	}
	count := func() (n int) {
		for _, e := range ends {
			if alone(t, e[0]) && alone(t, e[1]) {
				n++
			}
		}
		return n
	}
	until(t, "some have one", func() bool { return count() == most })
	for i, k := range talks {
		k.hear(smallBulk)
		if got := max(countSingles(from), countSingles(to)); got > most {
			t.Errorf("after stream %d there are %d, want at most %d", i, got, most)
		}
	}
	for i, k := range talks {
		k.finish()
		ends[i][0].Close()
		ends[i][1].Close()
	}
	awaitNoSingles(t, from, to)
}

// What breaks a stream's own connection, or the one that it is beside, breaks no stream.
func TestBulkStreamComesBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(s *Stream)
	}{
		{"its own breaks", func(s *Stream) {
			d := s.raw.(*durableStream)
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.carrier != nil && d.carrier.single() {
				_ = d.carrier.raw.(*singleStream).conn.Close()
			}
		}},
		{"the other breaks", func(s *Stream) { cut(s) }},
	} {
		for end := range 2 {
			t.Run(fmt.Sprintf("%s at %d", tt.name, end), func(t *testing.T) {
				t.Parallel()
				from, to := newBulkNodes(t, Config{}, Config{})
				near, far := openStream(t, from, to)
				k := newEndlessTalk(t, near, far)
				for range 4 {
					awaitAlone(t, near, far)
					k.hear(rand.Int64N(512 << 10))
					tt.cut([]*Stream{near, far}[end])
					k.hear(smallBulk)
				}
				k.finish()
				near.Close()
				far.Close()
				awaitNoSingles(t, from, to)
			})
		}
	}
}

// A stream that stalls on its own connection goes back, as where the peer does not read.
func TestBulkStreamStalls(t *testing.T) {
	for sender := range 2 {
		t.Run(fmt.Sprintf("end %d sends", sender), func(t *testing.T) {
			t.Parallel()
			from, to := newBulkNodes(t, Config{}, Config{})
			for _, n := range []*Node{from, to} {
				n.singles.mu.Lock()
				n.singles.patience = 10 * time.Millisecond
				n.singles.mu.Unlock()
			}
			near, far := openStream(t, from, to)
			ends := []*Stream{near, far}
			says, hears := ends[sender], ends[1-sender]
			want := make([]byte, 48<<20) // more than the sockets hold
			_, _ = rand.NewChaCha8([32]byte{}).Read(want)
			wrote := make(chan error, 1)
			go func() {
				_, err := says.Write(want)
				wrote <- errors.Join(err, says.CloseWrite())
			}()
			got := new(bytes.Buffer)
			for !alone(t, near) || !alone(t, far) {
				if _, err := io.CopyN(got, hears, 64<<10); err != nil {
					t.Fatalf("%v after %d bytes, and the stream has no connection of its own", err, got.Len())
				}
			}
			until(t, "the stream has gone back", func() bool { return !alone(t, near) && !alone(t, far) })
			_, err := io.Copy(got, hears)
			if err = errors.Join(err, <-wrote); err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("read %d bytes, %v, want the %d that were written", got.Len(), err, len(want))
			}
		})
	}
}

// Deadlines that pass within a Write lose nothing.
func TestBulkStreamWriteDeadlines(t *testing.T) {
	t.Parallel()
	from, to := newBulkNodes(t, Config{}, Config{})
	near, far := openStream(t, from, to)
	want := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(want)
	wrote := make(chan error, 1)
	go func() {
		for left := want; ; {
			_ = near.SetWriteDeadline(time.Now().Add(time.Millisecond))
			n, err := near.Write(left)
			if left = left[n:]; errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			wrote <- errors.Join(err, near.CloseWrite())
			return
		}
	}()
	readsAll(t, far, want)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// Who disconnects a peer ends the streams that have connections of their own at once,
// and these.
func TestBulkStreamIsCut(t *testing.T) {
	for end := range 2 {
		t.Run(fmt.Sprintf("end %d disconnects", end), func(t *testing.T) {
			t.Parallel()
			from, to := newBulkNodes(t, Config{}, Config{})
			nodes := []*Node{from, to}
			near, far := openStream(t, from, to)
			var failed [2]chan error
			for i, s := range []*Stream{near, far} {
				failed[i] = make(chan error, 2)
				go func() {
					_, err := io.Copy(s, words(i))
					failed[i] <- err
				}()
				go func() {
					_, err := io.Copy(io.Discard, s)
					failed[i] <- err
				}()
			}
			awaitAlone(t, near, far)
			if err := nodes[end].Disconnect(nodes[1-end].ID()); err != nil {
				t.Error(err)
			}
			for i := range failed {
				for range cap(failed[i]) {
					checkIs(t, "Copy", <-failed[i], ErrReset)
				}
			}
			for _, s := range []*Stream{near, far} {
				_, err := s.Read(make([]byte, 1))
				checkIs(t, "Read", err, ErrReset)
			}
			awaitNoSingles(t, from, to)
		})
	}
}
