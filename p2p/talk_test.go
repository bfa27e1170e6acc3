package p2p

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A talk goes both ways on a stream, and each byte of it is looked at.
type talk struct {
	t     testing.TB
	ends  [2]*Stream
	limit [2]atomic.Int64 // what each end is to write
	wrote [2]atomic.Int64
	work  sync.WaitGroup

	mu     sync.Mutex
	more   *sync.Cond // of what follows
	got    [2]int64   // by the end that reads
	failed bool
}

// newTalk has each end write so many bytes, in pieces of up to a size, and close its
// side. What it reads is what the other end writes.
func newTalk(t testing.TB, near, far *Stream, size [2]int64, piece int) *talk {
	t.Helper()
	k := &talk{t: t, ends: [2]*Stream{near, far}}
	k.more = sync.NewCond(&k.mu)
	for i, s := range k.ends {
		k.limit[i].Store(size[i])
		if err := s.SetDeadline(time.Now().Add(2 * patience)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range k.ends {
		k.work.Go(func() { k.write(i, piece) })
		k.work.Go(func() { k.read(i, piece) })
	}
	return k
}

// newEndlessTalk goes on until finish is called.
func newEndlessTalk(t testing.TB, near, far *Stream) *talk {
	t.Helper()
	return newTalk(t, near, far, [2]int64{1 << 40, 1 << 40}, 64<<10)
}

// words are what an end says.
func words(end int) io.Reader { return rand.NewChaCha8([32]byte{byte(end)}) }

func (k *talk) write(end, piece int) {
	says, b := words(end), make([]byte, piece)
	for {
		left := k.limit[end].Load() - k.wrote[end].Load()
		if left <= 0 {
			break
		}
		p := b[:min(left, 1+rand.Int64N(int64(piece)))]
		_, _ = says.Read(p) // it never fails
		k.wrote[end].Add(int64(len(p)))
		if n, err := k.ends[end].Write(p); err != nil {
			k.fail("end %d: Write = %d, %v, want %d", end, n, err, len(p))
			return
		}
	}
	if err := k.ends[end].CloseWrite(); err != nil {
		k.fail("end %d: CloseWrite = %v", end, err)
	}
}

func (k *talk) read(end, piece int) {
	hears, b, want := words(1-end), make([]byte, piece), make([]byte, piece)
	for {
		n, err := k.ends[end].Read(b[:1+rand.IntN(piece)])
		_, _ = hears.Read(want[:n]) // it never fails
		k.mu.Lock()
		k.got[end] += int64(n)
		k.more.Broadcast()
		got := k.got[end]
		k.mu.Unlock()
		switch {
		case !bytes.Equal(b[:n], want[:n]):
			k.fail("end %d: other bytes than were written, up to %d", end, got)
			return
		case err == io.EOF && got == k.wrote[1-end].Load():
			return
		case err != nil:
			k.fail("end %d: Read = %v after %d bytes of %d", end, err, got, k.wrote[1-end].Load())
			return
		}
	}
}

func (k *talk) fail(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.failed {
		k.t.Errorf(format, args...)
	}
	k.failed = true
	k.more.Broadcast()
	for _, s := range k.ends {
		s.Reset()
	}
}

// hear waits until each end has heard so many bytes more, or has heard all.
func (k *talk) hear(n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for end, from := range k.got {
		for !k.failed && k.got[end] < min(from+n, k.limit[1-end].Load()) {
			k.more.Wait()
		}
	}
}

// finish ends the talk and waits until all was heard.
func (k *talk) finish() {
	for end := range k.limit {
		k.limit[end].Store(min(k.limit[end].Load(), k.wrote[end].Load()))
	}
	k.work.Wait()
}

// A door is what lets nodes have connections, and it can be shut.
type door struct{ shut atomic.Bool }

func (*door) Proof(peer.ID) []byte { return nil }

func (d *door) Check(peer.ID, []byte) error {
	if d.shut.Load() {
		return RefusedBusy // which is not the last word
	}
	return nil
}

// newDoorPair returns two connected nodes, and the door between them.
func newDoorPair(t testing.TB, c Config) (from, to *Node, d *door) {
	t.Helper()
	d = new(door)
	c.Admission = d
	from, to = newTestNode(t, c), newTestNode(t, c)
	if err := from.Connect(testContext(t), to.ID(), to.Addrs()...); err != nil {
		t.Fatal(err)
	}
	return from, to, d
}

// part takes all connections between two nodes away, until the door is opened.
func (d *door) part(t testing.TB, a, b *Node) {
	t.Helper()
	d.shut.Store(true)
	until(t, "the nodes are parted", func() bool {
		left := append(a.kit.swarm.ConnsToPeer(b.ID()), b.kit.swarm.ConnsToPeer(a.ID())...)
		for _, c := range left {
			c.Close()
		}
		return len(left) == 0 && waits(a) && waits(b)
	})
}

// waits tells whether all streams of a node are without a carrier.
func waits(n *Node) bool {
	for _, s := range n.Streams() {
		if !s.Waiting {
			return false
		}
	}
	return true
}

// meet opens the door, and connects two nodes.
func (d *door) meet(t testing.TB, a, b *Node) {
	t.Helper()
	d.shut.Store(false)
	until(t, "the nodes meet", func() bool { // which a dial from before may not
		return a.Connect(testContext(t), b.ID(), b.Addrs()...) == nil
	})
}

// cut closes the connection under a stream, and tells whether there was one.
func cut(s *Stream) bool {
	c := s.conn()
	return c != nil && c.Close() == nil
}

// durableOf returns what a stream is over.
func durableOf(t testing.TB, s *Stream) *durableStream {
	t.Helper()
	d, ok := s.raw.(*durableStream)
	if !ok {
		t.Fatalf("the stream is over a %T, want one that outlives its connection", s.raw)
	}
	return d
}
