package unixsock

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
)

// Supported tells whether the transport works on this system, which are Linux
// and macOS. Elsewhere its methods return [errors.ErrUnsupported].
const Supported = supported

// A Transport makes connections over unix sockets. It is a libp2p transport. Its
// methods may be called from several goroutines at once.
type Transport struct {
	key   crypto.PrivKey
	id    peer.ID
	rm    network.ResourceManager
	gater connmgr.ConnectionGater
}

var _ transport.Transport = (*Transport)(nil)

// New makes a transport for the holder of a key. The resource manager and the
// gater may be nil.
func New(key crypto.PrivKey, rm network.ResourceManager, gater connmgr.ConnectionGater) (*Transport, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("unixsock: %w", err)
	}
	if rm == nil {
		rm = &network.NullResourceManager{}
	}
	return &Transport{key: key, id: id, rm: rm, gater: gater}, nil
}

// CanDial tells whether an address is that of a unix socket.
func (t *Transport) CanDial(addr multiaddr.Multiaddr) bool {
	return len(addr) == 1 && addr[0].Protocol().Code == multiaddr.P_UNIX
}

// Protocols returns the one that the transport is for.
func (t *Transport) Protocols() []int { return []int{multiaddr.P_UNIX} }

// Proxy returns false.
func (t *Transport) Proxy() bool { return false }

// Dial connects to a peer at a unix socket.
func (t *Transport) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	path, err := pathOf(addr)
	if err != nil {
		return nil, err
	}
	sock, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c, err := t.Client(ctx, sock.(*net.UnixConn), addr, id)
	if err != nil {
		return nil, err // not c, which is a nil *Conn in an interface
	}
	return c, nil
}

// Client makes a connection to a peer of a socket that was connected to it. addr
// is what the connection says of where it goes.
func (t *Transport) Client(ctx context.Context, sock *net.UnixConn, addr multiaddr.Multiaddr, id peer.ID) (*Conn, error) {
	return t.upgrade(ctx, sock, addr, true, id)
}

func (t *Transport) upgrade(ctx context.Context, sock *net.UnixConn, addr multiaddr.Multiaddr, dialed bool, expect peer.ID) (_ *Conn, err error) {
	dir := network.DirInbound
	if dialed {
		dir = network.DirOutbound
	}
	scope, err := t.rm.OpenConnection(dir, true, loopback)
	if err != nil {
		_ = sock.Close()
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = sock.Close()
			scope.Done()
		}
	}()
	if dialed {
		if err := scope.SetPeer(expect); err != nil {
			return nil, err
		}
	}
	p, err := shake(ctx, sock, t.key, dialed, expect)
	if err != nil {
		return nil, err
	}
	if !dialed {
		if err := scope.SetPeer(p.id); err != nil {
			return nil, err
		}
	}
	if t.gater != nil && !t.gater.InterceptSecured(dir, p.id, addressed{addr}) {
		return nil, fmt.Errorf("connection with %v is not wanted", p.id)
	}
	return t.newConn(sock, p, dialed, addr, scope)
}

// loopback is what a connection is accounted to: libp2p has no limits for what
// has no IP address but one rate for all of it.
var loopback = multiaddr.StringCast("/ip4/127.0.0.1")

// addressed is what a gater is shown of a connection that is not there yet.
type addressed struct{ addr multiaddr.Multiaddr }

func (a addressed) LocalMultiaddr() multiaddr.Multiaddr  { return a.addr }
func (a addressed) RemoteMultiaddr() multiaddr.Multiaddr { return a.addr }

// Listen accepts connections at a unix socket, whose file it makes and removes.
func (t *Transport) Listen(addr multiaddr.Multiaddr) (transport.Listener, error) {
	path, err := pathOf(addr)
	if err != nil {
		return nil, err
	}
	if !Supported {
		return nil, fmt.Errorf("unixsock: %w", errors.ErrUnsupported)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return t.ListenOn(unixSource{ln}, addr), nil
}

// unixSource is a Source that is one listener.
type unixSource struct{ *net.UnixListener }

func (s unixSource) Accept() (*net.UnixConn, error) { return s.AcceptUnix() }

func pathOf(addr multiaddr.Multiaddr) (string, error) {
	path, err := addr.ValueForProtocol(multiaddr.P_UNIX)
	if err != nil {
		return "", fmt.Errorf("unixsock: %v is not the address of a unix socket", addr)
	}
	return path, nil
}
