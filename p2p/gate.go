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
	"github.com/quic-go/quic-go"
)

const (
	// admissionTimeout bounds one exchange: a round trip of a second, and three
	// lost packets on the way.
	admissionTimeout = 5 * time.Second

	// maxAdmissions bounds how many connections from outside may be in the
	// exchange at once.
	maxAdmissions = 128
)

// A gate runs the admission exchange on every new connection. libp2p asks it
// after the handshake and before it answers anything on the connection: see
// Swarm.addConn in go-libp2p's p2p/net/swarm/swarm.go.
type gate struct {
	admission Admission
	log       *slog.Logger
	incoming  chan struct{} // one token for each exchange that a peer began
	refused   atomic.Uint64 // connections not admitted

	mu  sync.Mutex
	why map[peer.ID]error // why the last connection we made was not admitted
}

func newGate(a Admission, log *slog.Logger) *gate {
	return &gate{admission: a, log: log, incoming: make(chan struct{}, maxAdmissions), why: map[peer.ID]error{}}
}

func (g *gate) InterceptPeerDial(peer.ID) bool                                           { return true }
func (g *gate) InterceptAddrDial(peer.ID, multiaddr.Multiaddr) bool                      { return true }
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool                              { return true }
func (g *gate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }

// InterceptUpgraded admits a connection or has it closed.
func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	if g.admission == nil {
		return true, 0
	}
	outbound := c.Stat().Direction == network.DirOutbound
	err := g.admit(c, outbound)
	if outbound {
		g.remember(c.RemotePeer(), err)
	}
	if err != nil {
		g.refused.Add(1)
		g.log.Debug("connection not admitted", "peer", c.RemotePeer(), "addr", c.RemoteMultiaddr(), "err", err)
	}
	return err == nil, 0
}

func (g *gate) admit(c network.Conn, outbound bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), admissionTimeout)
	defer cancel()
	if !outbound {
		select {
		case g.incoming <- struct{}{}:
			defer func() { <-g.incoming }()
		default:
			return &RefusedError{Peer: c.RemotePeer(), Here: true, Err: RefusedBusy}
		}
	}
	stream, err := exchangeStream(ctx, c, outbound)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoExchange, err)
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() }) // frees a Read or Write that hangs
	defer stop()
	if outbound {
		return ask(stream, g.admission, c.RemotePeer())
	}
	return answer(stream, g.admission, c.RemotePeer())
}

// exchangeStream returns the connection's first stream. It is taken from the
// muxer, below libp2p, which does not yet know the connection.
func exchangeStream(ctx context.Context, c network.Conn, open bool) (io.ReadWriteCloser, error) {
	stop := context.AfterFunc(ctx, func() { c.Close() }) // yamux's AcceptStream has no ctx
	defer stop()
	var q *quic.Conn
	var y *yamux.Session
	switch {
	case c.As(&q) && open:
		return q.OpenStreamSync(ctx)
	case c.As(&q):
		return q.AcceptStream(ctx)
	case c.As(&y) && open:
		return y.OpenStream(ctx)
	case c.As(&y):
		return y.AcceptStream()
	}
	return nil, fmt.Errorf("transport of %v has no stream to run it on", c.RemoteMultiaddr())
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
