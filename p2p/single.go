package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	coreconnmgr "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A connection with a muxer copies each byte twice more, wakes two more goroutines for
// it, and has windows beside those of TCP. So a stream that has shown to be bulk may have
// a TCP connection of its own, on which TLS is all there is. The muxer that TLS
// negotiates is then singleID, which no other program knows. libp2p never has such a
// connection: it would open other streams on it.

const singleID protocol.ID = "/p2pnode/single/1"

// errNoSingle says why a peer can't be given a connection of its own for a stream.
var errNoSingle = errors.New("no direct connection by TCP to make another like")

// A singleMuxer makes connections of one stream.
type singleMuxer struct{}

func (singleMuxer) NewConn(c net.Conn, _ bool, _ network.PeerScope) (network.MuxedConn, error) {
	secure, ok := c.(*bulkSecure)
	if !ok {
		return nil, fmt.Errorf("%s runs on TLS alone, not %T", singleID, c)
	}
	return &singleConn{bulkSecure: secure, done: make(chan struct{})}, nil
}

// A singleConn is a connection and the one stream that it carries, which ends with it.
type singleConn struct {
	*bulkSecure
	closeOnce sync.Once
	done      chan struct{} // closed with the connection
}

// asSingle returns the single that a connection is, or nil.
func asSingle(c interface{ As(any) bool }) *singleConn {
	var s *singleConn
	if !c.As(&s) {
		return nil
	}
	return s
}

func (s *singleConn) As(target any) bool {
	if t, ok := target.(**singleConn); ok {
		*t = s
		return true
	}
	return false
}

// OpenStream and AcceptStream are not for libp2p, which would do so again.
func (*singleConn) OpenStream(context.Context) (network.MuxedStream, error) {
	return nil, errors.ErrUnsupported
}

func (*singleConn) AcceptStream() (network.MuxedStream, error) { return nil, errors.ErrUnsupported }

// Close closes TCP and says nothing by TLS, which the other end takes for a reset.
func (s *singleConn) Close() error {
	err := net.ErrClosed
	s.closeOnce.Do(func() {
		close(s.done)
		err = s.raw.Conn.Close()
	})
	return err
}

func (s *singleConn) CloseWithError(network.ConnErrorCode) error { return s.Close() }

func (s *singleConn) IsClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// A singleStream is the stream of a single. Reads must not overlap each other, nor
// writes. A write deadline that passes ends it, as what was sent of a record can't be
// taken back.
type singleStream struct {
	conn *singleConn
	end  func() // closes the connection, and counts it out
}

var _ network.MuxedStream = (*singleStream)(nil)

// wholeRecord is what a record of TLS takes at most, with its header and tag.
const wholeRecord = oneRecord + 256 + 5

// Read returns as much as has come, up to what p holds: a Read of TLS has one record at
// most. It returns io.EOF only where the other end has closed its side.
func (s *singleStream) Read(p []byte) (n int, err error) {
	c := s.conn
	for len(p) > 0 {
		k, err := c.SecureConn.Read(p[n:])
		n += k
		switch {
		case n > 0 && (err != nil || n == len(p) || c.raw.unread() < wholeRecord):
			return n, nil // a lasting error comes again
		case errors.Is(err, io.EOF) && c.raw.ended.Load():
			return 0, network.ErrReset // TCP has ended, and TLS has not
		case err != nil:
			return 0, c.plain(err)
		}
	}
	return 0, nil
}

func (s *singleStream) Write(p []byte) (int, error) {
	n, err := s.conn.Write(p)
	return n, s.conn.plain(err)
}

// plain makes what a connection that is gone says that which a stream says.
func (s *singleConn) plain(err error) error {
	var timeout net.Error
	if err == nil || err == io.EOF || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return fmt.Errorf("%w: %w", network.ErrReset, err)
}

func (s *singleStream) CloseWrite() error {
	c, ok := s.conn.SecureConn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return s.conn.plain(c.CloseWrite())
}

// CloseRead has a Read that waits return, and those to come.
func (s *singleStream) CloseRead() error { return s.SetReadDeadline(time.Unix(1, 0)) }

// Close ends the connection. What the other end still sends may keep it from getting
// the last of what was sent from here: wait for its end before.
func (s *singleStream) Close() error {
	err := s.CloseWrite()
	s.end()
	return err
}

func (s *singleStream) Reset() error {
	s.end()
	return nil
}

func (s *singleStream) ResetWithError(network.StreamErrorCode) error { return s.Reset() }
func (s *singleStream) SetDeadline(t time.Time) error                { return s.conn.SetDeadline(t) }
func (s *singleStream) SetReadDeadline(t time.Time) error            { return s.conn.SetReadDeadline(t) }
func (s *singleStream) SetWriteDeadline(t time.Time) error           { return s.conn.SetWriteDeadline(t) }

// A singleExchange is the admission exchange's part of a single: what comes before the
// stream.
type singleExchange struct{ *singleConn }

func (s singleExchange) Close() error { return s.SetDeadline(time.Time{}) }

// singles are a node's connections for one stream each.
type singles struct {
	node *Node

	mu     sync.Mutex // guards the fields below
	accept func(peer.ID, network.MuxedStream)
	all    map[peer.ID]map[transport.CapableConn]struct{}
}

func newSingles(n *Node) *singles {
	return &singles{node: n, all: map[peer.ID]map[transport.CapableConn]struct{}{}}
}

// addSingles makes what dials singles.
func (k *hostKit) addSingles(c Config, g coreconnmgr.ConnectionGater) error {
	muxers := []upgrader.StreamMuxer{{ID: singleID, Muxer: singleMuxer{}}}
	security, err := libp2ptls.New(libp2ptls.ID, k.key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{bulkTLS{security}}, muxers, nil, k.resources, g)
	if err != nil {
		return err
	}
	k.single, err = tcp.NewTCPTransport(up, k.resources, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(c.DialTimeout))
	return err
}

// handle has accept called with each stream that a peer opens. It may take its time.
// Before, they are reset.
func (s *singles) handle(accept func(peer.ID, network.MuxedStream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accept = accept
}

func (s *singles) handler() func(peer.ID, network.MuxedStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accept
}

// open makes a connection to a peer for one stream and returns that, once both ends have
// admitted each other. There has to be a connection by TCP, to the same address of the
// peer, and no relay between. The connection ends with the stream.
func (s *singles) open(ctx context.Context, id peer.ID) (network.MuxedStream, error) {
	addrs := s.addrs(id)
	if len(addrs) == 0 {
		return nil, errNoSingle
	}
	var errs []error
	for _, addr := range addrs {
		c, err := s.node.kit.single.Dial(ctx, addr, id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return s.enter(c, true)
	}
	return nil, errors.Join(errs...)
}

// addrs returns where a peer may be dialed again.
func (s *singles) addrs(id peer.ID) (out []multiaddr.Multiaddr) {
	c := s.node.bestConn(id)
	if c == nil || transportRank(c.RemoteMultiaddr()) != rankTCP || pathTo(c.RemoteMultiaddr()) == PathRelay {
		return nil
	}
	if dialer(c) == s.node.id {
		return []multiaddr.Multiaddr{c.RemoteMultiaddr()}
	}
	at, err := manet.ToIP(c.RemoteMultiaddr())
	for _, a := range s.node.kit.host.Peerstore().Addrs(id) {
		if to, unknown := manet.ToIP(a); err == nil && unknown == nil && to.Equal(at) && transportRank(a) == rankTCP && pathTo(a) != PathRelay {
			out = append(out, a)
		}
	}
	return out
}

// enter has a connection admitted, and returns its stream. Who disconnects the peer
// meanwhile closes it as well.
func (s *singles) enter(c transport.CapableConn, dialed bool) (network.MuxedStream, error) {
	single := asSingle(c)
	if single == nil {
		_ = c.Close()
		return nil, errNoSingle
	}
	s.add(c)
	err := cmp.Or(s.node.gate.admit(c, dialed), s.node.alive())
	if err == nil && single.IsClosed() {
		err = fmt.Errorf("%w: the peer was disconnected", network.ErrReset)
	}
	if err != nil {
		s.remove(c)
		return nil, err
	}
	return &singleStream{conn: single, end: sync.OnceFunc(func() { s.remove(c) })}, nil
}

func (s *singles) add(c transport.CapableConn) {
	id := c.RemotePeer()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[id] == nil {
		s.all[id] = map[transport.CapableConn]struct{}{}
	}
	s.all[id][c] = struct{}{}
}

func (s *singles) remove(c transport.CapableConn) {
	id := c.RemotePeer()
	s.mu.Lock()
	delete(s.all[id], c)
	if len(s.all[id]) == 0 {
		delete(s.all, id)
	}
	s.mu.Unlock()
	_ = c.Close() // what it says nobody waits for
}

// close ends all to a peer, or to all.
func (s *singles) close(ids ...peer.ID) {
	s.mu.Lock()
	var conns []transport.CapableConn
	for id, all := range s.all {
		for c := range all {
			if len(ids) == 0 || id == ids[0] {
				conns = append(conns, c)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // its stream says that it is gone
	}
}

// take has a connection that came in if it is a single.
func (s *singles) take(c transport.CapableConn) bool {
	if asSingle(c) == nil {
		return false
	}
	started := s.node.start(func() {
		stream, err := s.enter(c, false)
		if err != nil {
			s.node.log.Debug("connection for one stream", "peer", c.RemotePeer(), "err", err)
			return
		}
		if accept := s.handler(); accept != nil {
			accept(c.RemotePeer(), stream)
		} else {
			_ = stream.Reset()
		}
	})
	if !started {
		_ = c.Close()
	}
	return true
}

// A singlesListener keeps singles from libp2p.
type singlesListener struct {
	transport.Listener
	take func(transport.CapableConn) bool
}

func (l *singlesListener) Accept() (transport.CapableConn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || !l.take(c) {
			return c, err
		}
	}
}
