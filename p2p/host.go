package p2p

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	coreconnmgr "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	libp2pyamux "github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	"github.com/libp2p/go-yamux/v5"
	"github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// This file is the only one that puts a libp2p host together. It does so from
// the parts, not with libp2p.New: a private node wants no AutoNAT client, no
// collectors shared with other nodes of the process and no default address,
// and leaving them out halves the time to start.

// A node keeps this many connections before it closes some that carry no
// stream, down to the lower number.
const (
	connsHigh = 512
	connsLow  = 384
	connGrace = 30 * time.Second // a new connection is left alone
)

// A hostKit is a libp2p host and what has to be closed with it.
type hostKit struct {
	// addrs makes of the addresses that the node listens at those that it tells.
	addrs func([]multiaddr.Multiaddr) []multiaddr.Multiaddr

	host      *basichost.BasicHost
	swarm     *swarm.Swarm
	events    event.Bus
	resources network.ResourceManager
	traffic   *traffic
	key       crypto.PrivKey
	quic      *quicreuse.ConnManager
	beside    *beside
	upgrader  transport.Upgrader
	single    *patientTCP // dials connections for one stream

	// takes tells whether a connection that came in is not for libp2p.
	takes func(transport.CapableConn) bool
}

// Close closes what there is; newHost may have stopped half-way.
func (k *hostKit) Close() error {
	var errs []error
	switch {
	case k.host != nil: // closes the swarm, the peerstore and the resources too
		errs = append(errs, k.host.Close())
	case k.swarm != nil:
		errs = append(errs, k.swarm.Close(), k.swarm.Peerstore().Close(), k.resources.Close())
	case k.resources != nil:
		errs = append(errs, k.resources.Close())
	}
	if k.quic != nil {
		errs = append(errs, k.quic.Close())
	}
	return errors.Join(errs...)
}

// newHost builds a host that has not begun to listen.
func newHost(c Config, key crypto.PrivKey, g coreconnmgr.ConnectionGater, log *dialLog) (_ *hostKit, err error) {
	kit := &hostKit{
		addrs: func(a []multiaddr.Multiaddr) []multiaddr.Multiaddr { return a },
		takes: func(transport.CapableConn) bool { return false },
	}
	defer func() {
		if err != nil {
			kit.Close()
		}
	}()
	if kit.resources, err = newResourceManager(); err != nil {
		return nil, err
	}
	if err := kit.addSwarm(c, key, g); err != nil {
		return nil, err
	}
	if err := kit.addTransports(c, key, g, log); err != nil {
		return nil, err
	}
	if err := kit.addHost(c); err != nil {
		return nil, err
	}
	return kit, nil
}

func (k *hostKit) addSwarm(c Config, key crypto.PrivKey, g coreconnmgr.ConnectionGater) error {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	peers, err := pstoremem.NewPeerstore()
	if err != nil {
		return err
	}
	if err := errors.Join(peers.AddPrivKey(id, key), peers.AddPubKey(id, key.GetPublic())); err != nil {
		return errors.Join(err, peers.Close())
	}
	k.events, k.traffic = eventbus.NewBus(), newTraffic()
	k.swarm, err = swarm.NewSwarm(id, peers, k.events,
		swarm.WithConnectionGater(g),
		swarm.WithResourceManager(k.resources),
		swarm.WithMetrics(k.traffic),
		swarm.WithDialTimeout(c.DialTimeout),
		swarm.WithDialTimeoutLocal(min(c.DialTimeout, 5*time.Second)), // go-libp2p's own
		swarm.WithDialRanker(func(a []multiaddr.Multiaddr) []network.AddrDelay { return rankDials(a, k.strange) }),
		// A mesh is too small for the statistics that black hole detection
		// needs; a spell of failures must not switch a transport off.
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil),
	)
	if err != nil {
		return errors.Join(err, peers.Close())
	}
	return nil
}

func (k *hostKit) addTransports(c Config, key crypto.PrivKey, g coreconnmgr.ConnectionGater, log *dialLog) error {
	rm := k.resources
	muxers := []upgrader.StreamMuxer{{ID: libp2pyamux.ID, Muxer: newMuxer()}, {ID: singleID, Muxer: singleMuxer{}}}
	dials, err := libp2ptls.New(libp2ptls.ID, key, muxers[:1])
	if err != nil {
		return err
	}
	listens, err := libp2ptls.New(libp2ptls.ID, key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{bulkTLS{dials, listens}}, muxers, nil, rm, g)
	if err != nil {
		return err
	}
	// No SO_REUSEPORT: with it two nodes of one user could share a port and
	// neither would know.
	shared := tcpreuse.NewConnMgr(false, sharingUpgrader{up})
	tcpTransport, err := tcp.NewTCPTransport(up, rm, shared, tcp.DisableReuseport(), tcp.WithConnectionTimeout(c.DialTimeout))
	if err != nil {
		return err
	}
	narrow, err := tcp.NewTCPTransport(up, rm, shared, tcp.DisableReuseport(), tcp.WithConnectionTimeout(c.DialTimeout), tcp.WithDialerForAddr(shortSegments))
	if err != nil {
		return err
	}
	wsTransport, err := newWebSocket(c, up, rm, shared, log)
	if err != nil {
		return err
	}
	quicTransport, conns, err := newQUIC(key, g, rm)
	if err != nil {
		return err
	}
	k.key, k.quic, k.upgrader, k.beside = key, conns, up, newBeside()
	for _, t := range []transport.Transport{
		&timedTCP{&patientTCP{tcpTransport, narrow}, log, k}, wsTransport, &timedQUIC{quicTransport, log}, k.beside,
	} {
		if err := k.swarm.AddTransport(t); err != nil {
			return err
		}
	}
	return k.addSingles(singleID, c, g)
}

// maxFrame is what one stream may send before another has its turn: 2 ms at
// 1 Gbit/s.
const maxFrame = 256 << 10

// newMuxer returns yamux with receive windows that fill a long fat path.
func newMuxer() network.Multiplexer {
	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = maxWindow
	if hasWindow {
		config.MaxStreamWindowSize = config.InitialStreamWindowSize // see wideningMuxer
	}
	config.MaxMessageSize = maxFrame
	config.LogOutput = io.Discard
	config.ReadBufSize = 0                     // TLS has its own
	config.MaxIncomingStreams = math.MaxUint32 // newResourceManager limits them
	config.AcceptBacklog = 1024                // streams opened in one burst, before the first is accepted
	return wideningMuxer{(*libp2pyamux.Transport)(config)}
}

func newQUIC(key crypto.PrivKey, g coreconnmgr.ConnectionGater, rm network.ResourceManager) (transport.Transport, *quicreuse.ConnManager, error) {
	var reset quic.StatelessResetKey
	var token quic.TokenGeneratorKey
	if err := errors.Join(derive(key, "p2pnode quic stateless reset", reset[:]), derive(key, "p2pnode quic token", token[:])); err != nil {
		return nil, nil, err
	}
	// Here reuse is of one socket for listening and dialing, without
	// SO_REUSEPORT. When it is off, each dial leaves a socket open for ever.
	begun := new(handshakes)
	conns, err := quicreuse.NewConnManager(reset, token,
		quicreuse.VerifySourceAddress(func(from net.Addr) bool {
			return begun.count.Load() >= trustedHandshakes || rm.VerifySourceAddress(from)
		}),
		quicreuse.ConnContext(func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			return chargeQUIC(ctx, rm, begun, info)
		}),
	)
	if err != nil {
		return nil, nil, err
	}
	t, err := libp2pquic.NewTransport(key, conns, nil, g, rm)
	if err != nil {
		return nil, nil, errors.Join(err, conns.Close())
	}
	return t, conns, nil
}

// handshakes counts the QUIC connections whose handshake is not through.
type handshakes struct{ count atomic.Int32 }

const (
	// trustedHandshakes is how many may go on before who begins another has to
	// show, by a round trip, that it gets what it is sent. Until it has, the
	// node keeps nothing of it.
	trustedHandshakes = 64

	// maxQUICHandshakes leaves others of the transient connections to TCP.
	maxQUICHandshakes = maxTransientConns / 4
)

// begin counts one more, until end is called, unless there are too many.
func (h *handshakes) begin() (end func(), err error) {
	end = sync.OnceFunc(func() { h.count.Add(-1) })
	if h.count.Add(1) > maxQUICHandshakes {
		end()
		return nil, errors.New("too many QUIC handshakes at once")
	}
	return end, nil
}

// chargeQUIC makes a QUIC connection count from its first packet on, not only
// once its handshake is through.
func chargeQUIC(ctx context.Context, rm network.ResourceManager, begun *handshakes, info *quic.ClientInfo) (context.Context, error) {
	addr, err := quicreuse.ToQuicMultiaddr(info.RemoteAddr, quic.Version1)
	if err != nil {
		return ctx, err
	}
	scope, err := rm.OpenConnection(network.DirInbound, false, addr)
	if err != nil {
		return ctx, err
	}
	end, err := begun.begin()
	if err != nil {
		scope.Done()
		return ctx, err
	}
	scope = &strangerScope{scope, end}
	context.AfterFunc(ctx, scope.Done)
	return network.WithConnManagementScope(ctx, scope), nil
}

func derive(key crypto.PrivKey, purpose string, out []byte) error {
	raw, err := key.Raw()
	if err != nil {
		return err
	}
	sub, err := hkdf.Key(sha256.New, raw, nil, purpose, len(out))
	copy(out, sub)
	return err
}

func (k *hostKit) addHost(c Config) error {
	manager, err := connmgr.NewConnManager(connsLow, connsHigh, connmgr.WithGracePeriod(connGrace))
	if err != nil {
		return err
	}
	k.host, err = basichost.NewHost(k.swarm, &basichost.HostOpts{
		EventBus:     k.events, // the swarm's, so that all events are on one
		ConnManager:  manager,
		EnablePing:   true,
		UserAgent:    c.Agent,
		AddrsFactory: func(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr { return k.addrs(withoutLocal(addrs)) },
	})
	if err != nil {
		return errors.Join(err, manager.Close())
	}
	return nil
}

// listen opens every address or says which it could not.
func (k *hostKit) listen(addrs []multiaddr.Multiaddr) error {
	for _, addr := range addrs {
		if err := k.swarm.AddListenAddr(addr); err != nil {
			return fmt.Errorf("listen at %v: %w", addr, err)
		}
	}
	return nil
}
