package p2p

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// A boundedScope has so much memory, of which it counts what is taken.
type boundedScope struct {
	network.NullScope
	most, taken atomic.Int64
}

func (s *boundedScope) BeginSpan() (network.ResourceScopeSpan, error) {
	return &boundedSpan{scope: s}, nil
}

type boundedSpan struct {
	network.NullScope
	scope *boundedScope
	held  int64
}

func (s *boundedSpan) ReserveMemory(n int, prio uint8) error {
	if s.scope.taken.Add(int64(n)) > s.scope.most.Load()*int64(prio+1)/256 && prio < 255 {
		s.scope.taken.Add(-int64(n))
		return network.ErrResourceLimitExceeded
	}
	s.held += int64(n)
	return nil
}

func (s *boundedSpan) Done() {
	s.scope.taken.Add(-s.held)
	s.held = 0
}

// newWindowPair returns the ends of a stream, of which the second is read.
func newWindowPair(t *testing.T, memory int64) (from network.MuxedStream, to *wideningStream, scope *boundedScope) {
	t.Helper()
	a, b := net.Pipe()
	scope = new(boundedScope)
	scope.most.Store(memory)
	here, err := newMuxer().NewConn(a, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	there, err := newMuxer().NewConn(b, true, scope)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	from, err = here.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := there.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	to, ok := accepted.(*wideningStream)
	if !ok {
		t.Fatal("yamux has no window where one is looked for")
	}
	return from, to, scope
}

// pass sends so many bytes, and reads them.
func pass(t *testing.T, from, to network.MuxedStream, n int) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(make([]byte, n))
		sent <- err
	}()
	if _, err := io.CopyN(io.Discard, to, int64(n)); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// credit sends until the peer, who does not read, takes no more.
func credit(t *testing.T, from network.MuxedStream) int {
	t.Helper()
	_ = from.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := from.Write(make([]byte, 4*maxWindow))
	if !timedOut(err) {
		t.Fatalf("Write to who does not read = %v, want %v", err, os.ErrDeadlineExceeded)
	}
	return n
}

// The peer of a stream that reads fast may send more, and at least half of the window at
// any time: it need not wait for a round trip.
func TestWindowWidens(t *testing.T) {
	for _, tt := range []struct {
		name   string
		memory int64
		times  int           // so often is something sent
		bytes  int           // each time
		apart  time.Duration // and waited before
		window uint32
	}{
		{"not by little", 1 << 30, 1, 100 << 10, 0, firstWindow},
		{"by a window", 1 << 30, 3, firstWindow / 2, 0, 4 * firstWindow},
		{"to the largest", 1 << 30, 1, 4 * maxWindow, 0, maxWindow},
		{"not by what comes slowly", 1 << 30, 100, firstWindow / 2, wideWithin + time.Millisecond, firstWindow},
		{"as far as there is memory", 4 << 20, 1, 4 * maxWindow, 0, 2 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to, _ := newWindowPair(t, tt.memory)
				pass(t, from, to, 1)
				for range tt.times {
					time.Sleep(tt.apart) //nolint:forbidigo // it is synctest's time
					pass(t, from, to, tt.bytes)
				}
				if *to.window != tt.window {
					t.Errorf("window is %d, want %d", *to.window, tt.window)
				}
				pass(t, from, to, 1) // with which yamux tells of it
				if got := credit(t, from); got < int(tt.window/2) || got > int(tt.window) {
					t.Errorf("%d bytes may be sent to a window of %d, want half of it at least", got, tt.window)
				}
			})
		})
	}
}

// A stream that ends gives back the memory that its window had, whichever way it ends.
func TestWindowEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(from, to network.MuxedStream) error
	}{
		{"closed", func(from, to network.MuxedStream) error { return errors.Join(from.Close(), to.Close()) }},
		{"reset", func(_, to network.MuxedStream) error { return to.Reset() }},
		{"reset with a code", func(_, to network.MuxedStream) error { return to.ResetWithError(1) }},
		{"read to the end", func(from, to network.MuxedStream) error {
			err := from.CloseWrite()
			_, rerr := io.Copy(io.Discard, to)
			return errors.Join(err, rerr, to.CloseWrite())
		}},
		{"reset by the peer", func(from, to network.MuxedStream) error {
			err := from.Reset()
			if _, rerr := io.Copy(io.Discard, to); rerr == nil {
				return errors.New("no error")
			}
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to, scope := newWindowPair(t, 1<<30)
				pass(t, from, to, 8<<20)
				if got := scope.taken.Load(); got != int64(*to.window) {
					t.Fatalf("%d bytes of memory are taken for a window of %d", got, *to.window)
				}
				if err := tt.end(from, to); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := scope.taken.Load(); got != 0 {
					t.Errorf("%d bytes of memory are taken, want none", got)
				}
				if to.hold(1) {
					t.Error("more is taken after the end")
				}
			})
		})
	}
}
