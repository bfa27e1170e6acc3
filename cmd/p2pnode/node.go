package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/config"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/daemon"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// nodeFlags are those of the commands that run a node.
type nodeFlags struct {
	name      string
	listen    []string
	bootstrap []string
	ephemeral bool
	back      bool          // in the background
	limit     time.Duration // of streams
	file      string        // of the configuration
	local     localFlags
	network   networkFlags
	relay     relayFlags

	given *pflag.FlagSet
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	f.given = cmd.Flags()
	cmd.Flags().StringVar(&f.name, "name", "", "what others call this node (default: as last time, or made of the host's name)")
	cmd.Flags().StringSliceVar(&f.listen, "listen", nil, "addresses to accept connections at, as /ip4/0.0.0.0/tcp/4001, /ip4/0.0.0.0/udp/4001/quic-v1 or, for those who can only get out to port 443, /ip4/0.0.0.0/tcp/443/tls/ws (default: all interfaces, a free port)")
	cmd.Flags().StringSliceVar(&f.bootstrap, "bootstrap", nil, "members to start from, as /ip4/192.0.2.1/tcp/4001/p2p/ID, besides those known")
	cmd.Flags().BoolVar(&f.ephemeral, "ephemeral", false, "keep no key and no state: the node is gone when it ends")
	cmd.Flags().DurationVar(&f.limit, "stream-limit", defaultStreamLimit, "how long a stream that has lost its connection waits for another before it is over; 0 for ever")
	cmd.Flags().BoolVar(&f.back, "background", false, "return when the node is ready, and leave it running, until p2pnode down; p2pnode logs shows its log")
	cmd.Flags().StringVar(&f.file, "config", "", "a file that says what to expose and forward, see p2pnode config")
	f.local.add(cmd)
	f.network.add(cmd)
	f.relay.add(cmd)
}

// defaultStreamLimit is that of package p2p.
const defaultStreamLimit = 5 * time.Minute

// readFile reads the configuration file, if one is named, and takes what it says in
// [node] for flags that were not given.
func (f *nodeFlags) readFile() (*config.File, error) {
	if !f.given.Changed("config") {
		return nil, nil
	}
	path, err := filepath.Abs(f.file) // it is read again, and named to others
	if err != nil {
		return nil, err
	}
	file, err := config.Read(path)
	if err == nil {
		err = useSettings(file, f.given)
	}
	if err != nil {
		return nil, badConfig(err)
	}
	return file, nil
}

// config makes of the flags what package overlay wants.
func (f *nodeFlags) config(e *env, dir string) (overlay.Config, error) {
	c := overlay.Config{Dir: dir, Name: f.name, Logger: e.logger()}
	if f.ephemeral {
		c.Dir = ""
	}
	if f.name != "" {
		if err := credential.CheckName(f.name); err != nil {
			return c, usagef("--%w", err) // which begins with "name"
		}
	}
	for _, s := range f.listen {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return c, usagef("--listen %q: not an address such as /ip4/0.0.0.0/tcp/4001", s)
		}
		c.Listen = append(c.Listen, a)
	}
	for _, s := range f.bootstrap {
		a, err := multiaddr.NewMultiaddr(s)
		if err == nil {
			_, err = peer.AddrInfoFromP2pAddr(a)
		}
		if err != nil {
			return c, usagef("--bootstrap %q: not an address such as /ip4/192.0.2.1/tcp/4001/p2p/ID", s)
		}
		c.Bootstrap = append(c.Bootstrap, a)
	}
	switch {
	case f.limit < 0:
		return c, usagef("--stream-limit %v: less than no time", f.limit)
	case f.limit == 0:
		c.StreamLimit = -1
	default:
		c.StreamLimit = f.limit
	}
	if err := f.network.apply(e, &c); err != nil {
		return c, err
	}
	if err := f.relay.apply(&c); err != nil {
		return c, err
	}
	return c, f.local.apply(&c)
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
	e.hushLibp2p()
	dir, err := e.directory()
	if err != nil {
		return err
	}
	file, err := f.readFile()
	if err != nil {
		return err
	}
	if e.detached {
		if err := e.openBackground(dir); err != nil {
			return err
		}
	}
	c, err := f.config(e, dir)
	if err != nil {
		return err
	}
	if _, err := control.SocketPath(dir); err != nil {
		return err // before anything is made that would be of no use
	}
	if _, err := os.Stat(dir); f.ephemeral && errors.Is(err, os.ErrNotExist) {
		defer os.Remove(dir) // which then has held the control socket only
	}
	mesh, l, err := openBoth(ctx, dir, c, open)
	if err != nil {
		return err
	}
	watched, cancel := context.WithCancel(ctx)
	var watchdog sync.WaitGroup
	ready := func() error {
		if err := e.sayReady(mesh, dir, time.Since(start)); err != nil {
			return err
		}
		if err := greet(mesh); err != nil {
			return err
		}
		if err := tellReady(); err != nil {
			return err
		}
		watchdog.Go(func() { e.runWatchdog(watched, dir) })
		return e.detach()
	}
	defer watchdog.Wait()
	defer cancel()
	hangup := make(chan os.Signal, 1)
	if file != nil {
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
	}
	return daemon.Serve(ctx, l, mesh, daemon.Config{Logger: c.Logger, Proxy: e.proxy(), File: file, Hangup: hangup, Hint: hintFor, Ready: ready})
}

// openBoth opens the mesh and the control socket. The mesh comes first: it
// locks the directory.
func openBoth(ctx context.Context, dir string, c overlay.Config, open func(context.Context, overlay.Config) (*overlay.Mesh, error)) (*overlay.Mesh, net.Listener, error) {
	mesh, err := open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	l, err := listenControl(dir)
	switch {
	case err == nil:
		return mesh, l, nil
	case errors.Is(err, control.ErrRunning):
		err = whoRuns(ctx, dir, err)
	default:
		err = fmt.Errorf("control socket: %w", err)
	}
	return nil, nil, errors.Join(err, mesh.Close())
}

// whoRuns asks the node that runs on a directory for its name. An ephemeral one
// locks nothing that would tell.
func whoRuns(ctx context.Context, dir string, running error) error {
	c, err := control.Open(dir)
	if err != nil {
		return running
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, whoTimeout)
	defer cancel()
	n, err := c.Status(ctx)
	if err != nil {
		return running
	}
	return &overlay.InUseError{Dir: dir, Name: n.Name, PID: n.PID}
}

// whoTimeout is how long it may take: it only makes an error clearer.
const whoTimeout = 2 * time.Second

func (e *env) sayReady(m *overlay.Mesh, dir string, took time.Duration) error {
	self := m.Self()
	return e.print(ready{
		Version: control.Version, Event: "ready", Name: self.Name, ID: self.ID.String(),
		Mesh: m.ID().String(), Addrs: m.Addrs(), Dir: dir, Took: float64(took.Microseconds()) / 1000,
	}, "ready %s %v", self.Name, self.ID)
}
