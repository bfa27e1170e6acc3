package p2p

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A dialLog remembers the last attempt at each address: when it began, how long
// it took, and why it failed.
type dialLog struct {
	mu    sync.Mutex
	tries map[dialKey]try
}

type dialKey struct {
	id   peer.ID
	addr string
}

type try struct {
	addr  multiaddr.Multiaddr
	began time.Time
	ended time.Time // zero while it goes on
	err   error     // nil if it made a connection
}

// maxDialLog bounds the attempts that are remembered.
const maxDialLog = 1024

// errNoAnswer is the error of an attempt that was still going on when the dial
// was given up.
var errNoAnswer = errors.New("no answer")

func newDialLog() *dialLog { return &dialLog{tries: map[dialKey]try{}} }

// run makes an attempt.
func (l *dialLog) run(id peer.ID, addr multiaddr.Multiaddr, dial func() (transport.CapableConn, error)) (transport.CapableConn, error) {
	return l.runWaiting(id, addr, errNoAnswer, dial)
}

// runWaiting makes an attempt whose error is waits while it goes on.
func (l *dialLog) runWaiting(id peer.ID, addr multiaddr.Multiaddr, waits error, dial func() (transport.CapableConn, error)) (transport.CapableConn, error) {
	t := try{addr: addr, began: time.Now(), err: waits}
	l.put(id, t)
	c, err := dial()
	t.ended, t.err = time.Now(), err
	l.put(id, t)
	return c, err
}

func (l *dialLog) put(id peer.ID, t try) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := dialKey{id, t.addr.String()}
	if _, ok := l.tries[key]; !ok && len(l.tries) >= maxDialLog {
		clear(l.tries)
	}
	l.tries[key] = t
}

func (t try) attempt() Attempt {
	a := Attempt{Addr: t.addr, Path: pathTo(t.addr), Took: time.Since(t.began), Err: plain(t.err)}
	if !t.ended.IsZero() {
		a.Took = t.ended.Sub(t.began)
	}
	return a
}

// attempt reports on an address which libp2p says failed for a cause.
func (l *dialLog) attempt(id peer.ID, addr multiaddr.Multiaddr, cause error) Attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.tries[dialKey{id, addr.String()}]
	if ok && (errors.Is(t.err, cause) || errors.Is(cause, swarm.ErrGaterDisallowedConnection)) {
		a := t.attempt()
		a.Err = plain(cause)
		return a
	}
	return Attempt{Addr: addr, Path: pathTo(addr), Err: plain(cause)} // libp2p did not try it
}

// others reports on the attempts since then that failed or go on and are not
// among those listed, in the order they ended.
func (l *dialLog) others(id peer.ID, since time.Time, listed []Attempt) []Attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	var tries []try
	for key, t := range l.tries {
		if key.id != id || t.err == nil || t.began.Before(since) {
			continue
		}
		if !slices.ContainsFunc(listed, func(a Attempt) bool { return a.Addr.Equal(t.addr) }) {
			tries = append(tries, t)
		}
	}
	slices.SortFunc(tries, try.compare)
	out := make([]Attempt, len(tries))
	for i, t := range tries {
		out[i] = t.attempt()
	}
	return out
}

// compare puts what ended first before the rest, and what goes on last.
func (t try) compare(o try) int {
	if t.ended.IsZero() != o.ended.IsZero() {
		if t.ended.IsZero() {
			return 1
		}
		return -1
	}
	return cmp.Or(t.ended.Compare(o.ended), t.began.Compare(o.began), strings.Compare(t.addr.String(), o.addr.String()))
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
	t := l.tries[dialKey{id, tcp.String()}]
	return time.Since(t.ended) < refusalHolds && errors.Is(t.err, syscall.ECONNREFUSED)
}

// refusalHolds is how long TCP's refusal says something about QUIC: within one
// dial it comes right before, and later somebody may be there.
const refusalHolds = time.Second

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

// Transports that time their dials.
type (
	timedTCP struct {
		*patientTCP
		log *dialLog
		kit *hostKit
	}
	timedQUIC struct {
		transport.Transport
		log *dialLog
	}
)

// Listen keeps singles from libp2p.
func (t *timedTCP) Listen(at multiaddr.Multiaddr) (transport.Listener, error) {
	l, err := t.patientTCP.Listen(at)
	if err != nil {
		return nil, err
	}
	return &singlesListener{l, func(c transport.CapableConn) bool { return t.kit.takes(c) }}, nil
}

func (t *timedTCP) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	return t.log.run(id, addr, func() (transport.CapableConn, error) { return t.patientTCP.Dial(ctx, addr, id) })
}

func (t *timedTCP) DialWithUpdates(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	return t.log.run(id, addr, func() (transport.CapableConn, error) {
		return t.patientTCP.DialWithUpdates(ctx, addr, id, updates)
	})
}

func (t *timedQUIC) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	if t.log.nobodyThere(id, addr) {
		return nil, errNobodyThere
	}
	return t.log.run(id, addr, func() (transport.CapableConn, error) { return t.Transport.Dial(ctx, addr, id) })
}

// ListenOrder keeps go-libp2p's order of listening, which the embedded
// interface hides.
func (t *timedQUIC) ListenOrder() int { return 1 }
