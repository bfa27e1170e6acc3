package p2p

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-yamux/v5"
	"github.com/p2pnode/p2pnode/p2p/durable"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// ErrReset says that one end gave a stream up with Reset, or that the
// connection under it broke.
var ErrReset = errors.New("stream reset")

// An Addr is an end of a stream: a peer, and the protocol it speaks there.
type Addr struct {
	Peer     peer.ID
	Protocol string
}

// Network returns "p2p".
func (Addr) Network() string { return "p2p" }

// String returns the peer ID followed by the protocol.
func (a Addr) String() string { return a.Peer.String() + a.Protocol }

// A Stream carries bytes both ways between two nodes. It is a [net.Conn]; its
// methods may be called from several goroutines at once. Bytes arrive in
// order, once, or the stream ends with an error.
type Stream struct {
	node *Node
	info streamInfo
	raw  network.MuxedStream
	rw   io.ReadWriter // raw, or what names the protocol on raw first

	// yamux allows one Read and one Write at a time: a second would spend the
	// same window again.
	rmu, wmu sync.Mutex

	closed atomic.Bool
	cause  atomic.Pointer[error] // why Abort ended the stream
	ended  atomic.Bool           // this end has closed its side
	gone   atomic.Bool           // the other end has closed its side, or reset the stream
}

var _ net.Conn = (*Stream)(nil)

type streamInfo struct {
	local, remote peer.ID
	protocol      string
	path          Path
	lingers       bool         // see linger
	conn          network.Conn // where that is libp2p's
}

func (n *Node) newStream(raw network.MuxedStream, rw io.ReadWriter, info streamInfo) *Stream {
	if c, ok := raw.(network.Stream); ok {
		info.conn = c.Conn()
	}
	if _, lasts := raw.(*durableStream); !lasts { // which is counted for as long as it lasts
		n.streamOpened(info.remote, info.conn)
	}
	return &Stream{node: n, info: info, raw: raw, rw: rw}
}

// Peer returns the peer at the other end, whose key is proven.
func (s *Stream) Peer() peer.ID { return s.info.remote }

// RemoteIP returns the IP address that the stream's connection comes from, unless it
// comes through a relay.
func (s *Stream) RemoteIP() (netip.Addr, bool) {
	c := s.conn()
	if c == nil || pathTo(c.RemoteMultiaddr()) == PathRelay {
		return netip.Addr{}, false
	}
	return ipOf(c)
}

// conn returns the connection that the stream is on, nil if it has none.
func (s *Stream) conn() network.Conn {
	switch raw := s.raw.(type) {
	case *durableStream:
		raw.mu.Lock()
		defer raw.mu.Unlock()
		return raw.connLocked()
	case network.Stream:
		return raw.Conn()
	}
	return nil
}

// Broken tells whether the connection under the stream is closed, and there is no
// other yet if the stream outlives it.
func (s *Stream) Broken() bool {
	c := s.conn()
	if c == nil {
		_, lasts := s.raw.(*durableStream)
		return lasts
	}
	return c.IsClosed()
}

// Path tells how the stream's bytes travel now, or did last if they can't now.
func (s *Stream) Path() Path {
	if d, ok := s.raw.(*durableStream); ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.path
	}
	return s.info.path
}

// LocalAddr returns this end, an [Addr].
func (s *Stream) LocalAddr() net.Addr { return Addr{s.info.local, s.info.protocol} }

// RemoteAddr returns the other end, an [Addr].
func (s *Stream) RemoteAddr() net.Addr { return Addr{s.info.remote, s.info.protocol} }

// Read returns io.EOF once the other end has closed its side for writing and
// all it wrote has been read. Other errors are [*net.OpError]s around
// [os.ErrDeadlineExceeded], [net.ErrClosed], [ErrNoListener] or [ErrReset], which may
// come with [ErrTimeLimit] or [ErrUnknownStream].
func (s *Stream) Read(p []byte) (int, error) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	if s.closed.Load() {
		return 0, s.opError("read", net.ErrClosed)
	}
	if len(p) == 0 {
		return 0, nil
	}
	k, err := s.rw.Read(p)
	s.node.bytesIn.Add(uint64(k))
	if s.cause.Load() != nil { // not what came in while it was being ended
		return 0, s.opError("read", net.ErrClosed)
	}
	if k > 0 {
		// With bytes, yamux gives the error of the connection, which may be
		// io.EOF and is not the stream's end. A lasting error comes again.
		return k, nil
	}
	if err == io.EOF || errors.Is(err, network.ErrReset) {
		s.gone.Store(true)
	}
	return 0, s.opError("read", err)
}

// Write returns once the bytes are under way, not when they have arrived. Its
// errors are as Read's.
func (s *Stream) Write(p []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	k, err := s.rw.Write(p)
	s.node.bytesOut.Add(uint64(k))
	return k, s.opError("write", err)
}

// Fill is for who has much to write: it writes what one Read of r gives, n bytes at
// most, without a copy of its own where the stream keeps what it sends. While r has
// nothing, other writes wait too. Elsewhere it reads nothing, and the error is
// [errors.ErrUnsupported]. An error of r, which may be io.EOF, is returned as it is.
func (s *Stream) Fill(r io.Reader, n int) (int, error) {
	d, ok := s.raw.(*durableStream)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	k, rerr, werr := d.fill(r, n)
	s.node.bytesOut.Add(uint64(k))
	if werr != nil {
		return k, s.opError("write", werr)
	}
	return k, rerr
}

// CloseWrite tells the other end that no more will be written; it reads io.EOF
// after what is under way. Reading goes on, and Write fails with
// [net.ErrClosed].
func (s *Stream) CloseWrite() error {
	s.flush()
	s.ended.Store(true)
	return s.opError("close", s.raw.CloseWrite())
}

// Close ends the stream for reading and writing. What was written before is
// still sent; to know that it arrived, wait for the other end to say so. If the
// other end goes on writing, it gets [ErrReset]. Close may be called more than
// once, and returns nil.
func (s *Stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.flush()
	_ = s.raw.SetDeadline(time.Unix(1, 0)) // frees a Read or Write that waits
	if s.info.lingers && !s.gone.Load() {
		s.linger()
		return nil
	}
	_ = s.raw.Close() // an error here is that the other end went first
	s.uncount()
	return nil
}

// Reset gives the stream up: the other end gets [ErrReset], this one
// [net.ErrClosed], and bytes under way are dropped. After Close it does nothing.
func (s *Stream) Reset() error {
	if s.closed.Swap(true) {
		return nil
	}
	_ = s.raw.Reset() // an error here is that the other end went first
	s.uncount()
	return nil
}

// Abort is Reset for a reason: Read and Write of this end return it from now on,
// and not a byte more that had arrived.
func (s *Stream) Abort(reason error) error {
	s.cause.CompareAndSwap(nil, &reason)
	return s.Reset()
}

// Cause returns what Abort ended the stream for or, if that is nothing, why a stream on
// the path on this machine broke, which its socket can't tell. It is nil if neither is so.
func (s *Stream) Cause() error {
	if cause := s.cause.Load(); cause != nil {
		return *cause
	}
	if raw, ok := s.raw.(*unixsock.Stream); ok {
		return s.opError("read", raw.Broke())
	}
	return nil
}

func (s *Stream) uncount() {
	if _, lasts := s.raw.(*durableStream); !lasts {
		s.node.streamClosed(s.info.remote, s.info.conn)
	}
}

// flush names the protocol to the other end if nothing was written yet.
func (s *Stream) flush() {
	switch rw := s.rw.(type) {
	case *namer:
		rw.Flush()
	case *durableStream:
		rw.announce()
	}
}

// SetDeadline sets the time after which Read and Write fail with
// [os.ErrDeadlineExceeded]; the zero time means never.
func (s *Stream) SetDeadline(t time.Time) error { return s.setDeadline(t, s.raw.SetDeadline) }

// SetReadDeadline is SetDeadline for Read alone.
func (s *Stream) SetReadDeadline(t time.Time) error {
	return s.setDeadline(t, s.raw.SetReadDeadline)
}

// SetWriteDeadline is SetDeadline for Write alone.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	return s.setDeadline(t, s.raw.SetWriteDeadline)
}

func (s *Stream) setDeadline(t time.Time, set func(time.Time) error) error {
	if s.closed.Load() {
		return s.opError("set", net.ErrClosed)
	}
	return s.opError("set", set(t))
}

func (s *Stream) opError(op string, err error) error {
	cause := s.cause.Load()
	switch {
	case err == nil, err == io.EOF && op == "read" && cause == nil:
		return err
	case cause != nil:
		err = *cause
	case s.closed.Load(), s.ended.Load() && op == "write":
		err = net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, yamux.ErrTimeout):
		err = os.ErrDeadlineExceeded
	case errors.Is(err, network.ErrReset):
		err = ErrReset
	case errors.Is(err, durable.ErrTimeLimit), errors.Is(err, durable.ErrUnknown):
		err = fmt.Errorf("%w: %w", ErrReset, err)
	case !errors.Is(err, ErrNoListener) && !errors.Is(err, ErrReset):
		// What broke a connection may call itself a time-out or closed, or be
		// io.EOF. To the stream it is none of these.
		err = fmt.Errorf("%w: %v", ErrReset, err)
	}
	return &net.OpError{Op: op, Net: "p2p", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}
