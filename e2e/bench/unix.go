package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
)

// unixWay is the way with nothing between, where both ends hold a unix socket.
type unixWay struct{}

func (unixWay) name() string { return "unix" }
func (unixWay) ends() string { return unixEnds }

func (unixWay) start(_ context.Context, _ *site, server string) (string, error) {
	return server, nil
}

func serveUnixEnd(s self, dir string, handle func(conn)) error {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "server")})
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Fprintln(s.out, ln.Addr())
	go func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return s.untilEnd()
}

func openUnixEnd(_ context.Context, addr string) (dialer, func(), error) {
	dial := func() (conn, error) {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: addr})
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return dial, func() {}, nil
}
