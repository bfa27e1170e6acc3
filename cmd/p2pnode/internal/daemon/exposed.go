package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/forward"
)

// An exposed is a service that the node offers, or is to offer.
type exposed struct {
	// Never changed.
	want     control.Exposed // as it was asked for, but for the rules
	target   net.Addr        // a forward.Address, forward.Ports, or nil if it is of files
	asked    overlay.Access  // from the start
	expose   offer
	listener *overlay.Listener
	down     error // why it is not offered; then the two before are nil

	names map[peer.ID]string // that rules were made of; guarded by the Daemon's lock
}

// An offer is what answers the streams of a service.
type offer interface {
	Stats() forward.Stats
	Close() error
}

// expose offers a service that somebody has asked for.
func (d *Daemon) expose(want control.Exposed) (control.Exposed, error) {
	want.From = ""
	e, made, err := d.beginExposing(want)
	if err != nil {
		return control.Exposed{}, err
	}
	d.awaitFound(e.listener)
	return d.exposedView(want.Service, e, made), nil
}

func (d *Daemon) beginExposing(want control.Exposed) (*exposed, []named, error) {
	if len(want.Deny) > 0 {
		return nil, nil, badRequestf("a service is exposed first, and then denied to some")
	}
	d.editing.Lock()
	defer d.editing.Unlock()
	e, made, err := d.parseExposed(want)
	if err != nil {
		return nil, nil, err
	}
	if d.exposedAs(want.Service) != nil {
		return nil, nil, fmt.Errorf("expose %s: %w", want.Service, overlay.ErrServiceExists)
	}
	if err := d.startExposed(e); err != nil {
		return nil, nil, err
	}
	if err := d.keepExposed(e); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("expose %s: %w", want.Service, err), e.close())
	}
	if !d.enter(func() { d.exposed[want.Service] = e }) {
		return nil, nil, errors.Join(errDown, e.close())
	}
	d.events.tell(e.event(control.EventExposed))
	return e, made, nil
}

// parseExposed makes of what is asked for a service that is not offered yet.
func (d *Daemon) parseExposed(want control.Exposed) (*exposed, []named, error) {
	if err := credential.CheckName(want.Service); err != nil && want.Service != overlay.PortsService {
		return nil, nil, badRequestf("service %w", err)
	}
	target, err := parseTarget(want)
	if err != nil {
		return nil, nil, badRequest{err}
	}
	if len(want.Allow) > maxRules || len(want.Deny) > maxRules {
		return nil, nil, badRequestf("more than %d rules", maxRules)
	}
	allow, err := d.resolveAll(want.Allow)
	if err != nil {
		return nil, nil, err
	}
	deny, err := d.resolveAll(want.Deny)
	if err != nil {
		return nil, nil, err
	}
	e := &exposed{want: want, target: target, asked: overlay.Access{Allow: []overlay.Rule{overlay.Everyone}}, names: map[peer.ID]string{}}
	if len(allow) > 0 {
		e.asked = overlay.Access{}
	}
	for _, n := range allow {
		e.asked = e.asked.With(n.rule)
	}
	for _, n := range deny {
		e.asked = e.asked.Without(n.rule)
	}
	e.want.Allow, e.want.Deny = nil, nil
	made := append(allow, deny...)
	d.remember(e, made)
	return e, made, nil
}

// parseTarget reads what is behind a service. Of files it is nil.
func parseTarget(want control.Exposed) (target net.Addr, err error) {
	switch {
	case want.Files != "" && want.Target != "":
		return nil, errors.New("a service is of files or of an address, not both")
	case want.Files != "" && want.Service == overlay.PortsService:
		return nil, fmt.Errorf("the service %s is of ports, and not of files", want.Service)
	case want.Files != "" && !filepath.IsAbs(want.Files):
		return nil, fmt.Errorf("files in %.80q: the path is relative", want.Files)
	case want.Files != "":
	case want.Service == overlay.PortsService:
		target, err = forward.ParsePorts(want.Target)
	default:
		target, err = forward.ParseAddress(want.Target)
	}
	if err == nil {
		err = checkIdle(want.IdleTimeout)
	}
	if err == nil && want.ProxyProtocol && (target == nil || target.Network() == "udp") {
		err = errors.New("the PROXY protocol is for targets of bytes")
	}
	return target, err
}

// checkIdle refuses how long a connection may be idle where it can't be.
func checkIdle(d time.Duration) error {
	if d < 0 || d > control.MaxIdleTimeout {
		return fmt.Errorf("%v is not how long a connection may be idle: want 0s to %v", d, control.MaxIdleTimeout)
	}
	return nil
}

// startExposed begins to offer a service.
func (d *Daemon) startExposed(e *exposed) error {
	c := overlay.ListenConfig{Access: e.asked}
	if e.target != nil && e.target.Network() == "udp" {
		c.Kind = overlay.KindDatagram
	}
	if p, ok := e.target.(forward.Ports); ok {
		c.Ports.First, c.Ports.Last = p.Range()
	}
	l, err := d.mesh.ListenWith(e.want.Service, c)
	if err != nil {
		return exposeError(e.want.Service, err)
	}
	x, err := e.offer(l, forward.Config{Logger: d.log, IdleTimeout: e.want.IdleTimeout, ProxyProtocol: e.want.ProxyProtocol})
	if err != nil {
		l.Close()
		return badRequest{errors.Unwrap(err)} // without "forward", which here is another thing
	}
	e.expose, e.listener, e.down = x, l, nil
	return nil
}

// offer has the streams that a listener accepts answered.
func (e *exposed) offer(l net.Listener, c forward.Config) (offer, error) {
	switch target := e.target.(type) {
	case forward.Address:
		return forward.NewExpose(l, target, c)
	case forward.Ports:
		return forward.NewExposePorts(l, target, c)
	}
	return forward.NewFiles(l, e.want.Files, c)
}

// event returns what happens to the service.
func (e *exposed) event(kind control.EventKind) control.Event {
	return control.Event{Kind: kind, Service: e.want.Service, Target: e.targetText()}
}

// targetText writes what is behind a service, as it was asked for.
func (e *exposed) targetText() string {
	if e.target == nil {
		return ""
	}
	return e.target.String()
}

// close ends the offer, if there is one.
func (e *exposed) close() error {
	if e.expose == nil {
		return nil
	}
	return e.expose.Close()
}

// access returns who may use the service.
func (e *exposed) access() overlay.Access {
	if e.listener == nil {
		return e.asked
	}
	return e.listener.Access()
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
	return err
}

// enter makes an entry, unless the node is going down and would not end it.
func (d *Daemon) enter(make func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closing {
		make()
	}
	return !d.closing
}

// unexpose withdraws a service.
func (d *Daemon) unexpose(service string) error {
	d.editing.Lock()
	defer d.editing.Unlock()
	e := d.exposedAs(service)
	switch {
	case e == nil:
		return fmt.Errorf("unexpose %s: %w", service, errNotExposed)
	case e.want.From != "":
		return fmt.Errorf("unexpose %s: %w", service, errFromConfig)
	}
	return errors.Join(d.dropExposed(service, e), d.forget(exposedKey(service)))
}

// dropExposed ends the offer of a service.
func (d *Daemon) dropExposed(service string, e *exposed) error {
	d.mu.Lock()
	delete(d.exposed, service)
	d.mu.Unlock()
	d.events.tell(e.event(control.EventUnexposed))
	return e.close()
}

func (d *Daemon) exposedAs(service string) *exposed {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.exposed[service]
}

// exposedView tells of a service, without counts if it is down.
func (d *Daemon) exposedView(service string, e *exposed, made []named) control.Exposed {
	a := d.accessView(service, e, made)
	v := e.want
	v.Version, v.Target, v.Allow, v.Deny = control.Version, e.targetText(), a.Allow, a.Deny
	if e.expose != nil {
		v.Counts = counts(e.expose.Stats())
	}
	v.Down = errorText(e.down)
	return v
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

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
