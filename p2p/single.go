package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
// it, and has windows beside those of TCP. So a stream that has shown to be bulk, or to go
// to and fro much, may have a TCP connection of its own, on which TLS is all there is. The
// muxer that TLS negotiates is then singleID, which no other program knows. libp2p never
// has such a connection: it would open other streams on it.

const singleID protocol.ID = "/p2pnode/single/1"

const (
	// maxPeerSingles and maxSingles bound the connections for one stream, of one peer
	// and in all, whichever end made them: well below maxPeerConns and maxConns, so that
	// there is room for others. A node makes up to half of them for what is no bulk.
	maxPeerSingles = 8
	maxSingles     = 256

	// singleTry bounds the making of one.
	singleTry = 3 * time.Second

	// singleNear is how long the making of one may take for it to be used: three round
	// trips. On longer ways there is more under way, which is sent again, TCP takes long
	// to become fast, and CPU is seldom what there is too little of.
	singleNear = 100 * time.Millisecond

	// singleAgain is how long none is tried after one could not be made beside the same
	// connection: the peer's version knows none, or has enough, can't be dialed, or is far.
	singleAgain = time.Minute
)

// Why a stream gets no connection of its own.
var (
	errNoSingle    = errors.New("no direct connection by TCP to make another like")
	errManySingles = errors.New("too many connections for one stream each")
	errNoSingleYet = errors.New("it has failed not long ago")
	errFar         = errors.New("the peer is too far for it to gain anything")
)

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

// A singleStream is the stream of a single. Writes must not overlap each other. A deadline that passes within a Write ends it, as what was sent of a record
// can't be taken back; one that has passed before does not.
type singleStream struct {
	conn  *singleConn
	end   func()          // closes the connection, and counts it out
	moved func(bytes int) // is told what was read and written
	rmu   sync.Mutex      // held by who reads

	mu            sync.Mutex // guards the field below
	writeDeadline time.Time
}

var _ network.MuxedStream = (*singleStream)(nil)

// wholeRecord is what a record of TLS takes at most, with its header and tag.
const wholeRecord = oneRecord + 256 + 5

// Read returns as much as has come, up to what p holds: a Read of TLS has one record at
// most. It returns io.EOF only where the other end has closed its side.
func (s *singleStream) Read(p []byte) (n int, err error) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	c := s.conn
	for len(p) > 0 {
		k, err := c.SecureConn.Read(p[n:])
		n += k
		switch {
		case n > 0 && (err != nil || n == len(p) || c.raw.unread() < wholeRecord):
			s.moved(n)
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
	s.mu.Lock()
	late := passed(s.writeDeadline)
	s.mu.Unlock()
	if late {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := s.conn.Write(p)
	s.moved(n)
	if err != nil && timedOut(err) {
		return n, fmt.Errorf("%w: a deadline has passed within a record", network.ErrReset)
	}
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

// Close ends the stream, and its connection once the other end has done so too, for
// which it waits a while: TCP drops what is under way when what comes in meets nobody.
func (s *singleStream) Close() error {
	err := s.CloseWrite()
	if err == nil && s.SetReadDeadline(time.Now().Add(singleFarewell)) == nil {
		s.rmu.Lock()
		_, _ = io.CopyN(io.Discard, s.conn.SecureConn, singleFarewellBytes)
		s.rmu.Unlock()
	}
	s.end()
	return err
}

// How long the other end has to close its side, and what it may still send.
const (
	singleFarewell      = time.Second
	singleFarewellBytes = 1 << 10
)

func (s *singleStream) Reset() error {
	s.end()
	return nil
}

func (s *singleStream) ResetWithError(network.StreamErrorCode) error { return s.Reset() }
func (s *singleStream) SetReadDeadline(t time.Time) error            { return s.conn.SetReadDeadline(t) }

// SetDeadline sets both deadlines.
func (s *singleStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetWriteDeadline is for a Write that goes on too.
func (s *singleStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeDeadline = t
	return s.conn.SetWriteDeadline(t)
}

// A singleExchange is the admission exchange's part of a single: what comes before the
// stream.
type singleExchange struct{ *singleConn }

func (s singleExchange) Close() error { return s.SetDeadline(time.Time{}) }

// singles are a node's connections for one stream each.
type singles struct {
	node *Node

	// What a stream has to move before it gets one, see weighLocked, and how long it
	// may stall there; set before there are streams.
	after     uint64
	patience  time.Duration
	near      time.Duration                                    // see singleNear
	pause     time.Duration                                    // see singleAgain
	accept    func(beside network.Conn, s network.MuxedStream) // takes in what peers open
	most      int                                              // of one peer
	mostInAll int

	mu    sync.Mutex // guards the fields below
	all   map[peer.ID]map[*single]struct{}
	count int
	again map[string]time.Time // when one may be tried again, by the ID of the connection beside
}

// A single is a connection for one stream, or the room for it.
type single struct {
	conn  transport.CapableConn // nil while it is being made
	ended bool
}

func newSingles(n *Node) *singles {
	return &singles{
		node: n, after: singleAfter, patience: singlePatience, near: singleNear, pause: singleAgain, accept: n.receiveCarrier, most: maxPeerSingles, mostInAll: maxSingles,
		all: map[peer.ID]map[*single]struct{}{}, again: map[string]time.Time{},
	}
}

// addSingles makes what dials singles, by that name.
func (k *hostKit) addSingles(name protocol.ID, c Config, g coreconnmgr.ConnectionGater) error {
	muxers := []upgrader.StreamMuxer{{ID: name, Muxer: singleMuxer{}}}
	security, err := libp2ptls.New(libp2ptls.ID, k.key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{bulkTLS{Transport: security}}, muxers, nil, k.resources, g)
	if err != nil {
		return err
	}
	usual, err := tcp.NewTCPTransport(up, k.resources, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(c.DialTimeout))
	if err != nil {
		return err
	}
	narrow, err := tcp.NewTCPTransport(up, k.resources, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(c.DialTimeout), tcp.WithDialerForAddr(shortSegments))
	k.single = &patientTCP{usual, narrow}
	return err
}

// open makes a connection for one stream beside another to the same peer, which is by
// TCP with no relay between, and to the same address. It returns the stream once both
// ends have admitted each other. The connection ends with it.
func (s *singles) open(ctx context.Context, beside network.Conn, bulk bool) (*singleStream, error) {
	id := beside.RemotePeer()
	addrs := s.addrs(beside)
	if len(addrs) == 0 {
		return nil, errNoSingle
	}
	if s.failedLately(beside) {
		return nil, errNoSingleYet
	}
	room, err := s.reserve(id, bulk)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, singleTry)
	defer cancel()
	var errs []error
	began := time.Now()
	for _, addr := range addrs {
		c, err := s.node.kit.single.Dial(ctx, addr, id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		stream, err := s.enter(room, c, true)
		if err == nil && time.Since(began) > s.near {
			stream.end()
			err = errFar
		}
		if err != nil {
			s.failed(beside)
			return nil, err
		}
		return stream, nil
	}
	s.release(id, room)
	s.failed(beside)
	return nil, errors.Join(errs...)
}

// failed has none tried beside a connection for a while.
func (s *singles) failed(beside network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !beside.IsClosed() {
		s.again[beside.ID()] = time.Now().Add(s.pause)
	}
}

func (s *singles) failedLately(beside network.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.again[beside.ID()])
}

// connClosed forgets a connection.
func (s *singles) connClosed(beside network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.again, beside.ID())
}

// maxSingleAddrs is at how many addresses a peer is tried that has made the connection
// there is.
const maxSingleAddrs = 2

// addrs returns where a peer may be dialed once more that there is a connection to.
func (s *singles) addrs(c network.Conn) (out []multiaddr.Multiaddr) {
	if transportRank(c.RemoteMultiaddr()) != rankTCP || pathTo(c.RemoteMultiaddr()) == PathRelay {
		return nil
	}
	if dialer(c) == s.node.id {
		return []multiaddr.Multiaddr{c.RemoteMultiaddr()}
	}
	at, err := manet.ToIP(c.RemoteMultiaddr())
	for _, a := range s.node.kit.host.Peerstore().Addrs(c.RemotePeer()) {
		to, unknown := manet.ToIP(a)
		if err == nil && unknown == nil && to.Equal(at) && transportRank(a) == rankTCP && pathTo(a) != PathRelay && len(out) < maxSingleAddrs {
			out = append(out, a)
		}
	}
	return out
}

// enter has a connection admitted, and returns its stream. Who disconnects the peer
// meanwhile closes it as well.
func (s *singles) enter(room *single, c transport.CapableConn, dialed bool) (*singleStream, error) {
	id, conn := c.RemotePeer(), asSingle(c)
	if conn == nil {
		_ = c.Close()
		s.release(id, room)
		return nil, errNoSingle
	}
	s.mu.Lock()
	room.conn = c
	ended := room.ended
	s.mu.Unlock()
	err := s.node.alive()
	if err == nil && !ended {
		err = s.node.gate.admit(c, dialed)
	}
	if err == nil && (ended || conn.IsClosed()) {
		err = fmt.Errorf("%w: the peer was disconnected", network.ErrReset)
	}
	if err = cmp.Or(err, s.node.alive()); err != nil {
		s.release(id, room)
		return nil, err
	}
	return &singleStream{
		conn: conn, end: sync.OnceFunc(func() { s.release(id, room) }),
		moved: func(bytes int) {
			if bytes >= muchAtOnce {
				s.node.kit.traffic.note(id, int64(bytes), time.Now())
			}
		},
	}, nil
}

// reserve makes room for one more, of that for bulk or of the half for all.
func (s *singles) reserve(id peer.ID, bulk bool) (*single, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most, mostInAll := s.most, s.mostInAll
	if !bulk {
		most, mostInAll = most/2, mostInAll/2
	}
	if s.count >= mostInAll || len(s.all[id]) >= most {
		return nil, errManySingles
	}
	if s.all[id] == nil {
		s.all[id] = map[*single]struct{}{}
	}
	room := new(single)
	s.all[id][room] = struct{}{}
	s.count++
	return room, nil
}

func (s *singles) release(id peer.ID, room *single) {
	s.mu.Lock()
	if _, ok := s.all[id][room]; ok {
		s.count--
	}
	delete(s.all[id], room)
	if len(s.all[id]) == 0 {
		delete(s.all, id)
	}
	c := room.conn
	s.mu.Unlock()
	if c != nil {
		_ = c.Close() // what it says nobody waits for
	}
}

// close ends all to a peer, or to all.
func (s *singles) close(ids ...peer.ID) {
	s.mu.Lock()
	var conns []transport.CapableConn
	for id, all := range s.all {
		if len(ids) > 0 && id != ids[0] {
			continue
		}
		for room := range all {
			if room.ended = true; room.conn != nil {
				conns = append(conns, room.conn)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // its stream says that it is gone
	}
}

// take has a connection that came in if it is a single: what it begins with says what
// stream it is for.
func (s *singles) take(c transport.CapableConn) bool {
	if asSingle(c) == nil {
		return false
	}
	room, err := s.reserve(c.RemotePeer(), true)
	if err == nil && s.node.start(func() { s.serve(room, c) }) {
		return true
	}
	if err == nil {
		s.release(c.RemotePeer(), room)
	}
	_ = c.Close() // the peer's stream stays where it is
	return true
}

func (s *singles) serve(room *single, c transport.CapableConn) {
	stream, err := s.enter(room, c, false)
	if err != nil {
		s.node.log.Debug("connection for one stream", "peer", c.RemotePeer(), "err", err)
		return
	}
	if beside := s.node.bestConn(c.RemotePeer()); beside != nil {
		s.accept(beside, stream)
	} else {
		_ = stream.Reset()
	}
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
