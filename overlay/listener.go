package overlay

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/dht"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

const (
	// headerTimeout bounds how long a peer may take to name the service of a
	// stream it opened, and how long it waits for the answer.
	headerTimeout = 10 * time.Second

	// maxPending bounds the streams of one service that wait to be accepted.
	maxPending = 4096
)

// A Listener accepts streams to one service. It is a [net.Listener].
type Listener struct {
	mesh    *Mesh
	service string
	pending chan *Conn
	public  *dht.Publication // in the DHT

	closeOnce sync.Once
	done      chan struct{}
}

var _ net.Listener = (*Listener)(nil)

// Listen offers a service to all members, under a name such as "web", until
// the Listener is closed. Others find it by name through this member, or as
// "/web" through the DHT.
func (m *Mesh) Listen(service string) (*Listener, error) {
	if err := credential.CheckName(service); err != nil {
		return nil, fmt.Errorf("listen: service %w", err)
	}
	l := &Listener{mesh: m, service: service, pending: make(chan *Conn, maxPending), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("listen for %s: %w", service, ErrClosed)
	}
	if m.services[service] != nil {
		return nil, fmt.Errorf("listen for %s: %w", service, ErrServiceExists)
	}
	m.services[service] = l
	l.public = m.table.Provide(m.serviceKey(service))
	return l, nil
}

// ErrServiceExists says that this node offers a service of that name already.
var ErrServiceExists = errors.New("the service is offered already")

// Accept returns the next stream, a [*Conn]. After Close it returns an error
// that is [net.ErrClosed].
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptConn()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptConn is Accept with the type that it returns.
func (l *Listener) AcceptConn() (*Conn, error) {
	select {
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "mesh", Addr: l.Addr(), Err: net.ErrClosed}
	case c := <-l.pending:
		return c, nil
	}
}

// Addr returns where the service can be dialed, an [Addr].
func (l *Listener) Addr() net.Addr { return Addr{l.mesh.Self().Name, l.service} }

// Found is closed once all members can find the service. While this node is
// alone it is not.
func (l *Listener) Found() <-chan struct{} { return l.public.Done() }

// Close withdraws the service. Streams that were accepted stay open.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.mesh.withdraw(l)
		l.public.Stop()
		close(l.done)
		l.drain()
	})
	return nil
}

func (l *Listener) drain() {
	for {
		select {
		case c := <-l.pending:
			c.Reset()
		default:
			return
		}
	}
}

func (m *Mesh) withdraw(l *Listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.services[l.service] == l {
		delete(m.services, l.service)
	}
}

// Services returns the names of the services that this node offers, sorted.
func (m *Mesh) Services() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sortedKeys(m.services)
}

// serveStreams takes in the streams that members open to services.
func (m *Mesh) serveStreams(l *p2p.Listener) {
	for {
		s, err := l.AcceptStream()
		if err != nil {
			return
		}
		m.wg.Go(func() { m.serveStream(s) })
	}
}

// serveStream answers a stream's request and hands it to its service.
func (m *Mesh) serveStream(s *p2p.Stream) {
	_ = s.SetDeadline(time.Now().Add(headerTimeout))
	service, err := readRequest(s)
	if err != nil {
		m.log.Debug("stream request", "peer", s.Peer(), "err", err)
		s.Reset()
		return
	}
	l, peer, refusal := m.admitStream(s, service)
	if err := writeMessage(s, statusOf(refusal)); err != nil || refusal != nil {
		if refusal == nil {
			m.log.Debug("stream status", "peer", s.Peer(), "service", service, "err", err)
			s.Reset()
			return
		}
		s.Close()
		return
	}
	_ = s.SetDeadline(time.Time{})
	l.offer(&Conn{Stream: s, peer: peer, self: m.Self().Name, service: service})
}

// admitStream decides whether the peer may use a service now.
func (m *Mesh) admitStream(s *p2p.Stream, service string) (*Listener, Member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.services[service]
	if l == nil {
		return nil, Member{}, ErrNoService
	}
	peer, ok := m.memberLocked(s.Peer())
	if !ok {
		return nil, Member{}, ErrNotPermitted
	}
	if len(l.pending) == cap(l.pending) {
		return nil, Member{}, ErrBusy
	}
	return l, peer, nil
}

func (l *Listener) offer(c *Conn) {
	select {
	case <-l.done:
		c.Reset()
	case l.pending <- c:
		select {
		case <-l.done: // and nobody accepts it any more
			l.drain()
		default:
		}
	}
}
