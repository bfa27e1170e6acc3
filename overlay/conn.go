package overlay

import (
	"net"

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
	peer    Member
	self    string
	service string
	dialed  bool
}

var _ net.Conn = (*Conn)(nil)

// Peer returns the member at the other end, as its credential names it.
func (c *Conn) Peer() Member { return c.peer }

// Service returns the name of the service.
func (c *Conn) Service() string { return c.service }

// LocalAddr returns this end, an [Addr]; the end that dialed has no service.
func (c *Conn) LocalAddr() net.Addr { return c.end(c.self, !c.dialed) }

// RemoteAddr returns the other end, an [Addr].
func (c *Conn) RemoteAddr() net.Addr { return c.end(c.peer.Name, c.dialed) }

func (c *Conn) end(name string, serves bool) Addr {
	if !serves {
		return Addr{Member: name}
	}
	return Addr{Member: name, Service: c.service}
}
