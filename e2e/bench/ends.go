package main

import (
	"context"
	"fmt"
	"net"
)

// A conn is a stream between a client and a server: a TCP or unix socket, or a
// stream of the library.
type conn interface {
	net.Conn
	CloseWrite() error
}

// A dialer makes another connection to the server of its way.
type dialer func() (conn, error)

// An ends is how the client and the server of a way hold their streams.
type ends struct {
	// serve gives each connection to handle, which closes nothing, until the
	// process is to end. It prints the address to dial, and may keep files in dir.
	serve func(s self, dir string, handle func(conn)) error

	// open returns what dials an address. The function returned second ends what
	// it needed for that.
	open func(ctx context.Context, addr string) (dialer, func(), error)
}

// The names of what a way's ends can be.
const (
	tcpEnds  = "tcp"
	unixEnds = "unix"
	meshEnds = "mesh"
)

var allEnds = map[string]ends{
	tcpEnds:  {serveTCPEnd, openTCPEnd},
	unixEnds: {serveUnixEnd, openUnixEnd},
	meshEnds: {serveMeshEnd, openMeshEnd},
}

func endsNamed(name string) (ends, error) {
	e, ok := allEnds[name]
	if !ok {
		return ends{}, fmt.Errorf("no ends %q", name)
	}
	return e, nil
}

// overTCP is part of each way whose client and server hold TCP sockets.
type overTCP struct{}

func (overTCP) ends() string { return tcpEnds }

func serveTCPEnd(s self, _ string, handle func(conn)) error {
	return s.serveTCP(func(c *net.TCPConn) { handle(c) })
}

func openTCPEnd(_ context.Context, addr string) (dialer, func(), error) {
	dial := func() (conn, error) {
		c, err := dialTCP(addr)
		if err != nil {
			return nil, err // not c, which is a nil *net.TCPConn in a conn
		}
		return c, nil
	}
	return dial, func() {}, nil
}
