package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// A Daemon serves the control socket of one mesh.
type Daemon struct {
	// Set by Serve and never changed.
	mesh  *overlay.Mesh
	log   *slog.Logger
	since time.Time
	ctx   context.Context // ends when the node is to
	stop  context.CancelFunc

	streams sync.WaitGroup // that are being carried

	down    chan struct{} // closed when the node has let go of its directory
	downErr error         // set before

	mu       sync.Mutex // guards the fields below
	closing  bool
	exposed  map[string]*exposed
	forwards map[string]*forwarded
}

const (
	// headerTimeout is how long a request may take to say what it wants.
	headerTimeout = 2 * time.Second

	// closeTimeout is how long requests that are being answered are waited for.
	closeTimeout = 2 * time.Second
)

// Serve runs a mesh's control socket until ctx ends or the node is told to go
// down. Then it closes the socket and the mesh and ends what it set up. The
// error is what of that failed.
func Serve(ctx context.Context, l net.Listener, mesh *overlay.Mesh, log *slog.Logger) error {
	d := newDaemon(ctx, mesh, log)
	server := &http.Server{
		Handler:           d.routes(),
		BaseContext:       func(net.Listener) context.Context { return d.ctx },
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case <-d.ctx.Done():
		l.Close() // from now on it says that no node is running
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			log.Debug("control socket", "err", err)
		}
	case err = <-failed:
	}
	err = errors.Join(err, d.close(), finish(server))
	d.streams.Wait()
	return err
}

func newDaemon(ctx context.Context, mesh *overlay.Mesh, log *slog.Logger) *Daemon {
	d := &Daemon{
		mesh: mesh, log: log, since: time.Now(), down: make(chan struct{}),
		exposed: map[string]*exposed{}, forwards: map[string]*forwarded{},
	}
	d.ctx, d.stop = context.WithCancel(ctx)
	return d
}

// close ends what was set up and then the mesh, and tells those who wait.
func (d *Daemon) close() error {
	d.stop()
	d.mu.Lock()
	d.closing = true
	exposed, forwards := d.exposed, d.forwards
	d.mu.Unlock()
	var errs []error
	for _, f := range forwards {
		errs = append(errs, f.forward.Close())
	}
	for _, e := range exposed {
		errs = append(errs, e.expose.Close())
	}
	d.downErr = errors.Join(append(errs, d.mesh.Close())...)
	close(d.down)
	return d.downErr
}

// finish lets requests that are being answered come to their end, and cuts off
// those that don't.
func finish(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return err
}

// goDown ends the node and returns when it has let go of its directory.
func (d *Daemon) goDown() error {
	d.stop()
	<-d.down
	if d.downErr != nil {
		return fmt.Errorf("%w: %w", errEndedBadly, d.downErr)
	}
	return nil
}

func (d *Daemon) node() control.Node {
	self := d.mesh.Self()
	n := control.Node{
		Version: control.Version,
		ID:      self.ID.String(), Name: self.Name, Roles: self.Roles.String(),
		Mesh: d.mesh.ID().String(), Expires: self.Expires, Addrs: d.mesh.Addrs(),
		PID: os.Getpid(), Since: d.since,
		Exposed: d.listExposed(), Forwards: d.listForwards(),
	}
	for _, m := range d.mesh.Members() {
		if m.Self {
			continue
		}
		n.Members++
		if m.Up {
			n.Up++
		}
	}
	return n
}

func (d *Daemon) members() []control.Member {
	var out []control.Member
	for _, m := range d.mesh.Members() {
		v := control.Member{
			Version: control.Version,
			ID:      m.ID.String(), Name: m.Name, Roles: m.Roles.String(), Self: m.Self, Up: m.Up,
			RTT: milliseconds(m.RTT),
		}
		if m.Path != 0 {
			v.Path = m.Path.String()
		}
		if !m.Up && !m.Seen.IsZero() {
			v.Seen = &m.Seen
		}
		out = append(out, v)
	}
	return out
}

func (d *Daemon) invite(o control.InviteOptions) (control.Invite, error) {
	options := overlay.InviteOptions{Expires: o.Expires, Name: o.Name}
	if o.Expires < 0 {
		return control.Invite{}, badRequestf("expires %v: an invite needs some time", o.Expires)
	}
	if o.Name != "" {
		if err := credential.CheckName(o.Name); err != nil {
			return control.Invite{}, badRequest{err}
		}
	}
	if o.Roles != "" {
		roles, err := credential.ParseRoles(o.Roles)
		if err != nil {
			return control.Invite{}, badRequest{err}
		}
		options.Roles = roles
	}
	inv, err := d.mesh.Invite(options)
	if err != nil {
		return control.Invite{}, err
	}
	return control.Invite{Version: control.Version, ID: inv.ID().String(), Invite: inv.Text(), Expires: inv.Grant().NotAfter}, nil
}

func (d *Daemon) ping(ctx context.Context, member string) (control.Pong, error) {
	rtt, path, err := d.mesh.Ping(ctx, member)
	if err != nil {
		return control.Pong{}, err
	}
	return control.Pong{Version: control.Version, Member: member, Path: path.String(), RTT: milliseconds(rtt)}, nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
