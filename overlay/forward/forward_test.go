package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// A dialFunc is a mesh that only dials.
type dialFunc func(context.Context) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, _, _ string) (net.Conn, error) { return f(ctx) }

func refuse(context.Context) (net.Conn, error) { return nil, errors.New("alice/web is down") }

// dialUntilEnd is a dial that is never answered.
func dialUntilEnd(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func newForward(t *testing.T, mesh Dialer, c Config) *Forward {
	t.Helper()
	f, err := NewForward(mesh, "alice/web", Address{}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func dialTCP(t *testing.T, a net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wantTurnedAway checks that a new client is reset. That may be so soon that the
// client's dial is what fails.
func wantTurnedAway(t *testing.T, a net.Addr) {
	t.Helper()
	c, err := net.Dial("tcp", a.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wantReset(t, c)
}

func TestPortInUse(t *testing.T) {
	first := newForward(t, dialFunc(refuse), Config{})
	_, err := NewForward(dialFunc(refuse), "alice/web", addressOf(t, first.Addr()), Config{})
	checkErr(t, err, "forward: listen on "+first.Addr().String()+": ")
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("NewForward on a port in use = %v, want %v", err, syscall.EADDRINUSE)
	}
}

func TestConfigErrors(t *testing.T) {
	bad := Config{DialTimeout: -time.Second, MaxOpen: -1}
	_, err := NewForward(dialFunc(refuse), "alice/web", Address{}, bad)
	checkErr(t, err, "Config.DialTimeout is negative: -1s")
	checkErr(t, err, "Config.MaxOpen is negative: -1")
	_, err = NewExpose(listenTCP(t), Address{}, bad)
	checkErr(t, err, "Config.MaxOpen is negative: -1")
	checkErr(t, err, "target 127.0.0.1:0: port 0 can't be dialled")
}

func TestFailedDialResetsClient(t *testing.T) {
	var log bytes.Buffer
	f := newForward(t, dialFunc(refuse), Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		wantTurnedAway(t, f.Addr())
	}
	f.Close()
	s := f.Stats()
	if s.Total != 3 || s.Failed != 3 || s.Open != 0 {
		t.Errorf("Stats() = %+v, want 3 of 3 failed and none open", s)
	}
	checkErr(t, s.LastError, "alice/web is down")
	if n := strings.Count(log.String(), "alice/web is down"); n != 1 {
		t.Errorf("lines logged = %d, want 1 for three times the same:\n%s", n, &log)
	}
}

func TestLastErrorIsForgottenAfterSuccess(t *testing.T) {
	a, b := pair(t, "tcp")
	mesh := newMuxMesh(t, a, b)
	var down atomic.Bool
	down.Store(true)
	f := newForward(t, dialFunc(func(ctx context.Context) (net.Conn, error) {
		if down.Load() {
			return refuse(ctx)
		}
		return mesh.DialContext(ctx, "", "")
	}), Config{})
	wantTurnedAway(t, f.Addr())
	checkErr(t, f.Stats().LastError, "alice/web is down")
	down.Store(false)
	client := dialTCP(t, f.Addr())
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	stream, err := mesh.listener.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	checkErr(t, f.Stats().LastError, "")
	stream.Reset()
}

func TestDialTimeout(t *testing.T) {
	f := newForward(t, dialFunc(dialUntilEnd), Config{DialTimeout: time.Millisecond})
	wantTurnedAway(t, f.Addr())
	if err := f.Stats().LastError; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("LastError = %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestCloseEndsDial(t *testing.T) {
	dialling := make(chan struct{})
	f := newForward(t, dialFunc(func(ctx context.Context) (net.Conn, error) {
		close(dialling)
		return dialUntilEnd(ctx)
	}), Config{})
	client := dialTCP(t, f.Addr())
	<-dialling
	if got := f.Stats().Open; got != 1 {
		t.Errorf("Stats().Open while dialling = %d, want 1", got)
	}
	f.Close()
	wantReset(t, client)
	checkErr(t, f.Stats().LastError, "")
}

// Close must leave nothing behind, however often and from wherever it is called.
func TestCloseDuringTraffic(t *testing.T) {
	for _, kind := range []string{"mux", "tcp"} {
		t.Run(kind, func(t *testing.T) {
			c := newChain(t, newMesh(t, kind), "tcp", "tcp")
			before := goleak.IgnoreCurrent() // the accept loops too, which end below
			var wg sync.WaitGroup
			var conns []net.Conn
			for range 10 {
				client, server := c.connectRaw(t)
				conns = append(conns, client, server)
			}
			var flowing sync.WaitGroup // until bytes have come in everywhere
			flowing.Add(len(conns))
			for _, conn := range conns {
				wg.Go(func() { babble(conn) })
				wg.Go(func() { swallow(conn, flowing.Done) })
			}
			flowing.Wait()
			for range 3 {
				wg.Go(func() { c.forward.Close() })
			}
			c.forward.Close()
			c.expose.Close()
			wg.Wait()
			if open := c.forward.Stats().Open + c.expose.Stats().Open; open != 0 {
				t.Errorf("connections open after Close = %d, want 0", open)
			}
			goleak.VerifyNone(t, before)
			if err := c.forward.Close(); err != nil {
				t.Errorf("second Close() = %v, want <nil>", err)
			}
		})
	}
}

func babble(c net.Conn) {
	block := make([]byte, 64<<10)
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

func swallow(c net.Conn, flowing func()) {
	_, err := io.CopyN(io.Discard, c, 64<<10)
	flowing()
	if err == nil {
		_, _ = io.Copy(io.Discard, c)
	}
}

func TestStats(t *testing.T) {
	for _, kind := range []string{"mux", "tcp"} {
		t.Run(kind, func(t *testing.T) {
			c := newChain(t, newMesh(t, kind), "tcp", "tcp")
			client, server := c.connect(t)
			client.send(t, []byte("ge"))
			server.waitFor(2)
			client.send(t, []byte("t")) // which is moved after "ge" was counted
			server.waitFor(3)
			if got := c.forward.Stats(); got.Open != 1 || got.Sent < 2 {
				t.Errorf("Forward.Stats() after 2 bytes = %+v, want 1 open and 2 sent", got)
			}
			client.finish(t)
			server.send(t, []byte("hello"))
			server.finish(t)
			client.wantAll(t, "client", []byte("hello"))
			server.wantAll(t, "server", []byte("get"))
			c.forward.Close()
			c.expose.Close()
			if got, want := c.forward.Stats(), (Stats{Total: 1, Sent: 3, Received: 5}); !reflect.DeepEqual(got, want) {
				t.Errorf("Forward.Stats() = %+v, want %+v", got, want)
			}
			if got, want := c.expose.Stats(), (Stats{Total: 1, Sent: 5, Received: 3}); !reflect.DeepEqual(got, want) {
				t.Errorf("Expose.Stats() = %+v, want %+v", got, want)
			}
		})
	}
}

// A fakeListener gives what is sent to it.
type fakeListener struct {
	accepts chan accepted
	closed  chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

func newFakeListener() *fakeListener {
	return &fakeListener{make(chan accepted), make(chan struct{})}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepts:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *fakeListener) Addr() net.Addr { return nil }

func startAcceptor(t *testing.T, ln net.Listener, dial dialFunc, c Config) *acceptor {
	t.Helper()
	c, err := c.withDefaults(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return newAcceptor(ln, always(dialling(dial), near{}), (*acceptor).tieBytes, c)
}

// A want of descriptors must neither end the accept loop nor make it spin.
func TestAcceptOutlastsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		a := startAcceptor(t, ln, refuse, Config{})
		defer a.close()
		began := time.Now()
		for range 10 {
			ln.accepts <- accepted{err: syscall.EMFILE}
		}
		stream := newFakeStream()
		ln.accepts <- accepted{conn: stream}
		<-stream.gone
		// 5 + 10 + 20 + ... + 640 ms, and then twice the longest delay.
		if got, want := time.Since(began), 1275*time.Millisecond+2*time.Second; got != want {
			t.Errorf("ten failed accepts took %v, want %v", got, want)
		}
	})
}

func TestCloseDuringAcceptDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		a := startAcceptor(t, ln, refuse, Config{})
		began := time.Now()
		ln.accepts <- accepted{err: syscall.EMFILE}
		synctest.Wait()
		a.close()
		if got := time.Since(began); got != 0 {
			t.Errorf("close took %v, want no time", got)
		}
	})
}

// A mesh that is closed closes its listeners.
func TestListenerClosedFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		a := startAcceptor(t, ln, refuse, Config{})
		ln.accepts <- accepted{err: net.ErrClosed}
		a.wg.Wait()
		if err := a.stats().LastError; !errors.Is(err, net.ErrClosed) {
			t.Errorf("LastError = %v, want %v", err, net.ErrClosed)
		}
		a.close()
	})
}

func TestMaxOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		a := startAcceptor(t, ln, dialUntilEnd, Config{MaxOpen: 2, DialTimeout: time.Hour})
		defer a.close()
		go func() {
			for {
				select {
				case ln.accepts <- accepted{conn: newFakeStream()}:
				case <-ln.closed:
					return
				}
			}
		}()
		synctest.Wait()
		if got := a.stats(); got.Open != 2 || got.Total != 2 {
			t.Errorf("stats() = %+v, want 2 open of 2", got)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // it is synctest's time
		synctest.Wait()
		if got := a.stats(); got.Open != 2 || got.Total != 4 {
			t.Errorf("stats() when two dials have timed out = %+v, want 2 open of 4", got)
		}
	})
}

// What a client may send while nobody reads at the other end is bounded by what
// the copy buffers and the stream hold.
func TestBackPressureThroughChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		mesh := newMuxMesh(t, x, y)
		client, local := net.Pipe()
		target, server := net.Pipe()
		ln := newFakeListener()
		f := startAcceptor(t, ln, func(ctx context.Context) (net.Conn, error) { return mesh.DialContext(ctx, "", "") }, Config{})
		streams, err := mesh.Listen("")
		if err != nil {
			t.Fatal(err)
		}
		e := startAcceptor(t, streams, func(context.Context) (net.Conn, error) { return target, nil }, Config{})
		ln.accepts <- accepted{conn: local}
		sent := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			block := make([]byte, 4<<10)
			for {
				n, err := client.Write(block)
				sent += n
				if err != nil {
					return
				}
			}
		})
		synctest.Wait()
		// Two buffers that have not grown, since the client writes less, or hardly;
		// and the window of a stream.
		if limit := 256<<10 + 2*64<<10; sent == 0 || sent > limit {
			t.Errorf("client sent %d bytes that nobody took, want 1 to %d", sent, limit)
		}
		f.close()
		e.close()
		server.Close()
		wg.Wait()
	})
}
