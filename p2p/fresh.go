package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A try to punch a hole that fails may leave its mark: a router that takes in what
// nobody has asked for believes from then on that it talks to the peer's port itself,
// and gives this node's packets to there another one. The next try is made from ports
// that nobody knows of.

// A freshPort is a QUIC port for one try, and for the connections that come of it.
type freshPort struct {
	node      *Node
	conns     *quicreuse.ConnManager
	transport transport.Transport
	listener  transport.Listener
	socket    *eyeSocket
	addr      multiaddr.Multiaddr // where it comes out of the NAT
}

// newFreshPort opens a port of IPv4, and asks a peer where it comes out.
func (n *Node) newFreshPort(ctx context.Context) (_ *freshPort, err error) {
	f := &freshPort{node: n}
	defer func() {
		if err != nil {
			f.close()
			err = fmt.Errorf("a port for one try: %w", err)
		}
	}()
	if f.transport, f.conns, err = newQUIC(n.kit.key, n.gate, n.kit.resources); err != nil {
		return nil, err
	}
	if f.listener, err = f.transport.Listen(anyPort); err != nil {
		return nil, err
	}
	at, ok := f.listener.Addr().(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("%v is no UDP port", f.listener.Addr())
	}
	conn, err := f.conns.SharedNonQUICPacketConn("udp4", at)
	if err != nil {
		return nil, err
	}
	f.socket = &eyeSocket{conn, uint16(at.Port), false}
	if !n.start(func() { n.eye.read(f.socket) }) || !n.start(f.accept) {
		return nil, ErrClosed
	}
	f.addr, err = f.look(ctx)
	return f, err
}

var anyPort = multiaddr.StringCast("/ip4/0.0.0.0/udp/0/quic-v1")

// look returns where the port comes out, by the word of a peer.
func (f *freshPort) look(ctx context.Context) (multiaddr.Multiaddr, error) {
	var errs []error
	for _, c := range f.node.witnesses() {
		if ip, ok := ipOf(c); !ok || ip.Is6() {
			continue
		}
		at, err := f.node.eye.where(ctx, c, f.socket)
		if err == nil {
			return quicAddr(at), nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, errNoWitness)...)
}

var errNoWitness = errors.New("no peer could say where it comes out")

// accept passes on what connects to the port.
func (f *freshPort) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.node.kit.beside.offer(c)
	}
}

func (f *freshPort) close() {
	if f.listener != nil {
		_ = f.listener.Close() // there is nothing to be done about an error
	}
	if f.socket != nil {
		_ = f.socket.Close() // as above
	}
	if f.conns != nil {
		_ = f.conns.Close() // as above
	}
}

// release closes the port once no connection uses it, nor is about to.
func (f *freshPort) release() {
	defer f.close()
	for {
		changed := f.node.connsChanged()
		if !f.used() {
			if !f.node.pause(freshKept) || !f.used() {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-f.node.life.Done():
			return
		}
	}
}

// freshKept is how long a port is kept that no connection uses: the peer may just have
// made one.
const freshKept = 5 * time.Second

func (f *freshPort) used() bool {
	for _, c := range f.node.kit.swarm.Conns() {
		if f.carries(c) {
			return true
		}
	}
	return false
}

// carries tells whether a connection goes over the port.
func (f *freshPort) carries(c network.Conn) bool {
	if !isQUIC(c.LocalMultiaddr()) || pathTo(c.RemoteMultiaddr()) == PathRelay {
		return false
	}
	at, err := manet.ToNetAddr(c.LocalMultiaddr().Decapsulate(quicSuffix))
	udp, ok := at.(*net.UDPAddr)
	return err == nil && ok && uint16(udp.Port) == f.socket.port
}
