package forward

import (
	"context"
	"fmt"
	"net"
)

// A Dialer opens streams to services. An overlay.Mesh is one.
type Dialer interface {
	// DialContext opens a stream to a service such as "alice/web". The network
	// is always "tcp". It returns soon after ctx ends. See the package comment
	// for what the stream must have.
	DialContext(ctx context.Context, network, target string) (net.Conn, error)
}

// A Forward listens on a local socket and ties each connection it accepts to a
// stream of its own to a service. Its methods may be called at the same time.
type Forward struct {
	acceptor *acceptor
}

// NewForward listens on an address, and ties what connects there to the service
// that mesh knows as target. The service need not be up: it is dialled when a
// client connects.
//
// A unix socket is made for its owner alone, with mode 0600. One that is left
// from a process that has ended is replaced; any other file is left alone and
// an error.
func NewForward(mesh Dialer, target string, listen Address, c Config) (*Forward, error) {
	c, err := c.withDefaults(defaultForwardDialTimeout)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	ln, err := listenOn(listen)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	c.Logger = c.Logger.With("service", target, "addr", ln.Addr().String())
	dial := func(ctx context.Context) (net.Conn, error) { return mesh.DialContext(ctx, "tcp", target) }
	return &Forward{newAcceptor(ln, dial, near{}, c)}, nil
}

// Addr returns the address that clients connect to. If the port was 0, here it
// is the one that was chosen.
func (f *Forward) Addr() net.Addr { return f.acceptor.ln.Addr() }

// Stats returns the counts up to now. It may be called after Close.
func (f *Forward) Stats() Stats { return f.acceptor.stats() }

// Close stops listening, removes the unix socket if there is one, resets the
// connections that are open and waits until all has ended. It may be called more
// than once.
func (f *Forward) Close() error { return f.acceptor.close() }
