package main

import (
	"context"
	"io"
	"net"
)

// splice is the way through one proxy that hands both sockets to io.Copy, which
// on Linux lets the kernel move the bytes.
type splice struct{ overTCP }

func (splice) name() string { return "splice" }

func (splice) start(ctx context.Context, s *site, server string) (string, error) {
	return s.role(ctx, "splice", server)
}

// spliceRole is the proxy. Its argument is the server's address.
func spliceRole(args []string, in io.Reader, out io.Writer) error {
	return serveTCP(in, out, func(client *net.TCPConn) {
		if server, err := dialTCP(args[0]); err == nil {
			tie(client, server)
		}
	})
}
