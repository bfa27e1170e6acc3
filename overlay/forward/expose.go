package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// An Expose offers what listens on a local socket as a service. It ties each
// stream that it accepts to a connection of its own to that socket. Its methods
// may be called at the same time.
type Expose struct {
	acceptor *acceptor
}

// NewExpose ties the streams that ln accepts, which is a service's listener, to
// a target. The target need not be up: it is dialled when a stream comes in. A
// stream whose target can't be reached is reset. Unless there is an error, ln is
// closed with the Expose.
func NewExpose(ln net.Listener, target Address, c Config) (*Expose, error) {
	c, err := c.withDefaults(defaultExposeDialTimeout)
	if target.path == "" && target.port == 0 {
		err = errors.Join(err, fmt.Errorf("target %v: port 0 can't be dialled", target))
	}
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	c.Logger = c.Logger.With("service", ln.Addr().String(), "addr", target.String())
	e := &Expose{newAcceptor(ln, target.dial, target.near(), c)}
	e.acceptor.takeAskers()
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
