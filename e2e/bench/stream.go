package main

import (
	"context"
	"fmt"

	"github.com/p2pnode/p2pnode/overlay"
)

// streamWay is the way with nothing between, where both ends are nodes of one
// mesh and hold a stream of the library.
type streamWay struct{}

func (streamWay) name() string { return "stream" }
func (streamWay) ends() string { return meshEnds }

func (streamWay) start(_ context.Context, s *site, server string) (string, error) {
	s.path = func(ctx context.Context) (string, error) {
		r, err := s.ask(ctx, request{Op: "path"})
		return r.Path, err
	}
	return server, nil
}

// meshServer and meshService make up the target that the client dials.
const (
	meshServer  = "server"
	meshService = "bench"
)

// serveMeshEnd founds a mesh. What it prints as its address is an invite.
func serveMeshEnd(s self, _ string, handle func(conn)) error {
	mesh, err := overlay.Open(context.Background(), overlay.Config{Name: meshServer})
	if err != nil {
		return err
	}
	defer mesh.Close()
	ln, err := mesh.Listen(meshService)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := ln.AcceptConn()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	inv, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, inv.Text())
	return s.untilEnd()
}

func openMeshEnd(ctx context.Context, invite string) (dialer, func(), error) {
	mesh, err := overlay.Join(ctx, invite, overlay.Config{Name: "client"})
	if err != nil {
		return nil, nil, err
	}
	dial := func() (conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), stall)
		defer cancel()
		c, err := mesh.Dial(ctx, meshServer+"/"+meshService)
		if err != nil {
			return nil, err // not c, which is a nil *overlay.Conn in a conn
		}
		return c, nil
	}
	return dial, func() { mesh.Close() }, nil
}
