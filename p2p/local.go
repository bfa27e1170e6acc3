package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
	"golang.org/x/sync/singleflight"
)

// Local has a node meet the nodes of its kind on this machine, without a network:
// each has a socket in one directory. What goes that way is not encrypted; the
// kernel lets nobody else see it.
type Local struct {
	// Dir is the directory, which is made if it is not there. If it can't be used,
	// New returns an error. If empty, it is the user's own, see
	// [unixsock.UserDirectory], and if that can't be used the node does without,
	// unless it is to listen there alone; [Node.Local] tells.
	Dir string

	// Secret is what the nodes that are to meet have in common, such as the name
	// of their mesh. Without it the names in the directory say nothing.
	Secret []byte

	// Users are other users, by their numbers, whose processes may connect. The
	// directory then has to be one that they can use as well.
	Users []uint32

	// Hidden has the node put no socket there before [Node.Appear]. It can dial
	// others before.
	Hidden bool

	// Only has the node listen nowhere else, unless Config.Listen says so.
	Only bool
}

// ErrNoLocal says why a node has no path on this machine: it was not told to, or
// can't.
var ErrNoLocal = errors.New("no path on this machine")

// A localPath is a node's part in the directory of sockets.
type localPath struct {
	node      *Node
	dir       *unixsock.Directory
	socket    *lateSocket
	transport *unixsock.Transport
	listener  *unixsock.Listener
	addr      multiaddr.Multiaddr
	dials     singleflight.Group

	mu    sync.Mutex // guards the fields below
	waits map[*unixsock.Conn]chan error
	conns map[peer.ID]*unixsock.Conn // the newest that libp2p has, of each peer
}

// openLocal opens the directory and puts the node's socket there.
func (n *Node) openLocal(c Local, key crypto.PrivKey) (err error) {
	if c.Dir == "" {
		if c.Dir, err = unixsock.UserDirectory(); err != nil {
			return err
		}
	}
	l := &localPath{node: n, socket: newLateSocket(), waits: map[*unixsock.Conn]chan error{}, conns: map[peer.ID]*unixsock.Conn{}}
	if l.transport, err = unixsock.New(key, n.kit.resources, n.gate); err != nil {
		return err
	}
	if l.dir, err = unixsock.OpenDirectory(c.Dir, c.Secret, unixsock.Options{Users: c.Users, Logger: n.log}); err != nil {
		return err
	}
	n.local = l // before the first connection comes in
	if err := l.listen(c.Hidden); err != nil {
		n.local = nil
		return errors.Join(err, l.dir.Close())
	}
	return nil
}

func (l *localPath) listen(hidden bool) error {
	at, err := multiaddr.NewComponent("unix", l.dir.Path())
	if err != nil {
		return err
	}
	l.addr = at.Multiaddr()
	if !hidden {
		if err := l.socket.open(l.dir, l.node.id); err != nil {
			return err
		}
	}
	l.listener = l.transport.ListenOn(l.socket, l.addr)
	if err := l.node.kit.swarm.AddTransport(localTransport{l.transport, l.listener}); err != nil {
		return errors.Join(err, l.listener.Close())
	}
	if err := l.node.kit.swarm.AddListenAddr(l.addr); err != nil {
		return errors.Join(err, l.listener.Close())
	}
	return nil
}

// Appear puts the socket of a node that is hidden into the directory, and has it say on
// the local network that it is there. It does
// nothing if that is there, or if the node has no path on this machine.
func (n *Node) Appear() error {
	if n.networked && n.lan != nil && n.lan.Hidden {
		n.lookNear()
	}
	if n.local == nil || n.local.socket.get() != nil {
		return nil
	}
	return n.local.socket.open(n.local.dir, n.id)
}

// A lateSocket is a source of connections that there may be only later.
type lateSocket struct {
	ready chan struct{} // closed when there is a socket
	done  chan struct{} // closed by Close

	mu     sync.Mutex // guards the fields below
	socket *unixsock.Socket
	closed bool
}

func newLateSocket() *lateSocket {
	return &lateSocket{ready: make(chan struct{}), done: make(chan struct{})}
}

func (s *lateSocket) open(dir *unixsock.Directory, id peer.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	socket, err := dir.Listen(id)
	if err != nil {
		return err
	}
	s.socket = socket
	close(s.ready)
	return nil
}

func (s *lateSocket) get() *unixsock.Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.socket
}

func (s *lateSocket) err() error {
	if socket := s.get(); socket != nil {
		return socket.Err()
	}
	return nil
}

func (s *lateSocket) Accept() (*net.UnixConn, error) {
	select {
	case <-s.ready:
		return s.get().Accept()
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *lateSocket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.done)
	if s.socket != nil {
		return s.socket.Close()
	}
	return nil
}

// localTransport is what libp2p sees of the path: connections that come in. It
// is never told to dial, since it would not know an address: those of sockets are
// of no use on another machine, so they are never told to anyone.
type localTransport struct {
	*unixsock.Transport
	listener *unixsock.Listener
}

func (localTransport) CanDial(multiaddr.Multiaddr) bool { return false }

func (t localTransport) Listen(multiaddr.Multiaddr) (transport.Listener, error) {
	return t.listener, nil
}

// Local returns the directory in which the node meets others on this machine,
// and what is wrong with it, if anything is. Without a directory the error is
// [ErrNoLocal], or wraps it and tells why there is none.
func (n *Node) Local() (dir string, err error) {
	if n.local == nil {
		return "", n.noLocal
	}
	return n.local.dir.Path(), errors.Join(n.local.dir.Err(), n.local.socket.err())
}

// LocalRemade returns how often the node's socket had to be made again, since
// somebody had removed or replaced it.
func (n *Node) LocalRemade() int {
	if n.local == nil {
		return 0
	}
	if s := n.local.socket.get(); s != nil {
		return s.Remade()
	}
	return 0
}

// LocalPeers returns the peers that have a socket on this machine.
func (n *Node) LocalPeers() []peer.ID {
	if n.local == nil {
		return nil
	}
	return n.local.dir.Peers()
}

// LocalChanged returns a channel that is closed when LocalPeers returns something
// else than before the call. It is nil without a path on this machine.
func (n *Node) LocalChanged() <-chan struct{} {
	if n.local == nil {
		return nil
	}
	return n.local.dir.Changed()
}

// hasLocal tells whether a peer has a socket on this machine.
func (n *Node) hasLocal(id peer.ID) bool { return n.local != nil && n.local.dir.Has(id) }

// unixConn returns the connection over a unix socket that c is, or nil.
func unixConn(c interface{ As(any) bool }) *unixsock.Conn {
	var u *unixsock.Conn
	if c == nil || !c.As(&u) {
		return nil
	}
	return u
}

// dialLocal connects to a peer by its socket. Dials to the same peer at the same
// time become one.
func (n *Node) dialLocal(ctx context.Context, id peer.ID) error {
	result := n.local.dials.DoChan(string(id), func() (any, error) {
		ctx, cancel := context.WithTimeout(n.life, localTimeout)
		defer cancel()
		return nil, n.local.dial(ctx, id)
	})
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// saidWithin is how long after a connection has ended it may take to hear that it was
// not admitted.
const saidWithin = time.Second

// localTimeout bounds a dial on this machine, admission included.
const localTimeout = 10 * time.Second

func (l *localPath) dial(ctx context.Context, id peer.ID) error {
	if c := l.node.bestConn(id); unixConn(c) != nil {
		return nil
	}
	sock, err := l.dir.Dial(ctx, id)
	if err != nil {
		return err
	}
	c, err := l.transport.Client(ctx, sock, l.addr, id)
	if err != nil {
		return err
	}
	added := make(chan error, 1)
	l.mu.Lock()
	l.waits[c] = added
	l.mu.Unlock()
	defer l.stopWaiting(c)
	// libp2p opens no second connection to a peer that it has one to, and none
	// by a transport of its own choosing. What it takes is one that came in.
	if !l.listener.Offer(c) {
		return ErrClosed
	}
	select {
	case err := <-added:
		return err
	case <-c.Done():
		select {
		case err := <-added: // why it is closed, which the gate may be about to say
			return err
		case <-time.After(saidWithin):
			return fmt.Errorf("%w before it was admitted", ErrReset)
		}
	case <-ctx.Done():
		_ = c.Close()
		return context.Cause(ctx)
	}
}

func (l *localPath) stopWaiting(c *unixsock.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waits, c)
}

// added tells who dialed c that libp2p has it, or why not.
func (l *localPath) added(c *unixsock.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.conns[c.RemotePeer()] = c
	}
	if wait := l.waits[c]; wait != nil {
		wait <- err
		delete(l.waits, c)
	}
}

// removed takes in that libp2p has c no more.
func (l *localPath) removed(c *unixsock.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[c.RemotePeer()] == c {
		delete(l.conns, c.RemotePeer())
	}
}

// liveUnix returns a connection to a peer on this machine, or nil. It takes less
// than to look for the best there is, which this is.
func (n *Node) liveUnix(id peer.ID) *unixsock.Conn {
	if n.local == nil {
		return nil
	}
	n.local.mu.Lock()
	defer n.local.mu.Unlock()
	if c := n.local.conns[id]; c != nil && !c.IsClosed() {
		return c
	}
	return nil
}

// runLocal moves the node to the path on this machine where there is another to a
// peer whose socket appears.
func (n *Node) runLocal() {
	for {
		changed := n.local.dir.Changed()
		for _, c := range n.kit.swarm.Conns() {
			if unixConn(c) == nil && n.hasLocal(c.RemotePeer()) {
				n.moveLater(c.RemotePeer())
			}
		}
		select {
		case <-changed:
		case <-n.life.Done():
			return
		}
	}
}

// moveAfter is how long the end with the greater ID leaves it to the other to
// move a connection.
const moveAfter = 500 * time.Millisecond

// moveLater makes a connection over the peer's socket beside the one there is,
// once for all who ask at the same time.
func (n *Node) moveLater(id peer.ID) {
	n.start(func() {
		if n.id > id {
			select {
			case <-time.After(moveAfter):
			case <-n.life.Done():
				return
			}
		}
		if c := n.bestConn(id); c == nil || unixConn(c) != nil {
			return
		}
		if err := n.dialLocal(n.life, id); err != nil && n.life.Err() == nil {
			n.log.Debug("move to the path on this machine", "peer", id, "err", err)
		}
	})
}

func (n *Node) closeLocal() error {
	if n.local == nil {
		return nil
	}
	return n.local.dir.Close()
}

// A localHost is the host for others to use, which reaches peers by their sockets
// as well.
type localHost struct {
	host.Host
	node *Node
}

// Connect connects to a peer by its socket if it has one and there is no
// connection yet.
func (h localHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	if h.node.hasLocal(info.ID) && h.node.bestConn(info.ID) == nil && h.node.dialLocal(ctx, info.ID) == nil {
		return nil
	}
	return h.Host.Connect(ctx, info)
}

// NewStream connects first if need be.
func (h localHost) NewStream(ctx context.Context, id peer.ID, protos ...protocol.ID) (network.Stream, error) {
	if noDial, _ := network.GetNoDial(ctx); !noDial && h.node.hasLocal(id) && h.node.bestConn(id) == nil {
		_ = h.node.dialLocal(ctx, id) // if it fails there may be another way
	}
	return h.Host.NewStream(ctx, id, protos...)
}

// withoutLocal drops what is of use on this machine alone.
func withoutLocal(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	return multiaddr.FilterAddrs(addrs, func(a multiaddr.Multiaddr) bool { return pathTo(a) != PathUnix && !a.Equal(besideAddr) })
}
