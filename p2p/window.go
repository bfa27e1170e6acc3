package p2p

import (
	"context"
	"net"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/libp2p/go-libp2p/core/network"
	libp2pyamux "github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-yamux/v5"
)

// yamux widens the window of a stream that reads fast, and each time forgets to tell the
// peer of what was read since the last (go-yamux v5.1.0, Stream.sendWindowUpdate). A peer
// whose window was doubled some times has half of it, and hears of more only when that is
// used up: it sends, and waits for a round trip, in turns. A link of 100 Mbit/s and 100 ms
// was used to eight tenths. So yamux is kept from widening, and it is done here: what
// yamux tells the peer next is then what there is room for.

const (
	// maxWindow is what a stream's window grows to, 1 Gbit/s at 130 ms. Half of it may be
	// under way before yamux tells of more.
	maxWindow = 16 << 20

	// wideWithin and wideTrips are how long half of a window has to last for it not to
	// be widened, with so many round trips, of which yamux measures one twice a minute.
	// That is too little where what was lost is waited for, or a round trip has become
	// longer, or a machine is busy.
	wideWithin = 200 * time.Millisecond
	wideTrips  = 4

	// wideShare is up to which share of the memory that there is windows may grow, in
	// 256ths: beyond it is for new streams.
	wideShare = 128
)

// windowField is where yamux has a stream's window. It has no setting for that of a
// stream, and a test sees that it is there.
var windowField, hasWindow = reflect.TypeFor[yamux.Stream]().FieldByName("recvWindow")

// A wideningMuxer is yamux with windows that are widened here.
type wideningMuxer struct{ *libp2pyamux.Transport }

func (m wideningMuxer) NewConn(c net.Conn, server bool, scope network.PeerScope) (network.MuxedConn, error) {
	inner, err := m.Transport.NewConn(c, server, scope)
	var session *yamux.Session
	if err != nil || !hasWindow || !inner.As(&session) {
		return inner, err
	}
	return &wideningConn{inner, session, scope}, nil
}

type wideningConn struct {
	network.MuxedConn
	session *yamux.Session
	scope   network.PeerScope // nil for one without bounds
}

func (c *wideningConn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	return c.widening(c.MuxedConn.OpenStream(ctx))
}

func (c *wideningConn) AcceptStream() (network.MuxedStream, error) {
	return c.widening(c.MuxedConn.AcceptStream())
}

func (c *wideningConn) widening(s network.MuxedStream, err error) (network.MuxedStream, error) {
	if err != nil {
		return nil, err
	}
	at := unsafe.Add(reflect.ValueOf(s).UnsafePointer(), windowField.Offset) // go-libp2p's type is yamux's by another name
	return &wideningStream{MuxedStream: s, conn: c, window: (*uint32)(at)}, nil
}

// A wideningStream widens its window as it is read. As yamux's, it is read by one
// goroutine at a time.
type wideningStream struct {
	network.MuxedStream
	conn *wideningConn

	// Used by Read alone.
	window *uint32
	read   uint32 // of the window, since
	since  time.Time

	mu   sync.Mutex                // guards the fields below
	held network.ResourceScopeSpan // the memory that the window has grown by
	over bool                      // no more is held
}

func (s *wideningStream) Read(p []byte) (int, error) {
	n, err := s.MuxedStream.Read(p)
	if err != nil && !timedOut(err) {
		s.release()
	}
	if s.read += uint32(n); s.read >= *s.window/2 || s.since.IsZero() {
		s.weigh()
	}
	return n, err
}

// weigh widens the window if half of it was read in a short time.
func (s *wideningStream) weigh() {
	now := time.Now()
	took := now.Sub(s.since)
	if *s.window < maxWindow && took <= wideTrips*s.conn.session.RTT()+wideWithin && s.hold(int(*s.window)) {
		*s.window *= 2
	}
	s.read, s.since = 0, now
}

// hold takes memory for more window, if there is some.
func (s *wideningStream) hold(n int) bool {
	if s.conn.scope == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	if s.held == nil {
		span, err := s.conn.scope.BeginSpan()
		if err != nil {
			return false
		}
		s.held = span
	}
	return s.held.ReserveMemory(n, wideShare) == nil
}

// release gives the memory back: nothing more is read.
func (s *wideningStream) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over = true; s.held != nil {
		s.held.Done()
		s.held = nil
	}
}

func (s *wideningStream) Close() error {
	s.release()
	return s.MuxedStream.Close()
}

func (s *wideningStream) CloseRead() error {
	s.release()
	return s.MuxedStream.CloseRead()
}

func (s *wideningStream) Reset() error {
	s.release()
	return s.MuxedStream.Reset()
}

func (s *wideningStream) ResetWithError(code network.StreamErrorCode) error {
	s.release()
	return s.MuxedStream.ResetWithError(code)
}
