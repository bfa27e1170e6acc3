package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"
)

// ErrNoAddress says that a peer was to be dialed of which no address is known.
var ErrNoAddress = errors.New("no known address")

// ErrNoListener says that the peer has no listener for a stream's protocol.
var ErrNoListener = errors.New("peer has no listener")

// addressTTL is how long an address that was given to Connect is remembered.
const addressTTL = 30 * time.Minute

// An Attempt is one address that was tried.
type Attempt struct {
	Addr multiaddr.Multiaddr
	Path Path
	Took time.Duration // until it failed or a connection was there; zero if it was not tried
	Err  error
}

// A DialError reports every address that was tried to reach a peer.
type DialError struct {
	Peer     peer.ID
	Attempts []Attempt // in the order they failed; empty if no address was known
	Err      error     // why no connection came of it, where that is one reason
}

func (e *DialError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "dial peer %v: ", e.Peer)
	if e.Err != nil {
		fmt.Fprintf(&b, "%v", e.Err)
		if e.decided() {
			return b.String()
		}
	}
	for i, a := range e.Attempts {
		if i > 0 || e.Err != nil {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%v: %v", a.Addr, a.Err)
		if a.Took > 0 {
			fmt.Fprintf(&b, " (%v)", a.Took.Round(time.Millisecond))
		}
	}
	return b.String()
}

// decided tells whether the one reason would have been the same at any address.
func (e *DialError) decided() bool {
	var refused *RefusedError
	return errors.As(e.Err, &refused) || errors.Is(e.Err, ErrClosed)
}

// Unwrap returns the one reason if there is one, else those of the attempts.
func (e *DialError) Unwrap() []error {
	if e.Err != nil {
		return []error{e.Err}
	}
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a.Err
	}
	return errs
}

// Connect makes sure there is a connection to a peer, dialing it at addrs and
// at its addresses known from before. It returns when both ends have admitted
// each other. The error is a [*DialError], and wraps a [*RefusedError] where a
// connection was made and not admitted. Dials to the same peer at the same
// time become one.
func (n *Node) Connect(ctx context.Context, id peer.ID, addrs ...multiaddr.Multiaddr) error {
	if err := n.alive(); err != nil {
		return err
	}
	if id == n.id {
		return nil
	}
	n.kit.host.Peerstore().AddAddrs(id, addrs, addressTTL)
	_, err := n.conn(ctx, id)
	return err
}

// Dial opens a stream to a peer for a protocol, such as "/echo/1", over the
// best connection there is; without one it connects first, to the addresses
// known. The node's own ID reaches its own listener.
//
// It is for what the peer listens for with Listen; libp2p protocols that its Host
// handles are opened with that of this node.
//
// Dial does not wait for the peer's answer, so it costs no round trip on a
// connection that is there. If the peer has no listener for the protocol, the
// first Read says so.
func (n *Node) Dial(ctx context.Context, id peer.ID, proto string) (*Stream, error) {
	return n.dialWith(ctx, id, proto, func(ctx context.Context, c network.Conn) (*Stream, error) {
		return n.open(ctx, c, proto)
	})
}

// dialWith opens a stream by open on the best connection there is.
func (n *Node) dialWith(ctx context.Context, id peer.ID, proto string, open opener) (*Stream, error) {
	if err := n.alive(); err != nil {
		return nil, err
	}
	ctx, cancel := n.bound(ctx)
	defer cancel(nil)
	s, err := n.dial(ctx, id, proto, open)
	if err != nil && n.alive() != nil {
		return nil, ErrClosed // whatever it broke first
	}
	return s, err
}

type opener func(context.Context, network.Conn) (*Stream, error)

func (n *Node) dial(ctx context.Context, id peer.ID, proto string, open opener) (*Stream, error) {
	if id == n.id {
		return n.dialSelf(ctx, proto)
	}
	c, err := n.conn(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, c)
	if err == nil || ctx.Err() != nil || !c.IsClosed() {
		return s, err
	}
	if c, err = n.conn(ctx, id); err != nil { // that connection had just died
		return nil, err
	}
	return open(ctx, c)
}

func (n *Node) open(ctx context.Context, c network.Conn, proto string) (*Stream, error) {
	if n.lasts(ctx, c) {
		return n.openDurable(ctx, c, proto)
	}
	return n.openPlain(ctx, c, proto)
}

// openPlain opens a stream that ends with its connection.
func (n *Node) openPlain(ctx context.Context, c network.Conn, proto string) (*Stream, error) {
	if u := unixConn(c); u != nil {
		return n.openUnix(ctx, u, proto)
	}
	raw, err := c.NewStream(ctx)
	if err != nil {
		return nil, openError(c.RemotePeer(), err)
	}
	if err := raw.SetProtocol(protocol.ID(proto)); err != nil {
		_ = raw.ResetWithError(network.StreamResourceLimitExceeded)
		return nil, openError(c.RemotePeer(), err)
	}
	return n.newStream(raw, newNamer(raw, proto), streamInfo{
		local: n.id, remote: c.RemotePeer(), protocol: proto, path: pathTo(c.RemoteMultiaddr()), lingers: runsYamux(c),
	}), nil
}

func openError(id peer.ID, err error) error {
	return fmt.Errorf("open stream to peer %v: %w", id, err)
}

// conn returns the best connection to a peer, dialing if there is none, and waits for
// a direct one if ctx asks for that.
func (n *Node) conn(ctx context.Context, id peer.ID) (network.Conn, error) {
	c, err := n.anyConn(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := n.awaitDirect(ctx, id); err != nil {
		return nil, &DialError{Peer: id, Err: err}
	}
	if best := n.bestConn(id); best != nil {
		return best, nil
	}
	return c, nil
}

func (n *Node) anyConn(ctx context.Context, id peer.ID) (network.Conn, error) {
	if c := n.bestConn(id); c != nil {
		return c, nil
	}
	if ctx.Err() != nil {
		return nil, &DialError{Peer: id, Err: context.Cause(ctx)}
	}
	ctx, cancel := n.bound(ctx)
	defer cancel(nil)
	defer n.gate.onRefusal(id, cancel)() // who refuses at one address does so at all
	began := time.Now()
	var local *Attempt
	if n.hasLocal(id) {
		err := n.dialLocal(ctx, id)
		if c := n.bestConn(id); c != nil {
			return c, nil
		}
		local = &Attempt{Addr: n.local.addr, Path: PathUnix, Took: time.Since(began), Err: cmp.Or(err, error(ErrReset))}
		if final(err) {
			return nil, &DialError{Peer: id, Attempts: []Attempt{*local}, Err: err}
		}
	}
	c, err := n.dialPeer(ctx, id)
	if err != nil {
		n.dialsFailed.Add(1)
		if n.alive() != nil {
			return nil, ErrClosed
		}
		return nil, n.dialError(ctx, id, began, local, err)
	}
	if best := n.bestConn(id); best != nil {
		return best, nil
	}
	return c, nil
}

// redialAfter lets all who wait for a dial leave it.
const redialAfter = 20 * time.Millisecond

// dialPeer has libp2p dial a peer, and dial it anew when the network changes: who has
// got no answer before asks again later and later.
func (n *Node) dialPeer(ctx context.Context, id peer.ID) (network.Conn, error) {
	for {
		// libp2p keeps an address that failed from being dialed again for a while.
		// Somebody asked for this dial, so it is made.
		n.kit.swarm.Backoff().Clear(id)
		n.kit.host.Peerstore().AddAddrs(id, n.throughRelays(ctx, id), relayAddrTTL)
		era := n.around.now()
		once, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(era, cancel)
		c, err := n.kit.swarm.DialPeer(once, id)
		stop()
		cancel()
		if err == nil || era.Err() == nil || ctx.Err() != nil || !n.pause(redialAfter) {
			return c, err
		}
	}
}

// bestConn returns the best connection to a peer, nil if there is none. One that is
// just looked at is taken if there is no other.
func (n *Node) bestConn(id peer.ID) network.Conn {
	var best, suspect network.Conn
	for _, c := range n.kit.swarm.ConnsToPeer(id) {
		of := &best
		if c.IsClosed() {
			continue
		}
		if n.durables.suspected(c) {
			of = &suspect
		}
		if *of == nil || better(c, *of) {
			*of = c
		}
	}
	if best == nil {
		return suspect
	}
	return best
}

// dialError makes of what the swarm says an error that has each address once.
func (n *Node) dialError(ctx context.Context, id peer.ID, began time.Time, local *Attempt, err error) error {
	out := &DialError{Peer: id}
	if local != nil {
		out.Attempts = append(out.Attempts, *local)
	}
	var refused error
	var all *swarm.DialError
	if errors.As(err, &all) {
		for _, e := range all.DialErrors {
			a := n.dials.attempt(id, e.Address, e.Cause)
			if reason := n.gate.reason(id); reason != nil && errors.Is(e.Cause, swarm.ErrGaterDisallowedConnection) {
				a.Err, refused = reason, reason
			}
			out.Attempts = append(out.Attempts, a)
		}
		err = all.Cause
	}
	// The swarm lists no more than sixteen, and none when ctx has ended.
	out.Attempts = append(out.Attempts, n.dials.others(id, began, out.Attempts)...)
	switch {
	case final(refused):
		out.Err = refused
	case ctx.Err() != nil:
		out.Err = context.Cause(ctx)
	case errors.Is(err, swarm.ErrNoAddresses) && local == nil:
		out.Err = ErrNoAddress
	case len(out.Attempts) == 0 || all == nil:
		out.Err = err
	}
	return out
}

// plain takes off what says again what was dialed, which an Attempt tells, and
// what of the protocols was waited for when time ran out.
func plain(err error) error {
	var mismatch sec.ErrPeerIDMismatch
	if errors.As(err, &mismatch) {
		return fmt.Errorf("another peer is there: %v", mismatch.Actual)
	}
	var proxy *ProxyError
	if errors.As(err, &proxy) {
		return &ProxyError{proxy.Proxy, proxy.Target, proxy.Status, plain(proxy.Err)}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.Canceled) {
		return noAnswer{err}
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// noAnswer is the error of an attempt whose time ran out, or which was called
// off.
type noAnswer struct{ error }

func (noAnswer) Error() string   { return errNoAnswer.Error() }
func (e noAnswer) Unwrap() error { return e.error }
