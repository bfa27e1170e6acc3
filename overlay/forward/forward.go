package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// A Dialer opens streams to services. An overlay.Mesh is one.
type Dialer interface {
	// DialContext opens a stream to a service such as "alice/web". The network
	// is "tcp", or "udp" for a service of datagrams. It returns soon after ctx ends. See the package comment
	// for what the stream must have.
	DialContext(ctx context.Context, network, target string) (net.Conn, error)
}

// A Forward listens on a local socket and ties each connection it accepts, or each
// client that sends datagrams to it, to a stream of its own to a service. Its methods may be called at the same time.
type Forward struct {
	front front
}

// A front is the local side of a Forward: an acceptor, or flows.
type front interface {
	addr() net.Addr
	stats() Stats
	close() error
}

// NewForward listens on an address, and ties what connects there to the service
// that mesh knows as target. The service need not be up: it is dialled when a
// client connects.
//
// A unix socket is made for its owner alone, unless the Config says otherwise. One that is left
// from a process that has ended is replaced; any other file is left alone and
// an error.
func NewForward(mesh Dialer, target string, listen Address, c Config) (*Forward, error) {
	c, err := c.withDefaults(defaultForwardDialTimeout)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	front, err := newFront(mesh, target, listen, c)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	return &Forward{front}, nil
}

func newFront(mesh Dialer, target string, listen Address, c Config) (front, error) {
	dialing := func(network string) dialling {
		return func(ctx context.Context) (net.Conn, error) { return mesh.DialContext(ctx, network, target) }
	}
	if c.ProxyProtocol {
		return nil, errors.New("Config.ProxyProtocol is for an Expose: only its target is told of a member")
	}
	if listen.udp {
		conn, err := listenUDP(listen, c)
		if err != nil {
			return nil, err
		}
		c.Logger = c.Logger.With("service", target, "addr", udpPrefix+conn.LocalAddr().String())
		return newFlows(conn, dialing("udp"), c), nil
	}
	ln, err := listenOn(listen, c)
	if err != nil {
		return nil, err
	}
	c.Logger = c.Logger.With("service", target, "addr", ln.Addr().String())
	return newAcceptor(ln, always(dialing("tcp"), near{}), (*acceptor).tieBytes, c), nil
}

// Addr returns the address that clients connect to. If the port was 0, here it
// is the one that was chosen.
func (f *Forward) Addr() net.Addr { return f.front.addr() }

// Address returns the same as ParseAddress reads it.
func (f *Forward) Address() Address { return asAddress(f.Addr()) }

// asAddress returns the address of a socket that listens.
func asAddress(a net.Addr) Address {
	switch a := a.(type) {
	case *net.TCPAddr:
		return addressAt(a.AddrPort(), false)
	case *net.UDPAddr:
		return addressAt(a.AddrPort(), true)
	default:
		return Address{path: a.String()}
	}
}

// Stats returns the counts up to now. It may be called after Close.
func (f *Forward) Stats() Stats { return f.front.stats() }

// Close stops listening, removes the unix socket if there is one, resets the
// connections that are open and waits until all has ended. It may be called more
// than once.
func (f *Forward) Close() error { return f.front.close() }
