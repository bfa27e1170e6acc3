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
	mesh  *overlay.Mesh
	log   *slog.Logger
	since time.Time
	ctx   context.Context // ends when the node is to
	stop  context.CancelFunc

	mu       sync.Mutex
	exposed  map[string]*exposed
	forwards map[string]*forwarded
}

// closeTimeout is how long requests that are being answered are waited for.
const closeTimeout = 2 * time.Second

// Serve runs a mesh's control socket, which it closes, until ctx ends or the
// node is told to go down. Then it closes the mesh and what it set up.
func Serve(ctx context.Context, l net.Listener, mesh *overlay.Mesh, log *slog.Logger) error {
	d := &Daemon{
		mesh: mesh, log: log, since: time.Now(),
		exposed: map[string]*exposed{}, forwards: map[string]*forwarded{},
	}
	d.ctx, d.stop = context.WithCancel(ctx)
	server := &http.Server{Handler: d.routes(), ReadHeaderTimeout: closeTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case <-d.ctx.Done():
		err = d.close(server)
		<-failed // that the server was closed
	case err = <-failed:
		err = errors.Join(err, d.close(server))
	}
	return err
}

func (d *Daemon) close(server *http.Server) error {
	d.stop() // streams that are being carried end
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	d.mu.Lock()
	exposed, forwards := d.exposed, d.forwards
	d.mu.Unlock()
	for _, f := range forwards {
		err = errors.Join(err, f.forward.Close())
	}
	for _, e := range exposed {
		err = errors.Join(err, e.expose.Close())
	}
	return errors.Join(err, d.mesh.Close())
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

// A badRequest is an error in what was asked for.
type badRequest struct{ error }

func (e badRequest) Unwrap() error { return e.error }

var errNotFound = errors.New("there is none")

func missing(what, name string) error { return fmt.Errorf("%s %s: %w", what, name, errNotFound) }
