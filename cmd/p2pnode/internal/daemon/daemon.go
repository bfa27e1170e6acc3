package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/config"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
)

// A Daemon serves the control socket of one mesh.
type Daemon struct {
	// Set by Serve and never changed.
	mesh  *overlay.Mesh
	log   *slog.Logger
	proxy string
	hint  func(control.Code) string
	since time.Time
	ctx   context.Context // ends when the node is to
	stop  context.CancelFunc

	measured *measured
	raw      *rawStreams
	events   *events

	streams sync.WaitGroup // that are being carried, and other work
	leaving sync.Mutex     // held while the node leaves: the mesh is out before all is written
	editing sync.Mutex     // held while it is changed what is exposed and forwarded, and for whom

	config *config.File // as it was last done; nil without one; guarded by editing

	down    chan struct{} // closed when the node has let go of its directory
	downErr error         // set before

	mu       sync.Mutex // guards the fields below
	closing  bool
	exposed  map[string]*exposed
	forwards map[string]*forwarded
	proxies  map[string]*proxied // by the address that they listen at
}

const (
	// headerTimeout is how long a request may take to say what it wants.
	headerTimeout = 2 * time.Second

	// idleTimeout is how long a connection may be open for the next request.
	idleTimeout = time.Minute

	// maxHeader bounds the header of a request, in bytes, about.
	maxHeader = 16 << 10

	// closeTimeout is how long requests that are being answered are waited for.
	closeTimeout = 2 * time.Second
)

// A Config holds what one may want to tell a Daemon.
type Config struct {
	// Logger gets what an operator may want to read. If nil, nothing is logged.
	Logger *slog.Logger

	// Proxy is what the environment says of one, as VARIABLE=URL, to be shown.
	Proxy string

	// Hint returns what to do about a failure, or "", for those who use a proxy. If
	// nil, they are not told.
	Hint func(control.Code) string

	// File is the node's configuration file, as it was read. If nil, there is none.
	File *config.File

	// Hangup has the file read again. If nil, only requests do.
	Hangup <-chan os.Signal

	// Ready is called once what the node exposes and forwards is there again, and
	// before a request is answered. An error ends the node. If nil, nobody is told.
	Ready func() error
}

// Serve begins again what the mesh's node exposed and forwarded when it last ran,
// and runs its control socket until ctx ends, the node is told to go down, or is out
// of the mesh. Then it closes the socket and the mesh and ends what it set up. The
// error is what of that failed, or why others put the node out.
func Serve(ctx context.Context, l net.Listener, mesh *overlay.Mesh, c Config) error {
	d := newDaemon(ctx, mesh, c)
	if err := d.begin(c); err != nil {
		return errors.Join(err, l.Close(), d.close())
	}
	d.streams.Go(d.runRetry)
	d.streams.Go(func() { d.runReload(d.ctx, c.Hangup) })
	server := &http.Server{
		Handler:           d.routes(),
		BaseContext:       func(net.Listener) context.Context { return d.ctx },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,

		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case <-d.ctx.Done():
		d.closeSocket(l, failed)
	case <-mesh.Done():
		d.closeSocket(l, failed)
	case err = <-failed:
	}
	d.leaving.Lock()
	err = errors.Join(err, d.putOut(), d.close(), finish(server))
	d.leaving.Unlock()
	d.streams.Wait()
	return err
}

// begin has the node as it is to be when it is ready.
func (d *Daemon) begin(c Config) error {
	if err := d.restore(); err != nil {
		return err
	}
	if c.File != nil {
		if err := d.beginConfig(c.File); err != nil {
			return err
		}
	}
	if c.Ready == nil {
		return nil
	}
	return c.Ready()
}

// closeSocket has it said from now on that no node is running.
func (d *Daemon) closeSocket(l net.Listener, served <-chan error) {
	l.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		d.log.Debug("control socket", "err", err)
	}
}

// putOut returns why others have put this node out of the mesh, if they have.
func (d *Daemon) putOut() error {
	err := d.mesh.Err()
	if err == nil || errors.Is(err, overlay.ErrLeft) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("this node is out of the mesh: %w", err)
}

func newDaemon(ctx context.Context, mesh *overlay.Mesh, c Config) *Daemon {
	d := &Daemon{
		mesh: mesh, log: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), proxy: c.Proxy, hint: c.Hint,
		since: time.Now(), down: make(chan struct{}), measured: newMeasured(), raw: newRawStreams(), events: newEvents(),
		exposed: map[string]*exposed{}, forwards: map[string]*forwarded{}, proxies: map[string]*proxied{},
	}
	d.ctx, d.stop = context.WithCancel(ctx)
	return d
}

// close ends what was set up and then the mesh, and tells those who wait.
func (d *Daemon) close() error {
	d.stop()
	d.mu.Lock()
	d.closing = true
	exposed, forwards, proxies := d.exposed, d.forwards, d.proxies
	d.mu.Unlock()
	var errs []error
	for _, p := range proxies {
		errs = append(errs, p.close())
	}
	for _, f := range forwards {
		errs = append(errs, f.close())
	}
	for _, e := range exposed {
		errs = append(errs, e.close())
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
	seen := d.mesh.Node().Report()
	n := control.Node{
		Version: control.Version,
		ID:      self.ID.String(), Name: self.Name, Roles: self.Roles.String(),
		Mesh: d.mesh.ID().String(), Expires: self.Expires, Renewal: d.mesh.RenewalDue(), Only: self.Services, Addrs: append([]multiaddr.Multiaddr{}, d.mesh.Addrs()...), Local: d.local(),
		Reachable: seen.Reachable.String(), Relays: d.peers(seen.Relays), Relaying: relayingView(seen.Relaying),
		PID: os.Getpid(), Since: d.since,
		Exposed: d.listExposed(), Forwards: d.listForwards(), Proxies: d.listProxies(),
		Streams: d.listStreams(), StreamTotals: totalsView(d.mesh.Node().StreamTotals()),
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

// local tells how members on this machine are met.
func (d *Daemon) local() control.Local {
	dir, err := d.mesh.Local()
	l := control.Local{Dir: dir, Remade: d.mesh.LocalRemade()}
	switch {
	case err == p2p.ErrNoLocal:
		l.Error = "--no-local"
	case err != nil:
		said := slices.Compact(strings.Split(err.Error(), "\n"))
		l.Error = strings.TrimPrefix(strings.Join(said, "; "), p2p.ErrNoLocal.Error()+": ")
	}
	return l
}

// ping measures a round trip. If the path is a relay's, it has a better one looked for
// if that is asked for.
func (d *Daemon) ping(ctx context.Context, member string, upgrade bool) (control.Pong, error) {
	rtt, path, err := d.mesh.Ping(ctx, member)
	if err != nil {
		return control.Pong{}, err
	}
	pong := control.Pong{Version: control.Version, Member: member, Path: path.String(), RTT: milliseconds(rtt)}
	if path != p2p.PathRelay {
		return pong, nil
	}
	m, err := d.mesh.FindMember(ctx, member)
	if err != nil {
		return control.Pong{}, err
	}
	if m.Relay != "" {
		pong.Relay = d.label(m.Relay)
	}
	if upgrade {
		d.mesh.Node().Upgrade(m.ID)
		pong.Reason = "a better path is being looked for"
		if u, ok := d.mesh.Node().Upgraded(m.ID); ok {
			pong.Reason = u.Reason()
		}
	}
	return pong, nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
