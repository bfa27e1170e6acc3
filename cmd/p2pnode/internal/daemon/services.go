package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/p2p"
)

type exposed struct {
	target   forward.Address
	expose   *forward.Expose
	listener *overlay.Listener

	names map[peer.ID]string // that rules were made of; guarded by the Daemon's lock
}

type forwarded struct {
	listen  forward.Address // as it was asked for
	target  string
	direct  bool
	wait    time.Duration // for a direct path
	plain   bool
	forward *forward.Forward
}

func (d *Daemon) expose(want control.Exposed) (control.Exposed, error) {
	service := want.Service
	addr, err := forward.ParseAddress(want.Target)
	if err != nil {
		return control.Exposed{}, badRequest{err}
	}
	if len(want.Allow) > maxRules {
		return control.Exposed{}, badRequestf("more than %d rules", maxRules)
	}
	if len(want.Deny) > 0 {
		return control.Exposed{}, badRequestf("a service is exposed first, and then denied to some")
	}
	allow, err := d.resolveAll(want.Allow)
	if err != nil {
		return control.Exposed{}, err
	}
	access := overlay.Access{Allow: []overlay.Rule{overlay.Everyone}}
	if len(allow) > 0 {
		access = overlay.Access{}
	}
	for _, n := range allow {
		access = access.With(n.rule)
	}
	l, err := d.mesh.ListenAccess(service, access)
	if err != nil {
		return control.Exposed{}, exposeError(service, err)
	}
	x, err := forward.NewExpose(l, addr, forward.Config{Logger: d.log})
	if err != nil {
		l.Close()
		return control.Exposed{}, badRequest{errors.Unwrap(err)} // without "forward", which here is another thing
	}
	e := &exposed{target: addr, expose: x, listener: l, names: map[peer.ID]string{}}
	d.remember(e, allow)
	if !d.keep(func() { d.exposed[service] = e }) {
		return control.Exposed{}, errors.Join(errDown, x.Close())
	}
	d.awaitFound(l)
	return d.exposedView(service, e, allow), nil
}

// foundTimeout is how long an answer waits for others to be able to find what
// was exposed. With dead nodes in the DHT it takes longer.
const foundTimeout = time.Second

// awaitFound waits until the members that are there can find a service.
func (d *Daemon) awaitFound(l *overlay.Listener) {
	if len(d.mesh.Node().Connections()) == 0 {
		return
	}
	select {
	case <-l.Found():
	case <-time.After(foundTimeout):
	case <-d.ctx.Done():
	}
}

// exposeError says of what package overlay says what means something here.
func exposeError(service string, err error) error {
	switch {
	case errors.Is(err, overlay.ErrServiceExists):
		return fmt.Errorf("expose %s: %w", service, overlay.ErrServiceExists)
	case errors.Is(err, net.ErrClosed):
		return errDown
	}
	if nameErr := credential.CheckName(service); nameErr != nil {
		return badRequestf("service %w", nameErr)
	}
	return err
}

// keep makes an entry, unless the node is going down and would not end it.
func (d *Daemon) keep(enter func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closing {
		enter()
	}
	return !d.closing
}

func (d *Daemon) unexpose(service string) error {
	d.mu.Lock()
	e := d.exposed[service]
	delete(d.exposed, service)
	d.mu.Unlock()
	if e == nil {
		return fmt.Errorf("unexpose %s: %w", service, errNotExposed)
	}
	return e.expose.Close()
}

func (d *Daemon) forward(want control.Forward) (control.Forward, error) {
	target := want.Target
	addr, err := forward.ParseAddress(want.Listen)
	if err != nil {
		return control.Forward{}, badRequest{err}
	}
	if _, err := overlay.ParseTarget(target); err != nil {
		return control.Forward{}, err
	}
	if want.WaitDirect < 0 || want.WaitDirect > maxWaitDirect {
		return control.Forward{}, badRequestf("%v is not how long to wait for a direct path: want 0s to %v", want.WaitDirect, maxWaitDirect)
	}
	out := &forwarded{listen: addr, target: target, direct: want.DirectOnly, wait: want.WaitDirect, plain: want.Plain}
	f, err := forward.NewForward(out.dialer(d.mesh), target, addr, forward.Config{Logger: d.log, DialTimeout: forwardDialTimeout + want.WaitDirect})
	if err != nil {
		return control.Forward{}, err
	}
	out.forward = f
	name := listenName(f.Addr())
	if !d.keep(func() { d.forwards[name] = out }) {
		return control.Forward{}, errors.Join(errDown, f.Close())
	}
	return out.view(name), nil
}

const (
	// forwardDialTimeout is how long a dial may take besides the wait for a direct
	// path.
	forwardDialTimeout = 30 * time.Second

	// maxWaitDirect bounds that wait: who connects to a forward gives up sooner.
	maxWaitDirect = 10 * time.Minute
)

// dialer returns with what the forward dials.
func (f *forwarded) dialer(mesh *overlay.Mesh) forward.Dialer { return forwardDialer{mesh, f} }

// A forwardDialer dials as a forward is to.
type forwardDialer struct {
	mesh *overlay.Mesh
	*forwarded
}

func (d forwardDialer) DialContext(ctx context.Context, network, target string) (net.Conn, error) {
	if d.direct {
		ctx = p2p.WaitDirect(ctx, d.wait)
	}
	if d.plain {
		ctx = p2p.Plain(ctx)
	}
	return d.mesh.DialContext(ctx, network, target)
}

// unforward ends the forward that listens at an address, however it is written.
func (d *Daemon) unforward(listen string) error {
	addr, err := forward.ParseAddress(listen)
	if err != nil {
		return badRequest{err}
	}
	f := d.takeForward(addr)
	if f == nil {
		return fmt.Errorf("unforward %v: %w", addr, errNoForward)
	}
	return f.forward.Close()
}

// takeForward takes out the forward that listens at an address, or that was
// asked to: what "localhost" is, only the system knows. Many may have been asked
// to listen at a free port, so that names none.
func (d *Daemon) takeForward(addr forward.Address) *forwarded {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.forwards {
		if name == addr.String() || f.listen == addr && !anyPort(addr) {
			delete(d.forwards, name)
			return f
		}
	}
	return nil
}

func anyPort(a forward.Address) bool {
	return a.Network() == "tcp" && strings.HasSuffix(a.String(), ":0")
}

// listenName writes where a forward listens as ParseAddress reads it.
func listenName(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

func (d *Daemon) exposedView(service string, e *exposed, made []named) control.Exposed {
	a := d.accessView(service, e, made)
	return control.Exposed{
		Version: control.Version, Service: service, Target: e.target.String(), Counts: counts(e.expose.Stats()),
		Allow: a.Allow, Deny: a.Deny,
	}
}

func (f *forwarded) view(listen string) control.Forward {
	return control.Forward{
		Version: control.Version, Listen: listen, Target: f.target, Counts: counts(f.forward.Stats()),
		DirectOnly: f.direct, WaitDirect: f.wait, Plain: f.plain,
	}
}

func counts(s forward.Stats) control.Counts {
	c := control.Counts{Open: s.Open, Total: s.Total, Failed: s.Failed, Sent: s.Sent, Received: s.Received}
	if s.LastError != nil {
		c.Error = s.LastError.Error()
	}
	return c
}

func (d *Daemon) listExposed() []control.Exposed { return viewExposed(d, d.exposedView) }

// viewExposed returns a view of each service, by name.
func viewExposed[V any](d *Daemon, view func(string, *exposed, []named) V) []V {
	d.mu.Lock()
	exposed := maps.Clone(d.exposed)
	d.mu.Unlock()
	out := []V{}
	for _, name := range slices.Sorted(maps.Keys(exposed)) {
		out = append(out, view(name, exposed[name], nil))
	}
	return out
}

func (d *Daemon) listForwards() []control.Forward {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []control.Forward{}
	for _, name := range slices.Sorted(maps.Keys(d.forwards)) {
		out = append(out, d.forwards[name].view(name))
	}
	return out
}
