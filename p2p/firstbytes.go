package p2p

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// On a port that TCP and WebSocket share, go-libp2p tells one from the other by
// the first three bytes, and waits for those of no more than 64 connections at
// a time: who opens 64 and says nothing keeps all others out. So connections
// get to it only once these bytes are in, and wait for them here, where there
// is more room and one address cannot take it all.
const (
	firstBytesSize    = 3
	firstBytesTimeout = admissionTimeout
)

// A connection has a turn from when it is accepted until its handshake is
// through: both may be drawn out, and cost alike.
const (
	maxHandshakes        = maxTransientConns / 4
	maxAddressHandshakes = maxHandshakes / 2
)

// A sharingUpgrader is an upgrader whose listeners wait for first bytes.
type sharingUpgrader struct{ transport.Upgrader }

func (u sharingUpgrader) GateMaListener(l manet.Listener) transport.GatedMaListener {
	return newFirstBytes(u.Upgrader.GateMaListener(l), firstBytesTimeout)
}

// firstBytes is a listener of connections whose first bytes are in.
type firstBytes struct {
	listener transport.GatedMaListener
	timeout  time.Duration
	turns    turns
	ready    chan arrival
	life     context.Context
	end      context.CancelFunc
	work     sync.WaitGroup

	failed chan struct{} // closed once err is set
	err    error
}

var _ transport.GatedMaListener = (*firstBytes)(nil)

type arrival struct {
	conn  manet.Conn
	scope network.ConnManagementScope
}

func (a arrival) drop() {
	a.conn.Close()
	a.scope.Done()
}

func newFirstBytes(l transport.GatedMaListener, timeout time.Duration) *firstBytes {
	f := &firstBytes{
		listener: l, timeout: timeout, turns: turns{max: maxHandshakes, maxEach: maxAddressHandshakes},
		ready: make(chan arrival), failed: make(chan struct{}),
	}
	f.life, f.end = context.WithCancel(context.Background())
	f.work.Go(f.runAccept)
	return f
}

func (f *firstBytes) runAccept() {
	defer close(f.failed)
	for {
		conn, scope, err := f.listener.Accept()
		switch {
		case err == nil:
			f.take(arrival{conn, scope})
		case !f.rests(err):
			f.err = err
			return
		}
	}
}

// acceptRest is how long a listener waits for files or memory to be free again.
const acceptRest = 100 * time.Millisecond

// rests tells whether an error will pass, after having waited a little.
func (f *firstBytes) rests(err error) bool {
	passes := []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}
	for _, p := range passes {
		if errors.Is(err, p) {
			select {
			case <-time.After(acceptRest):
				return true
			case <-f.life.Done():
			}
		}
	}
	return false
}

func (f *firstBytes) take(a arrival) {
	turn := f.turns.take(addressOf(a.conn.RemoteMultiaddr()), func() { a.conn.Close() })
	a.scope = &strangerScope{a.scope, func() { f.turns.done(turn) }}
	f.work.Go(func() { f.pass(a) })
}

// pass hands a connection on when its first bytes are in.
func (f *firstBytes) pass(a arrival) {
	conn, err := f.await(a.conn)
	if err != nil {
		a.drop()
		return
	}
	select {
	case f.ready <- arrival{conn, a.scope}:
	case <-f.life.Done():
		a.drop()
	}
}

func (f *firstBytes) await(conn manet.Conn) (manet.Conn, error) {
	tcp, ok := conn.(tcpConn)
	if !ok {
		return conn, nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(f.timeout)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(f.life, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	first := make([]byte, firstBytesSize)
	if _, err := io.ReadFull(conn, first); err != nil {
		return nil, err
	}
	return &replayConn{tcpConn: tcp, first: first}, conn.SetReadDeadline(time.Time{})
}

// Accept returns the next connection whose first bytes are in.
func (f *firstBytes) Accept() (manet.Conn, network.ConnManagementScope, error) {
	select {
	case a := <-f.ready:
		return a.conn, a.scope, nil
	case <-f.failed:
		return nil, nil, f.err
	}
}

// Close closes the listener and the connections that wait.
func (f *firstBytes) Close() error {
	f.end()
	err := f.listener.Close()
	f.work.Wait()
	return err
}

func (f *firstBytes) Multiaddr() multiaddr.Multiaddr { return f.listener.Multiaddr() }
func (f *firstBytes) Addr() net.Addr                 { return f.listener.Addr() }

// A tcpConn is what go-libp2p takes for a TCP connection.
type tcpConn interface {
	manet.Conn
	syscall.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	SetLinger(sec int) error
	SetKeepAlive(keepalive bool) error
	SetKeepAlivePeriod(d time.Duration) error
	SetNoDelay(noDelay bool) error
	MultipathTCP() (bool, error)
}

// A replayConn gives its first bytes once more.
type replayConn struct {
	tcpConn
	first []byte // not yet read
}

func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.first) == 0 {
		return c.tcpConn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// WriteTo hides the one that would skip the first bytes.
func (c *replayConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}
