package p2p

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// maxPending bounds the streams of one protocol that wait to be accepted. More
// are reset.
const maxPending = maxPeerStreams

// A Listener accepts the streams of one protocol. It is a [net.Listener].
type Listener struct {
	node    *Node
	proto   string
	pending chan *Stream
	asked   atomic.Pointer[func(*Stream) bool] // see OnAsk

	closeOnce sync.Once
	done      chan struct{}
}

var _ net.Listener = (*Listener)(nil)

// Listen accepts streams that peers open for a protocol. One protocol has one
// listener at a time.
func (n *Node) Listen(proto string) (*Listener, error) {
	l := &Listener{node: n, proto: proto, pending: make(chan *Stream, maxPending), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.alive(); err != nil {
		return nil, err
	}
	if n.listeners[proto] != nil {
		return nil, fmt.Errorf("listen for %s: there is a listener already", proto)
	}
	n.listeners[proto] = l
	n.kit.host.SetStreamHandler(protocol.ID(proto), l.receive)
	return l, nil
}

// receive takes in a stream whose protocol is named.
func (l *Listener) receive(raw network.Stream) {
	c := raw.Conn()
	l.offer(l.node.newStream(raw, raw, streamInfo{
		local: l.node.id, remote: c.RemotePeer(), protocol: l.proto, path: pathTo(c.RemoteMultiaddr()), lingers: runsYamux(c),
	}))
}

// OnAsk has take called with each stream of an Ask on the path on this machine, as
// soon as it comes in. take must not wait; if it returns false, the stream is for
// Accept.
func (l *Listener) OnAsk(take func(*Stream) bool) { l.asked.Store(&take) }

func (l *Listener) offer(s *Stream) {
	if take := l.asked.Load(); take != nil && s.asked() != nil && (*take)(s) {
		return
	}
	select {
	case <-l.done:
	case l.pending <- s:
		select {
		case <-l.done: // and nobody accepts it any more
			l.drain()
		default:
		}
		return
	default:
		l.node.log.Warn("stream refused", "proto", l.proto, "peer", s.Peer(), "err", "too many wait to be accepted")
	}
	s.Reset()
}

// Accept returns the next stream, a [*Stream]. After Close it returns an error
// that is [net.ErrClosed].
func (l *Listener) Accept() (net.Conn, error) {
	s, err := l.AcceptStream()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// AcceptStream is Accept with the type that it returns.
func (l *Listener) AcceptStream() (*Stream, error) {
	select {
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "p2p", Addr: l.Addr(), Err: net.ErrClosed}
	case s := <-l.pending:
		return s, nil
	}
}

// Addr returns where the listener can be dialed, an [Addr].
func (l *Listener) Addr() net.Addr { return Addr{l.node.id, l.proto} }

// Close stops accepting, and resets the streams that were not accepted. The
// accepted ones stay.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.node.forget(l)
		close(l.done)
		l.drain()
	})
	return nil
}

func (l *Listener) drain() {
	for {
		select {
		case s := <-l.pending:
			s.Reset()
		default:
			return
		}
	}
}

func (n *Node) forget(l *Listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[l.proto] == l {
		delete(n.listeners, l.proto)
		n.kit.host.RemoveStreamHandler(protocol.ID(l.proto))
	}
}
