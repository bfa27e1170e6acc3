package p2p

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-yamux/v5"
	"github.com/quic-go/quic-go"
	"golang.org/x/net/nettest"
)

// onEachTransport runs a test over a connection of each transport, and of a
// node to itself.
func onEachTransport(t *testing.T, test func(t *testing.T, from, to *Node)) {
	for _, tt := range ways {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, tt.listen)
			test(t, from, to)
		})
	}
	t.Run("self", func(t *testing.T) {
		t.Parallel()
		n := newTestNode(t, Config{})
		test(t, n, n)
	})
}

func TestStreamIsANetConn(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			near, far := openStream(t, from, to)
			return near, far, func() { near.Close(); far.Close() }, nil
		})
	})
}

func TestStreamEnds(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		path := from.PathTo(to.ID())
		near, far := openStream(t, from, to)
		for _, tt := range []struct {
			name          string
			stream        *Stream
			local, remote *Node
		}{{"dialer", near, from, to}, {"listener", far, to, from}} {
			if got, want := tt.stream.LocalAddr(), (Addr{tt.local.ID(), "/test/1"}); got != want {
				t.Errorf("%s: LocalAddr() = %v, want %v", tt.name, got, want)
			}
			if got, want := tt.stream.RemoteAddr(), (Addr{tt.remote.ID(), "/test/1"}); got != want {
				t.Errorf("%s: RemoteAddr() = %v, want %v", tt.name, got, want)
			}
			if got, want := tt.stream.RemoteAddr().String(), tt.remote.ID().String()+"/test/1"; got != want {
				t.Errorf("%s: RemoteAddr().String() = %q, want %q", tt.name, got, want)
			}
			if got := tt.stream.LocalAddr().Network(); got != "p2p" {
				t.Errorf("%s: LocalAddr().Network() = %q, want p2p", tt.name, got)
			}
			if got := tt.stream.Peer(); got != tt.remote.ID() {
				t.Errorf("%s: Peer() = %v, want %v", tt.name, got, tt.remote.ID())
			}
			if got := tt.stream.Path(); got != path {
				t.Errorf("%s: Path() = %v, want %v", tt.name, got, path)
			}
		}
	})
}

func TestStreamHalfClose(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to)
		for _, way := range []struct {
			name     string
			from, to *Stream
		}{{"dialer to listener", near, far}, {"back, after the first is closed", far, near}} {
			want := make([]byte, 1<<20)
			rand.Read(want)
			wrote := make(chan error, 1)
			go func() {
				_, err := way.from.Write(want)
				wrote <- errors.Join(err, way.from.CloseWrite())
			}()
			got, err := io.ReadAll(way.to)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: ReadAll = %d bytes, %v, want the %d bytes written before CloseWrite", way.name, len(got), err, len(want))
			}
			if err := <-wrote; err != nil {
				t.Errorf("%s: Write and CloseWrite = %v, want nil", way.name, err)
			}
			_, err = way.from.Write([]byte("more"))
			checkIs(t, way.name+": Write after CloseWrite", err, net.ErrClosed)
		}
	})
}

func TestStreamCloseSendsWhatWasWritten(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to)
		if _, err := near.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		near.Close()
		got, err := io.ReadAll(far)
		if err != nil || string(got) != "last words" {
			t.Errorf("ReadAll after Close at the other end = %q, %v, want %q", got, err, "last words")
		}
	})
}

func TestStreamReset(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		for _, byDialer := range []bool{true, false} {
			reset, other := openStream(t, from, to)
			who := "dialer resets"
			if !byDialer {
				who, reset, other = "listener resets", other, reset
			}
			if err := reset.Reset(); err != nil {
				t.Errorf("%s: Reset() = %v, want nil", who, err)
			}
			_, err := other.Read(make([]byte, 1))
			checkIs(t, who+": Read at the other end", err, ErrReset)
			_, err = other.Write([]byte("x"))
			checkIs(t, who+": Write at the other end", err, ErrReset)
			_, err = reset.Read(make([]byte, 1))
			checkIs(t, who+": own Read", err, net.ErrClosed)
			_, err = reset.Write([]byte("x"))
			checkIs(t, who+": own Write", err, net.ErrClosed)
			checkIs(t, who+": own SetDeadline", reset.SetDeadline(time.Now()), net.ErrClosed)
		}
	})
}

func TestStreamOfABrokenConnection(t *testing.T) {
	for _, tt := range ways {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, tt.listen)
			near, far := openStream(t, from, to)
			if err := from.Disconnect(to.ID()); err != nil {
				t.Fatalf("Disconnect = %v", err)
			}
			for _, s := range []*Stream{near, far} {
				_, err := s.Read(make([]byte, 1))
				checkIs(t, "Read after Disconnect", err, ErrReset)
				_, err = s.Write([]byte("x"))
				checkIs(t, "Write after Disconnect", err, ErrReset)
			}
		})
	}
}

// writeForEver starts a Write that hangs because the other end does not read,
// and returns where its error will come.
func writeForEver(t *testing.T, s *Stream) <-chan error {
	t.Helper()
	s.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	var err error
	for err == nil {
		_, err = s.Write(make([]byte, 1<<20))
	}
	checkIs(t, "Write with a full window", err, os.ErrDeadlineExceeded)
	s.SetWriteDeadline(time.Time{})
	failed := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 1<<20))
		failed <- err
	}()
	for s.wmu.TryLock() { // until it has begun
		s.wmu.Unlock()
		runtime.Gosched()
	}
	return failed
}

func TestStreamCloseFreesABlockedWrite(t *testing.T) {
	for name, end := range map[string]func(*Stream) error{"Close": (*Stream).Close, "Reset": (*Stream).Reset} {
		t.Run(name, func(t *testing.T) {
			onEachTransport(t, func(t *testing.T, from, to *Node) {
				near, _ := openStream(t, from, to)
				failed := writeForEver(t, near)
				end(near)
				select {
				case err := <-failed:
					checkIs(t, "blocked Write", err, net.ErrClosed)
				case <-time.After(patience):
					t.Errorf("blocked Write hangs, want %v", net.ErrClosed)
				}
			})
		})
	}
}

func TestStreamCloseFreesABlockedRead(t *testing.T) {
	for name, end := range map[string]func(*Stream) error{"Close": (*Stream).Close, "Reset": (*Stream).Reset} {
		t.Run(name, func(t *testing.T) {
			onEachTransport(t, func(t *testing.T, from, to *Node) {
				near, _ := openStream(t, from, to)
				failed := make(chan error, 1)
				go func() {
					_, err := near.Read(make([]byte, 1))
					failed <- err
				}()
				for near.rmu.TryLock() { // until it has begun
					near.rmu.Unlock()
					runtime.Gosched()
				}
				end(near)
				select {
				case err := <-failed:
					checkIs(t, "blocked Read", err, net.ErrClosed)
				case <-time.After(patience):
					t.Errorf("blocked Read hangs, want %v", net.ErrClosed)
				}
			})
		})
	}
}

// A writer must learn that nobody reads, or it hangs once the window is full.
func TestStreamWriteToAClosedEnd(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to)
		far.Close()
		failed := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, err = near.Write(make([]byte, 1<<20))
			}
			failed <- err
		}()
		select {
		case err := <-failed:
			checkIs(t, "Write to a closed end", err, ErrReset)
		case <-time.After(patience):
			t.Errorf("Write to a closed end hangs, want %v", ErrReset)
		}
	})
}

// What is copied to a stream goes out while somebody waits to read it.
func TestStreamCopyWhileItIsRead(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to)
		read := make(chan error, 1)
		go func() {
			_, err := near.Read(make([]byte, 1))
			read <- err
		}()
		until(t, "a Read waits", func() bool {
			if near.rmu.TryLock() {
				near.rmu.Unlock()
				return false
			}
			return true
		})
		copied := make(chan error, 1)
		go func() {
			_, err := io.Copy(near, onlyReader{strings.NewReader("word")})
			copied <- errors.Join(err, near.CloseWrite())
		}()
		if err := far.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(far); string(got) != "word" || err != nil {
			t.Fatalf("ReadAll = %q, %v, want word", got, err)
		}
		far.Close()
		if err := <-copied; err != nil {
			t.Errorf("Copy = %v, want nil", err)
		}
		checkIs(t, "Read", <-read, io.EOF)
	})
}

// A slow reader gets all that was written before the other end closed, also
// while that waits for the reader to close its side.
func TestStreamClosedAndNotYetRead(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to)
		want := make([]byte, 100<<10)
		rand.Read(want)
		if _, err := far.Write(want); err != nil {
			t.Fatal(err)
		}
		far.Close()
		// The writer may have heard of that, or not yet.
		if _, err := near.Write([]byte("under way")); err != nil && !errors.Is(err, ErrReset) {
			t.Fatalf("Write to an end that just closed = %v, want nil or %v", err, ErrReset)
		}
		got, err := io.ReadAll(near)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadAll = %d bytes, %v, want the %d bytes written before Close", len(got), err, len(want))
		}
	})
}

func TestStreamIsCountedUntilItEnds(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to)
		if got := from.openStreams(); got == 0 {
			t.Errorf("openStreams() = 0 with a stream open, want more")
		}
		near.Close()
		near.Close()
		far.Close()
		from.Close()
		to.Close()
		for _, n := range []*Node{from, to} {
			if got := n.openStreams(); got != 0 {
				t.Errorf("openStreams() = %d after the stream was closed twice at one end, want 0", got)
			}
		}
	})
}

func TestStreamDeadlinesAreNetErrors(t *testing.T) {
	onEachTransport(t, func(t *testing.T, from, to *Node) {
		near, far := openStream(t, from, to)
		near.SetReadDeadline(time.Unix(1, 0))
		_, err := near.Read(make([]byte, 1))
		checkIs(t, "Read after its deadline", err, os.ErrDeadlineExceeded)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Read after its deadline = %v, want a net.Error with Timeout() = true", err)
		}
		near.SetReadDeadline(time.Time{})
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); err != nil {
			t.Errorf("Read after the deadline was taken away = %v, want nil", err)
		}
	})
}

// mute makes a node take in streams for a protocol, named by name, without
// answering.
func mute(n *Node, name []byte) <-chan network.Stream {
	in := make(chan network.Stream, 1)
	n.kit.swarm.SetStreamHandler(func(s network.Stream) {
		got := make([]byte, len(name))
		if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, name) {
			s.Reset() // identify's
			return
		}
		in <- s
	})
	return in
}

func TestStreamDeadlineWhileNamingTheProtocol(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, tt.listen)
			name := appendToken(appendToken(nil, "/multistream/1.0.0"), "/test/1")
			in := mute(to, name)
			near, err := from.Dial(Plain(testContext(t)), to.ID(), "/test/1")
			if err != nil {
				t.Fatal(err)
			}
			defer near.Reset()
			if _, err := near.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			far := <-in
			defer far.Reset()
			for _, part := range [][]byte{nil, name[:1], name[1:21]} {
				if _, err := far.Write(part); err != nil {
					t.Fatal(err)
				}
				near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				k, err := near.Read(make([]byte, 100))
				if k != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("Read before the protocol is named = %d, %v, want 0, %v", k, err, os.ErrDeadlineExceeded)
				}
			}
			near.SetReadDeadline(time.Time{})
			if _, err := far.Write(append(name[21:], "answer"...)); err != nil {
				t.Fatal(err)
			}
			far.CloseWrite()
			if got, err := io.ReadAll(near); string(got) != "answer" || err != nil {
				t.Errorf("ReadAll once the protocol is named = %q, %v, want %q", got, err, "answer")
			}
			near.CloseWrite()
			if got, err := io.ReadAll(far); string(got) != "question" || err != nil {
				t.Errorf("ReadAll at the other end = %q, %v, want %q", got, err, "question")
			}
		})
	}
}

func TestDialWithoutListener(t *testing.T) {
	for _, tt := range ways {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, tt.listen)
			s, err := from.Dial(testContext(t), to.ID(), "/nobody/1")
			if err != nil {
				t.Fatalf("Dial = %v, want nil: the answer is not waited for", err)
			}
			defer s.Close()
			for range 2 {
				_, err = s.Read(make([]byte, 1))
				checkIs(t, "Read", err, ErrNoListener)
			}
		})
	}
	t.Run("self", func(t *testing.T) {
		n := newTestNode(t, Config{})
		_, err := n.Dial(testContext(t), n.ID(), "/nobody/1")
		checkIs(t, "Dial", err, ErrNoListener)
	})
}

// What muxers and connections say when something breaks is not what a stream
// says: a connection that timed out is no deadline of the stream's, one that
// was closed is not the stream being closed, and its end is not the stream's.
func TestStreamErrors(t *testing.T) {
	n := newTestNode(t, Config{})
	for _, tt := range []struct {
		name        string
		below       error
		read, write error
	}{
		{"the end", io.EOF, io.EOF, ErrReset},
		{"yamux: a deadline", yamux.ErrTimeout, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		{"QUIC: a deadline", fmt.Errorf("deadline: %w", os.ErrDeadlineExceeded), os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		{"yamux: no answer to a keepalive", yamux.ErrKeepAliveTimeout, ErrReset, ErrReset},
		{"yamux: the connection takes no more", yamux.ErrConnectionWriteTimeout, ErrReset, ErrReset},
		{"yamux: the session is shut down", yamux.ErrSessionShutdown, ErrReset, ErrReset},
		{"QUIC: the peer has fallen silent", &quic.IdleTimeoutError{}, ErrReset, ErrReset},
		{"a reset", &network.StreamError{Remote: true}, ErrReset, ErrReset},
		{"a closed connection", &network.ConnError{Remote: true}, ErrReset, ErrReset},
		{"a socket that is gone", &net.OpError{Op: "read", Err: net.ErrClosed}, ErrReset, ErrReset},
		{"no listener", fmt.Errorf("%w for /x/1", ErrNoListener), ErrNoListener, ErrNoListener},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := n.newStream(nil, readWriter{iotest.ErrReader(tt.below), failingWriter{tt.below}}, streamInfo{})
			_, err := s.Read(make([]byte, 1))
			checkSort(t, "Read", err, tt.read)
			_, err = s.Write([]byte("x"))
			checkSort(t, "Write", err, tt.write)
		})
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// checkSort tells whether an error is of one sort and of no other.
func checkSort(t *testing.T, call string, err, want error) {
	t.Helper()
	for _, sort := range []error{io.EOF, os.ErrDeadlineExceeded, net.ErrClosed, ErrReset, ErrNoListener} {
		if got := errors.Is(err, sort); got != (sort == want) {
			t.Errorf("%s = %v, want %v and nothing else: errors.Is(%v) = %v", call, err, want, sort, got)
		}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() != (want == os.ErrDeadlineExceeded) {
		t.Errorf("%s = %v, with Timeout() = %v", call, err, timeout.Timeout())
	}
}

// When a connection breaks as bytes are read, yamux gives its io.EOF together
// with them. The stream has not ended there, and must not seem to.
func TestStreamReadsBytesWithAnError(t *testing.T) {
	n := newTestNode(t, Config{})
	s := n.newStream(nil, readWriter{&breakingReader{left: "half"}, io.Discard}, streamInfo{})
	got, err := io.ReadAll(s)
	if string(got) != "half" {
		t.Errorf("ReadAll = %q, want what came before the error", got)
	}
	checkIs(t, "ReadAll", err, ErrReset)
}

// A breakingReader gives what is left together with io.EOF, and then says that
// it was reset.
type breakingReader struct{ left string }

func (r *breakingReader) Read(p []byte) (int, error) {
	if r.left == "" {
		return 0, network.ErrReset
	}
	k := copy(p, r.left)
	r.left = r.left[k:]
	return k, io.EOF
}
