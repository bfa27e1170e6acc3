package main

import (
	"context"
	"net"
)

// splice is the way through one proxy that hands both sockets to io.Copy, which
// on Linux lets the kernel move the bytes.
type splice struct{ overTCP }

func (splice) name() string { return "splice" }

func (splice) start(ctx context.Context, s *site, server string) (string, error) {
	return s.role(ctx, s.near, "splice", server)
}

// spliceRole is the proxy. Its argument is the server's address.
func spliceRole(s self, args []string) error {
	return s.serveTCP(func(client *net.TCPConn) {
		if server, err := dialTCP(args[0]); err == nil {
			tie(client, server)
		}
	})
}
