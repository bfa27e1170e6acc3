package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/daemon"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
)

// nodeFlags are those of the commands that run a node.
type nodeFlags struct {
	name      string
	listen    []string
	bootstrap []string
	ephemeral bool
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "name", "", "what others call this node (default: as last time, or made of the host's name)")
	cmd.Flags().StringSliceVar(&f.listen, "listen", nil, "addresses to accept connections at, as /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1 (default: all interfaces, a free port)")
	cmd.Flags().StringSliceVar(&f.bootstrap, "bootstrap", nil, "members to start from, as /ip4/192.0.2.1/tcp/4001/p2p/ID, besides those known")
	cmd.Flags().BoolVar(&f.ephemeral, "ephemeral", false, "keep no key and no state: the node is gone when it ends")
}

// config makes of the flags what package overlay wants.
func (f *nodeFlags) config(e *env, dir string) (overlay.Config, error) {
	c := overlay.Config{Dir: dir, Name: f.name, Logger: e.logger()}
	if f.ephemeral {
		c.Dir = ""
	}
	var err error
	if c.Listen, err = parseAddrs("--listen", f.listen); err != nil {
		return c, err
	}
	c.Bootstrap, err = parseAddrs("--bootstrap", f.bootstrap)
	return c, err
}

func parseAddrs(flag string, in []string) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	for _, s := range in {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, usagef("%s %q: %w", flag, s, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// A ready line says that the node can be used.
type ready struct {
	Version int                   `json:"v"`
	Event   string                `json:"event"` // "ready"
	Name    string                `json:"name"`
	ID      string                `json:"id"`
	Mesh    string                `json:"mesh"`
	Addrs   []multiaddr.Multiaddr `json:"addrs"`
	Dir     string                `json:"dir"`
	Took    float64               `json:"took_ms"`
}

// runNode runs a mesh in the foreground until ctx ends or it is told to go
// down. After it is ready it calls greet.
func (e *env) runNode(ctx context.Context, f *nodeFlags, open func(context.Context, overlay.Config) (*overlay.Mesh, error), greet func(*overlay.Mesh) error) error {
	start := time.Now()
	dir, err := e.directory()
	if err != nil {
		return err
	}
	c, err := f.config(e, dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); f.ephemeral && errors.Is(err, os.ErrNotExist) {
		defer os.Remove(dir) // which then has held the control socket only
	}
	mesh, l, err := openBoth(ctx, dir, c, open)
	if err != nil {
		return err
	}
	if err := e.sayReady(mesh, dir, time.Since(start)); err != nil {
		return err
	}
	if err := greet(mesh); err != nil {
		return err
	}
	return daemon.Serve(ctx, l, mesh, c.Logger)
}

// openBoth opens the mesh and the control socket. The mesh comes first: it
// locks the directory.
func openBoth(ctx context.Context, dir string, c overlay.Config, open func(context.Context, overlay.Config) (*overlay.Mesh, error)) (*overlay.Mesh, net.Listener, error) {
	mesh, err := open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	l, err := control.Listen(dir)
	if err != nil {
		mesh.Close()
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	return mesh, l, nil
}

func (e *env) sayReady(m *overlay.Mesh, dir string, took time.Duration) error {
	self := m.Self()
	return e.print(ready{
		Version: control.Version, Event: "ready", Name: self.Name, ID: self.ID.String(),
		Mesh: m.ID().String(), Addrs: m.Addrs(), Dir: dir, Took: float64(took.Microseconds()) / 1000,
	}, "ready %s %v", self.Name, self.ID)
}
