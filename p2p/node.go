package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// ErrClosed is what methods of a closed Node return. It is [net.ErrClosed].
var ErrClosed = fmt.Errorf("node: %w", net.ErrClosed)

// A Node is this process's end of all its streams. Its methods may be called
// from several goroutines at once.
type Node struct {
	// Set by New and never changed.
	id      peer.ID
	began   time.Time
	log     *slog.Logger
	kit     *hostKit
	gate    *gate
	dials   *dialLog
	local   *localPath // nil if there is none
	noLocal error      // why

	// What follows is of use where there is a network.
	networked bool
	mapsPorts bool
	lan       *LAN // nil if the node does not look on the local network
	relays    *relays
	eye       *eye
	singles   *singles
	upgrades  *upgrades
	around    *surroundings
	sources   *addrSources
	paths     pathWatch
	onPath    func(PathChange)
	carrier   *carrier                       // nil if the node relays for nobody
	outside   func(multiaddr.Multiaddr) bool // tells of the addresses of the Internet
	reachable atomic.Bool                    // others have connected from there

	settleAfter time.Duration // see settle

	durables     *durables
	streamMemory int64 // of durables

	bytesIn, bytesOut         atomic.Uint64
	streamsTotal, dialsFailed atomic.Uint64
	unregister                func()
	life                      context.Context // ends when Close begins
	end                       context.CancelFunc
	closeOnce                 sync.Once
	closeErr                  error
	work                      sync.WaitGroup // goroutines made by start

	mu        sync.Mutex // guards the fields below; never held while dialing
	listeners map[string]*Listener
	streams   map[peer.ID]int      // open, by the peer at the other end
	streamsOn map[network.Conn]int // open, by the connection
	changed   chan struct{}        // closed and replaced when connections change
	self      *loop                // nil until first dialed
	trimming  *time.Timer          // until it has fired; nil otherwise
	trimmed   map[peer.ID]struct{} // see Trimmed
}

// New starts a node. On error nothing is left open.
func New(c Config) (_ *Node, err error) {
	if c, err = c.withDefaults(); err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	n, err := newNode(c)
	if errors.Is(err, ErrNoLocal) {
		return nil, err // it says what was tried
	}
	if err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	if err := errors.Join(n.listen(c), n.register(c.Metrics)); err != nil {
		n.Close()
		return nil, fmt.Errorf("p2p: %w", err)
	}
	if n.networked {
		if err := n.goOut(c); err != nil {
			n.Close()
			return nil, fmt.Errorf("p2p: %w", err)
		}
	}
	if n.local != nil {
		n.start(n.runLocal)
	}
	return n, nil
}

func newNode(c Config) (*Node, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(c.Key)
	if err != nil {
		return nil, err
	}
	id, err := PeerID(c.Key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	n := &Node{
		id: id, began: time.Now(), log: c.Logger, gate: newGate(c.Admission, c.Logger), dials: newDialLog(),
		settleAfter: settleAfter,
		listeners:   map[string]*Listener{},
		streams:     map[peer.ID]int{},
		streamsOn:   map[network.Conn]int{},
		trimmed:     map[peer.ID]struct{}{},
		changed:     make(chan struct{}),
		sources:     newAddrSources(),
		paths:       pathWatch{paths: map[peer.ID]Path{}, rtts: map[peer.ID]time.Duration{}},
		onPath:      c.OnPath,
		outside:     func(a multiaddr.Multiaddr) bool { return pathTo(a) == PathDirect && !isDNS(a) },
		networked:   c.Local == nil || !c.Local.Only || len(c.Listen) > 0,
	}
	n.life, n.end = context.WithCancel(context.Background())
	n.relays, n.eye, n.upgrades, n.around, n.singles = newRelays(n), newEye(n), newUpgrades(n), newSurroundings(n), newSingles(n)
	n.streamMemory, n.durables = c.StreamMemory, newDurables(n, c)
	if n.kit, err = newHost(c, key, n.gate, n.dials); err != nil {
		return nil, err
	}
	n.kit.addrs, n.kit.traffic.much = n.tellAddrs, n.cheaperLater
	n.kit.takes = n.singles.take
	n.gate.unix = n
	n.gate.raise = func(id peer.ID) { raiseLimit(n.kit.resources, id) }
	n.kit.swarm.Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			n.noteEnd(c.RemotePeer(), nil)
			if u := unixConn(c); u != nil {
				n.local.added(u, nil)
				n.trimLater()
			} else if n.hasLocal(c.RemotePeer()) {
				n.moveLater(c.RemotePeer())
			}
			n.noteReach(c)
			if to, ok := probeTarget(c.RemoteMultiaddr()); ok && pathTo(c.RemoteMultiaddr()) != PathRelay {
				n.upgrades.probes.reached(to)
			}
			n.notePath(c, "connected at "+addrText(c))
			n.change()
			n.settleLater(c.RemotePeer())
			n.checkOlder(c)
			n.durables.connected(c)
			n.upgrades.connected(c)
			if n.ledBack(c) && dialer(c) == n.id {
				n.start(func() { n.upgrades.nearer(peer.AddrInfo{ID: c.RemotePeer(), Addrs: n.KnownAddrs(c.RemotePeer())}) })
			}
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			if u := unixConn(c); u != nil {
				n.local.removed(u)
				n.noteEnd(c.RemotePeer(), u.Err())
			}
			if ip, ok := ipOf(c); ok && pathTo(c.RemoteMultiaddr()) != PathRelay {
				n.upgrades.probes.lost(ip, time.Now())
			}
			n.notePath(c, "connection lost")
			n.change()
			n.durables.connClosed(c)
			n.singles.connClosed(c)
			n.upgrades.connClosed(c)
		},
	})
	n.durables.open()
	n.kit.host.Start()
	n.noLocal = ErrNoLocal
	if c.Local == nil {
		return n, nil
	}
	if err = n.openLocal(*c.Local, key); err != nil {
		n.noLocal = fmt.Errorf("%w: %w", ErrNoLocal, err)
		if c.Local.Dir != "" || c.Local.Only && len(c.Listen) == 0 {
			n.Close()
			return nil, n.noLocal
		}
		level := slog.LevelWarn
		if errors.Is(err, errors.ErrUnsupported) {
			level = slog.LevelDebug // there is nothing to mend
		}
		n.log.Log(n.life, level, "no path on this machine", "err", err)
	}
	return n, nil
}

func (n *Node) listen(c Config) error {
	if len(c.Listen) > 0 || c.Local != nil && c.Local.Only {
		return n.kit.listen(c.Listen)
	}
	addrs, err := listenAddrs(c.Port, ownFamilies())
	if err != nil {
		return err
	}
	return n.kit.listen(addrs)
}

// ID returns the node's peer ID.
func (n *Node) ID() peer.ID { return n.id }

// Addrs returns the addresses at which peers may reach the node now, without
// the peer ID: those it listens on, an unspecified one given as each
// interface's own.
func (n *Node) Addrs() []multiaddr.Multiaddr { return n.kit.host.Addrs() }

// Port returns the port of the first address the node listens at, or 0: what
// [Config.Port] should be for the node to come back to the same place.
func (n *Node) Port() uint16 {
	for _, a := range n.kit.swarm.ListenAddresses() {
		for _, code := range []int{multiaddr.P_TCP, multiaddr.P_UDP} {
			if c, err := a.ValueForProtocol(code); err == nil {
				var port uint16
				if _, err := fmt.Sscan(c, &port); err == nil {
					return port
				}
			}
		}
	}
	return 0
}

// Host returns the libp2p host under the node, for package dht and for libp2p
// protocols of one's own. Closing it is the node's business.
func (n *Node) Host() host.Host {
	if n.local == nil {
		return n.kit.host
	}
	return localHost{n.kit.host, n}
}

// KnownAddrs returns the addresses at which Dial would try a peer.
func (n *Node) KnownAddrs(id peer.ID) []multiaddr.Multiaddr {
	return withoutLocal(n.kit.host.Peerstore().Addrs(id))
}

// Identified waits until a peer that there is a connection to has told at which
// addresses it may be reached.
func (n *Node) Identified(ctx context.Context, id peer.ID) error {
	if err := n.alive(); err != nil {
		return err
	}
	c := n.bestConn(id)
	if c == nil {
		return fmt.Errorf("identify peer %v: no connection", id)
	}
	select {
	case <-n.kit.host.IDService().IdentifyWait(c):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("identify peer %v: %w", id, context.Cause(ctx))
	}
}

// Ping measures one round trip to a peer, connecting if need be.
func (n *Node) Ping(ctx context.Context, id peer.ID) (time.Duration, error) {
	if err := n.alive(); err != nil {
		return 0, err
	}
	if id == n.id {
		return 0, nil
	}
	ctx, cancel := n.bound(ctx)
	defer cancel(nil)
	rtt, err := n.ping(ctx, id)
	if errors.Is(err, errDead) && ctx.Err() == nil {
		rtt, err = n.ping(ctx, id) // by another connection
	}
	return rtt, err
}

// errDead says that a connection on which the peer did not answer is closed.
var errDead = errors.New("the connection was dead")

func (n *Node) ping(ctx context.Context, id peer.ID) (time.Duration, error) {
	c, err := n.conn(ctx, id)
	if err != nil {
		return 0, err
	}
	if unixConn(c) == nil {
		slow := time.AfterFunc(checkPatience, func() { n.Check(id) })
		defer slow.Stop()
	}
	began := time.Now()
	if err := n.pingOn(ctx, c); err != nil {
		if c.IsClosed() && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errDead, err)
		}
		return 0, fmt.Errorf("ping peer %v: %w", id, orCause(ctx, err))
	}
	rtt := time.Since(began)
	n.paths.measured(id, rtt)
	return rtt, nil
}

// RTT returns the round trip to a peer, smoothed over the pings so far on the path
// that there is, or 0 if none was measured.
func (n *Node) RTT(id peer.ID) time.Duration { return n.paths.rtt(id) }

// Close drops all connections and waits until the node's goroutines are gone.
// It may be called more than once and at any time.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.durables.close()
		n.end()
		n.stopTrimming()
		n.gate.close()
		n.closeListeners()
		n.eye.close()
		n.around.close()
		n.singles.close()
		if n.carrier != nil {
			_ = n.carrier.service.Close() // it always returns nil
		}
		if n.unregister != nil {
			n.unregister()
		}
		n.closeErr = errors.Join(n.kit.Close(), n.closeLocal())
		if self := n.takeSelf(); self != nil {
			n.closeErr = errors.Join(n.closeErr, self.Close())
		}
		n.work.Wait()
	})
	return n.closeErr
}

func (n *Node) closeListeners() {
	n.mu.Lock()
	var all []*Listener
	for _, l := range n.listeners {
		all = append(all, l)
	}
	n.mu.Unlock()
	for _, l := range all {
		l.Close()
	}
}

// start runs work in a goroutine that Close waits for, unless Close has begun.
func (n *Node) start(work func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.alive() != nil {
		return false
	}
	n.work.Go(work)
	return true
}

// alive returns ErrClosed once Close has begun.
func (n *Node) alive() error {
	if n.life.Err() != nil {
		return ErrClosed
	}
	return nil
}

// bound returns a ctx that ends with the given one, when the node closes, or
// with the cause that cancel is given.
func (n *Node) bound(ctx context.Context) (_ context.Context, cancel func(error)) {
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.life, func() { end(ErrClosed) })
	return ctx, func(cause error) {
		stop()
		end(cause)
	}
}
