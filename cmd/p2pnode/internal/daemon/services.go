package daemon

import (
	"maps"
	"net"
	"slices"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
)

type exposed struct {
	target forward.Address
	expose *forward.Expose
}

type forwarded struct {
	listen  forward.Address // as it was asked for
	target  string
	forward *forward.Forward
}

func (d *Daemon) expose(service, target string) (control.Exposed, error) {
	addr, err := forward.ParseAddress(target)
	if err != nil {
		return control.Exposed{}, badRequest{err}
	}
	l, err := d.mesh.Listen(service)
	if err != nil {
		return control.Exposed{}, err
	}
	x, err := forward.NewExpose(l, addr, forward.Config{Logger: d.log})
	if err != nil {
		l.Close()
		return control.Exposed{}, badRequest{err}
	}
	e := &exposed{addr, x}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exposed[service] = e
	return e.view(service), nil
}

func (d *Daemon) unexpose(service string) error {
	d.mu.Lock()
	e := d.exposed[service]
	delete(d.exposed, service)
	d.mu.Unlock()
	if e == nil {
		return missing("exposed service", service)
	}
	return e.expose.Close()
}

func (d *Daemon) forward(listen, target string) (control.Forward, error) {
	addr, err := forward.ParseAddress(listen)
	if err != nil {
		return control.Forward{}, badRequest{err}
	}
	if _, err := overlay.ParseTarget(target); err != nil {
		return control.Forward{}, err
	}
	f, err := forward.NewForward(d.mesh, target, addr, forward.Config{Logger: d.log})
	if err != nil {
		return control.Forward{}, err
	}
	out := &forwarded{addr, target, f}
	name := listenName(f.Addr())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forwards[name] = out
	return out.view(name), nil
}

// unforward ends the forward that listens at an address, however it is written.
func (d *Daemon) unforward(listen string) error {
	addr, err := forward.ParseAddress(listen)
	if err != nil {
		return badRequest{err}
	}
	d.mu.Lock()
	var found *forwarded
	for name, f := range d.forwards {
		if name == addr.String() || f.listen == addr {
			found = f
			delete(d.forwards, name)
		}
	}
	d.mu.Unlock()
	if found == nil {
		return missing("forward at", addr.String())
	}
	return found.forward.Close()
}

// listenName writes where a forward listens as ParseAddress reads it.
func listenName(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

func (e *exposed) view(service string) control.Exposed {
	return control.Exposed{Version: control.Version, Service: service, Target: e.target.String(), Counts: counts(e.expose.Stats())}
}

func (f *forwarded) view(listen string) control.Forward {
	return control.Forward{Version: control.Version, Listen: listen, Target: f.target, Counts: counts(f.forward.Stats())}
}

func counts(s forward.Stats) control.Counts {
	c := control.Counts{Open: s.Open, Total: s.Total, Failed: s.Failed, Sent: s.Sent, Received: s.Received}
	if s.LastError != nil {
		c.Error = s.LastError.Error()
	}
	return c
}

func (d *Daemon) listExposed() []control.Exposed {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []control.Exposed{}
	for _, name := range slices.Sorted(maps.Keys(d.exposed)) {
		out = append(out, d.exposed[name].view(name))
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
