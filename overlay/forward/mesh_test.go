package forward

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-yamux/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeMesh has two nodes: one dials, the other offers one service. It does not
// look at names.
type fakeMesh interface {
	Dialer
	Listen(service string) (net.Listener, error)
}

// muxMesh gives streams of a muxer, as between two hosts: they have CloseWrite
// and Reset, and are no sockets.
type muxMesh struct {
	dialer, listener *yamux.Session
}

// newMuxMesh makes a mesh on top of one connection, given by its two ends.
func newMuxMesh(tb testing.TB, a, b net.Conn) *muxMesh {
	tb.Helper()
	for _, end := range []net.Conn{a, b} {
		end.SetDeadline(time.Time{}) // it is for many tests, which have one each
	}
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.LogOutput = io.Discard
	dialer, err := yamux.Client(a, c, nil)
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := yamux.Server(b, c, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		dialer.Close()
		listener.Close()
	})
	return &muxMesh{dialer, listener}
}

func (m *muxMesh) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return m.dialer.Open(ctx)
}

// Listen may be called once. Closing the listener leaves the session, and so the
// streams, as they are.
func (m *muxMesh) Listen(string) (net.Listener, error) {
	ln := &muxListener{
		session: m.listener,
		streams: make(chan net.Conn),
		closed:  make(chan struct{}),
	}
	go ln.run()
	return ln, nil
}

type muxListener struct {
	session *yamux.Session
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (l *muxListener) run() {
	for {
		s, err := l.session.AcceptStream()
		if err != nil {
			return
		}
		select {
		case l.streams <- s:
		case <-l.closed:
			s.Reset()
		}
	}
}

func (l *muxListener) Accept() (net.Conn, error) {
	select {
	case s := <-l.streams:
		return s, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *muxListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *muxListener) Addr() net.Addr { return l.session.Addr() }

// tcpMesh gives TCP connections for streams, as a mesh would whose streams are
// kernel sockets.
type tcpMesh struct {
	ln net.Listener
}

func newTCPMesh(tb testing.TB) *tcpMesh {
	tb.Helper()
	return &tcpMesh{listenTCP(tb)}
}

func (m *tcpMesh) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", m.ln.Addr().String())
}

func (m *tcpMesh) Listen(string) (net.Listener, error) { return m.ln, nil }

func listenTCP(tb testing.TB) net.Listener {
	tb.Helper()
	ln, err := net.Listen("tcp", ownAddress())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	return ln
}

// ownAddress is where the tests listen. Nodes of other packages' tests, which run at
// the same time, still dial ports of 127.0.0.1 that one of them had, and what they
// send would be taken for a client's. Elsewhere than on Linux there is no other
// address of the machine's own.
func ownAddress() string {
	if runtime.GOOS == "linux" {
		return "127.0.0.2:0"
	}
	return "127.0.0.1:0"
}

// patience is after how long a test that hangs fails.
const patience = 20 * time.Second

// pair returns the two ends of a connection over TCP or a unix socket.
func pair(tb testing.TB, network string) (dialled, accepted net.Conn) {
	tb.Helper()
	ln := listenFor(tb, network)
	defer ln.Close()
	dialled, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	if accepted, err = ln.Accept(); err != nil {
		tb.Fatal(err)
	}
	for _, c := range []net.Conn{dialled, accepted} {
		tb.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
	}
	return dialled, accepted
}

func listenFor(tb testing.TB, network string) net.Listener {
	tb.Helper()
	if network == "tcp" {
		return listenTCP(tb)
	}
	ln, err := net.Listen("unix", tb.TempDir()+"/s")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	return ln
}

// addressOf returns what ParseAddress makes of a listener's address.
func addressOf(tb testing.TB, a net.Addr) Address {
	tb.Helper()
	s := a.String()
	if a.Network() == "unix" {
		s = unixPrefix + s
	}
	return mustParse(tb, s)
}

func mustParse(tb testing.TB, s string) Address {
	tb.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// serviceOf returns the listener of the one service that a fake has.
func serviceOf(tb testing.TB, mesh fakeMesh) net.Listener {
	tb.Helper()
	ln, err := mesh.Listen("web")
	if err != nil {
		tb.Fatal(err)
	}
	return ln
}
