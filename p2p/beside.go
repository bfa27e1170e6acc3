package p2p

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
)

// libp2p opens no second connection to a peer that it has one to, but through a
// relay, and then as it sees fit. So a better connection is dialed beside it, by
// the transport itself, and comes to libp2p as if somebody had connected.

// beside is a transport which hands over connections that were dialed so.
type beside struct {
	conns chan transport.CapableConn
	done  chan struct{}
	once  sync.Once
}

var (
	_ transport.Transport = (*beside)(nil)
	_ transport.Listener  = (*beside)(nil)
)

func newBeside() *beside {
	return &beside{conns: make(chan transport.CapableConn), done: make(chan struct{})}
}

// besideAddr is where libp2p believes to listen for them.
var besideAddr = multiaddr.StringCast("/memory/1")

// A dialedConn is a connection that this node dialed and libp2p takes for one that
// came in.
type dialedConn struct{ transport.CapableConn }

// As lets what has to know find out.
func (c *dialedConn) As(target any) bool {
	if t, ok := target.(**dialedConn); ok {
		*t = c
		return true
	}
	return c.CapableConn.As(target)
}

// dialedBeside tells whether this node dialed a connection past libp2p.
func dialedBeside(c network.Conn) bool {
	var d *dialedConn
	return c.As(&d)
}

// offer gives libp2p a connection, which it then has or closes. It returns false
// if libp2p takes no more.
func (b *beside) offer(c transport.CapableConn) bool {
	select {
	case b.conns <- c:
		return true
	case <-b.done:
		_ = c.Close()
		return false
	}
}

func (*beside) CanDial(multiaddr.Multiaddr) bool { return false }

func (*beside) Dial(context.Context, multiaddr.Multiaddr, peer.ID) (transport.CapableConn, error) {
	return nil, errors.ErrUnsupported
}

func (b *beside) Listen(multiaddr.Multiaddr) (transport.Listener, error) { return b, nil }
func (*beside) Protocols() []int                                         { return []int{multiaddr.P_MEMORY} }
func (*beside) Proxy() bool                                              { return false }

// Accept is for libp2p.
func (b *beside) Accept() (transport.CapableConn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.done:
		return nil, transport.ErrListenerClosed
	}
}

func (b *beside) Close() error {
	b.once.Do(func() { close(b.done) })
	return nil
}

func (*beside) Multiaddr() multiaddr.Multiaddr { return besideAddr }
func (*beside) Addr() net.Addr                 { return besideNetAddr{} }

type besideNetAddr struct{}

func (besideNetAddr) Network() string { return "beside" }
func (besideNetAddr) String() string  { return "beside" }
