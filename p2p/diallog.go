package p2p

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A dialLog remembers how long the attempts took that failed, and why, until
// the dial they belong to reports them.
type dialLog struct {
	mu     sync.Mutex
	failed map[dialKey]Attempt
}

type dialKey struct {
	id   peer.ID
	addr string
}

// maxDialLog bounds the attempts of dials that nobody waits for.
const maxDialLog = 1024

func newDialLog() *dialLog { return &dialLog{failed: map[dialKey]Attempt{}} }

func (l *dialLog) note(id peer.ID, addr multiaddr.Multiaddr, start time.Time, err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) >= maxDialLog {
		clear(l.failed)
	}
	l.failed[dialKey{id, addr.String()}] = Attempt{Took: time.Since(start), Err: err}
}

func (l *dialLog) take(id peer.ID, addr multiaddr.Multiaddr) (time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := dialKey{id, addr.String()}
	a := l.failed[key]
	delete(l.failed, key)
	return a.Took, a.Err
}

// errNobodyThere is why QUIC is not tried at a port of this machine where TCP
// was refused. A QUIC handshake that nobody answers takes until its time-out.
var errNobodyThere = errors.New("not tried: TCP was refused at this port of this machine")

// nobodyThere tells whether TCP was refused at the same address and port, and
// that address is this machine's, where no router or firewall treats UDP
// otherwise.
func (l *dialLog) nobodyThere(id peer.ID, addr multiaddr.Multiaddr) bool {
	udp, err := manet.ToNetAddr(addr.Decapsulate(quicSuffix))
	if err != nil {
		return false
	}
	at, ok := udp.(*net.UDPAddr)
	if !ok || !onThisMachine(at.IP) {
		return false
	}
	tcp, err := manet.FromNetAddr(&net.TCPAddr{IP: at.IP, Port: at.Port})
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Is(l.failed[dialKey{id, tcp.String()}].Err, syscall.ECONNREFUSED)
}

var quicSuffix = multiaddr.StringCast("/quic-v1")

func onThisMachine(ip net.IP) bool {
	if ip.IsLoopback() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// The transports, each timing its dials.
type (
	timedTCP struct {
		*tcp.TcpTransport
		log *dialLog
	}
	timedWebSocket struct {
		*websocket.WebsocketTransport
		log *dialLog
	}
	timedQUIC struct {
		transport.Transport
		log *dialLog
	}
)

func (t *timedTCP) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	start := time.Now()
	c, err := t.TcpTransport.Dial(ctx, addr, id)
	t.log.note(id, addr, start, err)
	return c, err
}

func (t *timedTCP) DialWithUpdates(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	start := time.Now()
	c, err := t.TcpTransport.DialWithUpdates(ctx, addr, id, updates)
	t.log.note(id, addr, start, err)
	return c, err
}

func (t *timedWebSocket) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	start := time.Now()
	c, err := t.WebsocketTransport.Dial(ctx, addr, id)
	t.log.note(id, addr, start, err)
	return c, err
}

func (t *timedQUIC) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	if t.log.nobodyThere(id, addr) {
		return nil, errNobodyThere
	}
	start := time.Now()
	c, err := t.Transport.Dial(ctx, addr, id)
	t.log.note(id, addr, start, err)
	return c, err
}

// ListenOrder keeps go-libp2p's order of listening, which the embedded
// interface hides.
func (t *timedQUIC) ListenOrder() int { return 1 }
