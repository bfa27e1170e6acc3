package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// An Expose offers what listens on a local socket as a service. It ties each
// stream that it accepts to a connection, or a socket, of its own to that. Its methods
// may be called at the same time.
type Expose struct {
	acceptor *acceptor
}

// NewExpose ties the streams that ln accepts, which is a service's listener, to
// a target. The target need not be up: it is dialled when a stream comes in. A
// stream whose target can't be reached is reset. Unless there is an error, ln is
// closed with the Expose.
//
// A target of UDP is for a service of datagrams, and no other is. It is not known to be up before it
// answers: what it does not take is lost.
func NewExpose(ln net.Listener, target Address, c Config) (*Expose, error) {
	var err error
	if target.path == "" && target.port == 0 {
		err = fmt.Errorf("target %v: port 0 can't be dialled", target)
	}
	return newExpose(ln, target, always(target.dial, target.near()), c, err)
}

// newExpose makes an Expose, unless there is an error already.
func newExpose(ln net.Listener, target net.Addr, to route, c Config, err error) (*Expose, error) {
	c, wrong := c.withDefaults(defaultExposeDialTimeout)
	err = errors.Join(wrong, err)
	udp := target.Network() == "udp"
	if l, ok := ln.(interface{ Datagrams() bool }); ok && l.Datagrams() != udp {
		err = errors.Join(err, fmt.Errorf("target %v: %v is a service of the other kind", target, ln.Addr()))
	}
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	c.Logger = c.Logger.With("service", ln.Addr().String(), "addr", target.String())
	if udp {
		if c.ProxyProtocol {
			return nil, fmt.Errorf("forward: target %v: Config.ProxyProtocol is for bytes alone", target)
		}
		return &Expose{newAcceptor(ln, to, (*acceptor).tieDatagrams, c)}, nil
	}
	e := &Expose{newAcceptor(ln, to, (*acceptor).tieBytes, c)}
	if c.IdleTimeout == 0 && !c.ProxyProtocol { // or the connection has to stay with this process
		e.acceptor.takeAskers()
	}
	return e, nil
}

// Stats returns the counts up to now. It may be called after Close.
func (e *Expose) Stats() Stats {
	s := e.acceptor.stats()
	s.Sent, s.Received = s.Received, s.Sent // what is accepted here is the mesh's side
	return s
}

// Close ends the offer of the service, resets the streams that are open and
// waits until all has ended. It may be called more than once.
func (e *Expose) Close() error { return e.acceptor.close() }

func (a Address) dial(ctx context.Context) (net.Conn, error) {
	network, address := a.endpoint()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", a, reason(err))
	}
	return conn, nil
}
