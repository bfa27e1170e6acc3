package overlay

import (
	"net"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
)

// An Addr is one end of a stream: a service at a member.
type Addr struct {
	Member  string // its name
	Service string
}

// Network returns "mesh".
func (Addr) Network() string { return "mesh" }

// String returns the target, e.g. "alice/web".
func (a Addr) String() string { return a.Member + "/" + a.Service }

// A Conn is a stream to or from a service at another member. It is a
// [net.Conn] with CloseWrite, Reset and Path, see [p2p.Stream].
type Conn struct {
	*p2p.Stream
	mesh    *Mesh
	peer    Member // as its credential names it
	self    string
	service string
	dialed  bool
	since   time.Time // when it was agreed on, or asked for by the other end

	answer   *answer   // to be given; nil if it was
	listener *Listener // that the stream came to; nil where it was dialed
}

var _ net.Conn = (*Conn)(nil)

// Peer returns the member at the other end, as its credential named it when the
// stream was opened, and how things stand with it now.
func (c *Conn) Peer() Member {
	now, ok := c.mesh.Member(c.peer.ID)
	if !ok {
		return c.peer
	}
	then := c.peer
	then.Up, then.Path, then.Relay, then.RTT, then.Seen = now.Up, now.Path, now.Relay, now.RTT, now.Seen
	return then
}

// Origin returns the name and the ID of the member at the other end, and the IP
// address that its connection comes from, if that is by the network and not through
// a relay.
func (c *Conn) Origin() (name, id string, from netip.Addr) {
	from, _ = c.RemoteIP()
	return c.peer.Name, c.peer.ID.String(), from
}

// Service returns the name of the service.
func (c *Conn) Service() string { return c.service }

// LocalAddr returns this end, an [Addr]; the end that dialed has no service.
func (c *Conn) LocalAddr() net.Addr { return c.end(c.self, !c.dialed) }

// RemoteAddr returns the other end, an [Addr].
func (c *Conn) RemoteAddr() net.Addr { return c.end(c.peer.Name, c.dialed) }

// Close is [p2p.Stream.Close].
func (c *Conn) Close() error {
	c.mesh.forget(c)
	return c.Stream.Close()
}

// Reset is [p2p.Stream.Reset].
func (c *Conn) Reset() error {
	c.mesh.forget(c)
	return c.Stream.Reset()
}

// remember keeps a stream to a member with those that end when somebody is put out,
// unless the other end or this one is out already.
func (m *Mesh) remember(c *Conn, id peer.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.aliveLocked(); err != nil {
		return err
	}
	var ok bool
	if c.peer, ok = m.namedLocked(id); !ok {
		return ErrNotMember
	}
	c.self, c.since = m.self.Name, time.Now()
	m.conns[c] = struct{}{}
	return nil
}

func (m *Mesh) forget(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
}

// cuts are streams that are to end, and why.
type cuts map[*Conn]error

// takeConnsLocked takes out the streams for which there is a reason to end them.
func (m *Mesh) takeConnsLocked(reason func(*Conn) error) cuts {
	out := cuts{}
	for c := range m.conns {
		if err := reason(c); err != nil {
			out[c] = err
			delete(m.conns, c)
		}
	}
	return out
}

func (c cuts) abort() {
	for conn, reason := range c {
		_ = conn.Abort(reason) // which returns nil
	}
}

func (c *Conn) end(name string, serves bool) Addr {
	if !serves {
		return Addr{Member: name}
	}
	return Addr{Member: name, Service: c.service}
}
