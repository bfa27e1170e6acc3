package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
)

// A fakeStream is a stream whose reads and writes the test decides, and which
// tells how it was let go of.
type fakeStream struct {
	net.Conn // nil: what is not below is not called
	read     func([]byte) (int, error)
	write    func([]byte) (int, error)

	mu    sync.Mutex
	calls []string
	gone  chan struct{} // closed by Reset and Close
}

func newFakeStream() *fakeStream {
	s := &fakeStream{gone: make(chan struct{})}
	s.read = func([]byte) (int, error) {
		<-s.gone
		return 0, errors.New("read of a stream that is gone")
	}
	s.write = func(b []byte) (int, error) { return len(b), nil }
	return s
}

func (s *fakeStream) Read(b []byte) (int, error)  { return s.read(b) }
func (s *fakeStream) Write(b []byte) (int, error) { return s.write(b) }
func (s *fakeStream) RemoteAddr() net.Addr        { return nil }
func (s *fakeStream) CloseWrite() error           { return s.called("CloseWrite") }
func (s *fakeStream) Reset() error                { return s.called("Reset") }
func (s *fakeStream) Close() error                { return s.called("Close") }

func (s *fakeStream) called(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, name)
	if name != "CloseWrite" && slices.Index(s.calls, name) == len(s.calls)-1 {
		close(s.gone)
	}
	return nil
}

func (s *fakeStream) wantCalls(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.calls, want) {
		t.Errorf("calls to the stream = %q, want %q", s.calls, want)
	}
}

// joinInBackground runs join, and returns what waits for its error.
func joinInBackground(ctx context.Context, a, b net.Conn) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- join(ctx, a, b, new(meter)) }()
	return func() error { return <-done }
}

func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); err == nil {
		t.Errorf("read = %d bytes and a clean end, want an error", n)
	}
}

// Streams wrap io.EOF when the connection below them is lost.
func TestWrappedEOFIsNotAnEnd(t *testing.T) {
	client, local := pair(t, "tcp")
	stream := newFakeStream()
	lost := fmt.Errorf("connection lost: %w", io.EOF)
	stream.read = func([]byte) (int, error) { return 0, lost }
	if err := join(t.Context(), local, stream, new(meter)); !errors.Is(err, lost) {
		t.Errorf("join = %v, want %v", err, lost)
	}
	wantReset(t, client)
	stream.wantCalls(t, "Reset")
}

// Bytes that come together with an error are passed on first.
func TestReadWithBytesAndError(t *testing.T) {
	client, local := pair(t, "tcp")
	stream := newFakeStream()
	stream.read = func(b []byte) (int, error) { return copy(b, "last"), io.EOF }
	wait := joinInBackground(t.Context(), local, stream)
	got, err := io.ReadAll(client)
	if string(got) != "last" || err != nil {
		t.Errorf("client read %q, %v, want %q, <nil>", got, err, "last")
	}
	client.Close()
	if err := wait(); err != nil {
		t.Errorf("join = %v, want <nil>", err)
	}
	stream.wantCalls(t, "CloseWrite", "Close")
}

// A write that fails must wake the direction that is reading from the same side.
func TestFailedWriteEndsBothDirections(t *testing.T) {
	client, local := pair(t, "tcp")
	stream := newFakeStream()
	refused := errors.New("the far end reads no more")
	stream.write = func([]byte) (int, error) { return 0, refused }
	wait := joinInBackground(t.Context(), local, stream)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := wait(); !errors.Is(err, refused) {
		t.Errorf("join = %v, want %v", err, refused)
	}
	wantReset(t, client)
}

// After its FIN a TCP peer is not read from, and may be idle for ever, but for a
// RST.
func TestResetAfterHalfCloseIsNoticed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("noticed only at the next write")
	}
	client, local := pair(t, "tcp")
	stream := newFakeStream()
	ended := make(chan struct{})
	stream.write = func(b []byte) (int, error) {
		close(ended)
		return len(b), nil
	}
	wait := joinInBackground(t.Context(), local, stream)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := newSide(client).closeWrite(); err != nil {
		t.Fatal(err)
	}
	reset(client)
	if err := wait(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("join = %v, want %v", err, syscall.ECONNRESET)
	}
}

// The same with the end known to have been passed on before the reset comes.
func TestResetLongAfterHalfCloseIsNoticed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("noticed only at the next write")
	}
	client, local := pair(t, "tcp")
	far, stream := pair(t, "tcp")
	wait := joinInBackground(t.Context(), local, stream)
	if err := newSide(client).closeWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, far); n != 0 || err != nil {
		t.Fatalf("far end read %d bytes, %v, want 0, <nil>", n, err)
	}
	reset(client)
	if err := wait(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("join = %v, want %v", err, syscall.ECONNRESET)
	}
}

// The kernel reports a reset once. If a write gets the report, then a read meets
// what looks like an end, and must not be taken for one.
func TestResetReportedToWriteIsNotAnEnd(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing tells the two apart")
	}
	client, local := pair(t, "tcp")
	reset(client)
	if err := awaitReset(newSide(local)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("awaitReset = %v, want %v", err, syscall.ECONNRESET) // and takes the report
	}
	stream := newFakeStream()
	if err := join(t.Context(), local, stream, new(meter)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("join = %v, want %v", err, syscall.ECONNRESET)
	}
	stream.wantCalls(t, "Reset")
}

// plainConn has no methods but those of net.Conn.
type plainConn struct{ net.Conn }

func TestConnWithoutCloseWrite(t *testing.T) {
	client, local := pair(t, "tcp")
	far, stream := pair(t, "tcp")
	wait := joinInBackground(t.Context(), local, plainConn{stream})
	for _, c := range []net.Conn{far, client} {
		if err := newSide(c).closeWrite(); err != nil {
			t.Fatal(err)
		}
	}
	if err := wait(); err != nil {
		t.Errorf("join = %v, want <nil>", err)
	}
	if n, err := io.Copy(io.Discard, far); n != 0 || err != nil {
		t.Errorf("far end read %d bytes, %v, want 0, <nil>", n, err)
	}
}

func TestEndOfContextResetsBoth(t *testing.T) {
	client, local := pair(t, "tcp")
	stream := newFakeStream()
	ctx, cancel := context.WithCancel(t.Context())
	wait := joinInBackground(ctx, local, stream)
	cancel()
	if err := wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("join = %v, want %v", err, context.Canceled)
	}
	wantReset(t, client)
	stream.wantCalls(t, "Reset")
}

// A reader that takes nothing must stop the writer, whatever the kernel holds.
func TestSlowReaderHoldsBackWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offered, release := 0, make(chan struct{})
		src, dst := newFakeStream(), newFakeStream()
		src.read = func(b []byte) (int, error) {
			select {
			case <-release:
				return 0, io.EOF
			default:
				offered += len(b)
				return len(b), nil
			}
		}
		dst.write = func(b []byte) (int, error) {
			<-release
			return len(b), nil
		}
		dst.read = func([]byte) (int, error) { return 0, io.EOF }
		m := new(meter)
		done := make(chan error)
		go func() { done <- join(t.Context(), src, dst, m) }()
		synctest.Wait()
		if limit := bufferSizes[len(bufferSizes)-1]; offered == 0 || offered > limit {
			t.Errorf("join read %d bytes that nobody took, want 1 to %d", offered, limit)
		}
		close(release)
		if err := <-done; err != nil {
			t.Errorf("join = %v, want <nil>", err)
		}
		if got := m.stats().Sent; got != uint64(offered) {
			t.Errorf("bytes counted = %d, want %d", got, offered)
		}
	})
}

// A connection that has carried much must not keep what it needed for that.
func TestIdleConnectionHoldsLittle(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a buffer is held while waiting")
	}
	const conns, size, limit = 50, 1 << 20, 48 << 10
	before := memoryInUse()
	for range conns {
		client, local := pair(t, "tcp")
		stream := newFakeStream()
		left, done := size, make(chan struct{})
		stream.write = func(b []byte) (int, error) {
			if left -= len(b); left == 0 {
				close(done)
			}
			return len(b), nil
		}
		wait := joinInBackground(t.Context(), local, stream)
		defer wait()
		defer reset(client)
		if _, err := client.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	if got := (memoryInUse() - before) / conns; got > limit {
		t.Errorf("an idle connection holds %d bytes, want at most %d", got, limit)
	} else {
		t.Logf("an idle connection holds %d bytes", got)
	}
}

func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // the second empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func TestBufferGrowsAndShrinks(t *testing.T) {
	const tiny, small, mid, large = 0, 1, 2, 3
	for _, tt := range []struct {
		name string
		size bufferSize
		n    int
		want bufferSize
	}{
		{"filled tiny", tiny, 1 << 10, small},
		{"nearly filled tiny", tiny, 1<<10 - 1, tiny},
		{"filled small", small, 16 << 10, mid},
		{"nearly filled small", small, 16<<10 - 1, small},
		{"half filled small", small, 8 << 10, small},
		{"little in small", small, 1<<9 - 1, tiny},
		{"filled mid", mid, 64 << 10, large},
		{"half filled mid", mid, 32 << 10, mid},
		{"little in mid", mid, 8<<10 - 1, small},
		{"filled large", large, bufferSizes[large], large},
		{"little in large", large, 32<<10 - 1, mid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.size.after(tt.n); got != tt.want {
				t.Errorf("bufferSize(%d).after(%d) = %d, want %d", tt.size, tt.n, got, tt.want)
			}
		})
	}
}
