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
	kind    Kind
	ports   Ports // none unless service is PortsService
	pending chan *Conn

	// Guarded by the Mesh's lock.
	access    Access
	handsOver func(net.Conn) bool // see HandsOver
	public    *dht.Publication    // in the DHT, unless the service is for some only

	closeOnce sync.Once
	done      chan struct{}
}

var _ net.Listener = (*Listener)(nil)

// Listen offers a service, under a name such as "web", until the Listener is
// closed: to the members that a rule is true of, or to all if there is none. They
// find it by name through this member, or as "/web".
func (m *Mesh) Listen(service string, allow ...Rule) (*Listener, error) {
	if len(allow) == 0 {
		allow = []Rule{Everyone}
	}
	return m.ListenAccess(service, Access{Allow: allow})
}

// ListenAccess is Listen for those whom an Access permits.
func (m *Mesh) ListenAccess(service string, access Access) (*Listener, error) {
	return m.ListenWith(service, ListenConfig{Access: access})
}

// A ListenConfig describes a service.
type ListenConfig struct {
	// Kind is what goes through its streams. The zero Kind is bytes.
	Kind Kind

	// Access is who may use it. The zero Access is nobody.
	Access Access

	// Ports is for the service [PortsService] alone, which needs it: the Listener
	// takes in the streams to the services that are named like one of the ports and
	// that have no Listener of their own. [Conn.Service] tells which. Access is to
	// all of them. The DHT does not tell of them: members ask those that are near for
	// "/8080".
	Ports Ports
}

// ListenWith is Listen for a service that a ListenConfig describes.
func (m *Mesh) ListenWith(service string, c ListenConfig) (*Listener, error) {
	if c.Kind > KindDatagram {
		return nil, fmt.Errorf("listen for %.80s: ListenConfig.Kind is unknown: %d", service, c.Kind)
	}
	if err := c.checkName(service); err != nil {
		return nil, fmt.Errorf("listen: service %w", err)
	}
	l := &Listener{mesh: m, service: service, kind: c.Kind, ports: c.Ports, access: c.Access.clone(), pending: make(chan *Conn, maxPending), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.aliveLocked(); err != nil {
		return nil, fmt.Errorf("listen for %s: %w", service, err)
	}
	if m.services[service] != nil {
		return nil, fmt.Errorf("listen for %s: %w", service, ErrServiceExists)
	}
	m.services[service] = l
	l.publishLocked()
	return l, nil
}

func (c ListenConfig) checkName(service string) error {
	if service == PortsService {
		if err := c.Ports.check(); err != nil {
			return fmt.Errorf("%s: ListenConfig.Ports is %v: %w", service, c.Ports, err)
		}
		return nil
	}
	if err := credential.CheckName(service); err != nil {
		return err
	}
	if c.Ports != (Ports{}) {
		return fmt.Errorf("%s: ListenConfig.Ports is for the service %s", service, PortsService)
	}
	return nil
}

// publishLocked has the DHT tell of the service if it is for everyone. What is
// for some only is not for others to hear of. Ports are too many to tell of.
func (l *Listener) publishLocked() {
	open := l.access.open() && l.service != PortsService
	switch {
	case open && l.public == nil:
		l.public = l.mesh.table.Provide(l.mesh.serviceKey(l.service))
	case !open && l.public != nil:
		l.public.Stop()
		l.public = nil
	}
}

// Access returns who may use the service.
func (l *Listener) Access() Access {
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	return l.access.clone()
}

// SetAccess changes who may use the service, at once: the streams of those who
// may no more end with [ErrNotPermitted].
func (l *Listener) SetAccess(a Access) {
	m := l.mesh
	m.mu.Lock()
	l.access = a.clone()
	if m.services[l.service] == l {
		l.publishLocked()
	}
	cut := m.takeConnsLocked(func(c *Conn) error {
		if c.listener != l || a.permits(c.peer, c.service) {
			return nil
		}
		return ErrNotPermitted
	})
	m.mu.Unlock()
	cut.abort()
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

// Datagrams tells whether the service is of [KindDatagram].
func (l *Listener) Datagrams() bool { return l.kind == KindDatagram }

// Addr returns where the service can be dialed, an [Addr].
func (l *Listener) Addr() net.Addr { return Addr{l.mesh.Self().Name, l.service} }

// Found is closed once all members can find the service as "/web". While this
// node is alone it is not. One that is not for everyone is found by asking, at
// once, and so are ports: it is closed from the start.
func (l *Listener) Found() <-chan struct{} {
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	if l.public == nil {
		return alreadyClosed
	}
	return l.public.Done()
}

var alreadyClosed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Close withdraws the service. Streams that were accepted stay open.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.mesh.withdraw(l)
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
	if l.public != nil {
		l.public.Stop()
	}
}

// serveStreams takes in the streams that members open to services, once this
// node has heard who is revoked.
func (m *Mesh) serveStreams(l *p2p.Listener) {
	l.OnAsk(func(s *p2p.Stream) bool {
		if !m.isCaughtUp() {
			return false
		}
		m.serveStream(s) // whose request is all there
		return true
	})
	m.acceptAll(l, func(s *p2p.Stream) {
		select {
		case <-m.caughtUp.done:
			m.serveStream(s)
		case <-m.ctx.Done():
			s.Reset()
		}
	})
}

// serveStream answers a stream's request and hands it to its service.
func (m *Mesh) serveStream(s *p2p.Stream) {
	_ = s.SetDeadline(time.Now().Add(headerTimeout))
	req, err := readRequest(s)
	if err != nil {
		m.log.Debug("stream request", "peer", s.Peer(), "err", err)
		s.Reset()
		return
	}
	c, refusal := m.admitStream(s, req)
	if refusal != nil {
		if b, err := messageBytes(statusOf(refusal)); err == nil {
			_ = s.Refuse(b) // whoever is gone needs no reason
		}
		return
	}
	if c.Unanswered() {
		if !c.answer.take(c) {
			c.listener.offer(c)
		}
		return
	}
	if err := c.agree(); err != nil {
		m.log.Debug("stream status", "peer", s.Peer(), "service", req.Service, "err", err)
		c.Reset()
		return
	}
	_ = s.SetDeadline(time.Time{})
	c.listener.offer(c)
}

// admitStream decides whether the peer may use a service now, and from then on
// keeps an eye on the stream.
func (m *Mesh) admitStream(s *p2p.Stream, req request) (*Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	peer, ok := m.namedLocked(s.Peer())
	if !ok {
		return nil, ErrNotMember
	}
	service := req.Service
	l := m.listenerLocked(service)
	if l == nil {
		return nil, ErrNoService
	}
	if !l.access.permits(peer, service) {
		return nil, ErrNotPermitted
	}
	if l.kind != req.Kind {
		return nil, ErrKind
	}
	if len(l.pending) == cap(l.pending) {
		return nil, ErrBusy
	}
	c := &Conn{Stream: s, mesh: m, peer: peer, self: m.self.Name, service: service, since: time.Now(), listener: l}
	if l.handsOver != nil && s.HandsOver() {
		c.answer = &answer{take: l.handsOver}
	}
	m.conns[c] = struct{}{}
	return c, nil
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
