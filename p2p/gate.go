package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-yamux/v5"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
	"github.com/quic-go/quic-go"
)

const (
	// admissionTimeout bounds one exchange: a round trip of a second, and three
	// lost packets on the way.
	admissionTimeout = 5 * time.Second

	// farewellTimeout is how long a peer that was refused has to read why and
	// to hang up. A connection that is closed at once may take the reason with
	// it: TCP and QUIC both drop what was not yet sent.
	farewellTimeout = time.Second
)

// A gate runs the admission exchange on every new connection. libp2p asks it
// after the handshake and before it answers anything on the connection: see
// Swarm.addConn in go-libp2p's p2p/net/swarm/swarm.go. Until it has answered
// the connection must not be closed through libp2p, which does not count it
// yet and would count it out all the same.
type gate struct {
	// Set by newGate and never changed.
	admission         Admission
	log               *slog.Logger
	timeout, farewell time.Duration
	life              context.Context
	close             context.CancelFunc // ends all exchanges
	raise             func(peer.ID)      // lifts the limits for strangers
	unix              unixGate

	turns   turns         // the exchanges that peers began
	refused atomic.Uint64 // connections not admitted

	mu    sync.Mutex
	why   map[peer.ID]error // why the last connection we made was not admitted
	waits map[*refusalWait]struct{}
}

// A refusalWait is a dial that need not go on once its peer refuses.
type refusalWait struct {
	id   peer.ID
	stop func(error)
}

func newGate(a Admission, log *slog.Logger) *gate {
	g := &gate{
		admission: a, log: log, timeout: admissionTimeout, farewell: farewellTimeout,
		raise: func(peer.ID) {},
		turns: turns{max: maxAdmissions, maxEach: maxAddressAdmissions},
		why:   map[peer.ID]error{}, waits: map[*refusalWait]struct{}{},
	}
	g.life, g.close = context.WithCancel(context.Background())
	return g
}

func (g *gate) InterceptPeerDial(peer.ID) bool                                           { return true }
func (g *gate) InterceptAddrDial(peer.ID, multiaddr.Multiaddr) bool                      { return true }
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool                              { return true }
func (g *gate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }

// InterceptUpgraded admits a connection or has it closed.
func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	if asSingle(c) != nil { // it came in where there should be none
		return false, 0
	}
	err := g.admit(c, dialer(c) == c.LocalPeer())
	if u := unixConn(c); u != nil {
		g.unix.judged(u, err)
	}
	return err == nil, 0
}

// A unixGate is told of connections over unix sockets, once it is known whether
// they are admitted.
type unixGate interface{ judged(*unixsock.Conn, error) }

// A gated is a connection as the gate sees it, of libp2p's or a single.
type gated interface {
	RemotePeer() peer.ID
	RemoteMultiaddr() multiaddr.Multiaddr
	As(target any) bool
}

// admit runs the exchange on a connection that this node dialed, or the peer did.
func (g *gate) admit(c gated, dialed bool) error {
	if g.admission == nil {
		g.raise(c.RemotePeer())
		return nil
	}
	var err error
	if dialed {
		err = g.enter(c)
		g.remember(c.RemotePeer(), err)
	} else {
		err = g.letIn(c)
	}
	if err != nil {
		g.refused.Add(1)
		g.log.Debug("connection not admitted", "peer", c.RemotePeer(), "addr", c.RemoteMultiaddr(), "err", err)
	}
	return err
}

// enter runs the exchange on a connection that this node made.
func (g *gate) enter(c gated) error {
	g.raise(c.RemotePeer()) // for the streams that the peer opens once it has admitted this node
	return g.exchange(g.life, c, g.timeout, true, func(s exchangeStream) error {
		return ask(s, g.admission, c.RemotePeer())
	})
}

// letIn runs the exchange on a connection that the peer made.
func (g *gate) letIn(c gated) error {
	ctx, cancel := context.WithCancelCause(g.life)
	defer cancel(nil)
	turn := g.turns.take(addressOf(c.RemoteMultiaddr()), func() { cancel(RefusedBusy) })
	defer g.turns.done(turn)
	return g.exchange(ctx, c, g.timeout, false, func(s exchangeStream) error {
		return answer(s, raisingAdmission{g.admission, g.raise}, c.RemotePeer())
	})
}

// A raisingAdmission lifts the limits for strangers before the peer can hear
// that it is admitted, and opens streams.
type raisingAdmission struct {
	Admission
	raise func(peer.ID)
}

func (a raisingAdmission) Check(remote peer.ID, proof []byte) error {
	err := a.Admission.Check(remote, proof)
	if err == nil {
		a.raise(remote)
	}
	return err
}

// exchange calls run with the stream of the exchange, for at most timeout.
func (g *gate) exchange(ctx context.Context, c gated, timeout time.Duration, open bool, run func(exchangeStream) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := firstStream(ctx, c, open)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoExchange, orCause(ctx, err))
	}
	defer s.Close()
	stop := endWith(ctx, s)
	defer stop()
	err = run(s)
	switch {
	case err == nil || open:
	case ctx.Err() == nil:
		g.awaitHangUp(s)
	case errors.Is(context.Cause(ctx), RefusedBusy):
		_ = s.SetDeadline(time.Now().Add(g.farewell))
		return refuse(s, c.RemotePeer(), RefusedBusy)
	}
	return err
}

// endWith has a Read or Write on s that hangs fail once ctx has ended, until stop is
// called.
func endWith(ctx context.Context, s interface{ SetDeadline(time.Time) error }) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
}

// awaitHangUp reads what a refused peer may still send, which is no more than
// the rest of an exchange, until it hangs up.
func (g *gate) awaitHangUp(s exchangeStream) {
	if s.SetReadDeadline(time.Now().Add(g.farewell)) == nil {
		_, _ = io.CopyN(io.Discard, s, maxExchange)
	}
}

// orCause returns why ctx ended if it has, since err only follows from that.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// An exchangeStream is a connection's first stream. It is taken from the
// muxer, below libp2p, which does not yet know the connection.
type exchangeStream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
}

func firstStream(ctx context.Context, c gated, open bool) (exchangeStream, error) {
	var q *quic.Conn
	var y *yamux.Session
	if u := unixConn(c); u != nil {
		return firstUnix(ctx, u, open)
	}
	if s := asSingle(c); s != nil {
		return singleExchange{s}, nil
	}
	switch {
	case c.As(&q):
		return firstQUIC(ctx, q, open)
	case c.As(&y) && open:
		return y.OpenStream(ctx)
	case c.As(&y):
		stop := context.AfterFunc(ctx, func() { y.Close() }) // AcceptStream has no ctx
		defer stop()
		return y.AcceptStream()
	}
	return nil, fmt.Errorf("transport of %v has no stream to run it on", c.RemoteMultiaddr())
}

func firstQUIC(ctx context.Context, q *quic.Conn, open bool) (exchangeStream, error) {
	take := q.AcceptStream
	if open {
		take = q.OpenStreamSync
	}
	s, err := take(ctx)
	if err != nil {
		return nil, err
	}
	return quicExchange{s}, nil
}

func firstUnix(ctx context.Context, u *unixsock.Conn, open bool) (exchangeStream, error) {
	if open {
		return u.OpenStream(ctx)
	}
	stop := context.AfterFunc(ctx, func() { u.Close() }) // AcceptStream has no ctx
	defer stop()
	return u.AcceptStream()
}

// A quicExchange closes for reading too, without which the stream would count
// against the connection's limit as long as that lives.
type quicExchange struct{ *quic.Stream }

func (s quicExchange) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}

// remember keeps why a peer was not admitted, for the dial that waits to hear.
func (g *gate) remember(id peer.ID, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.why, id)
	if err == nil {
		return
	}
	if len(g.why) >= maxAdmissions { // of dials that nobody asked about
		clear(g.why)
	}
	g.why[id] = err
	if !final(err) {
		return
	}
	for w := range g.waits {
		if w.id == id {
			w.stop(err)
		}
	}
}

// onRefusal calls stop when a connection to id is refused for good, until
// forget is called.
func (g *gate) onRefusal(id peer.ID, stop func(error)) (forget func()) {
	w := &refusalWait{id, stop}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waits[w] = struct{}{}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.waits, w)
	}
}

// reason returns why the last connection to id was not admitted, or nil.
func (g *gate) reason(id peer.ID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why[id]
}

// final tells whether another connection to the same peer would fare alike.
func final(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && !errors.Is(err, RefusedBusy)
}
