package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/forward"
)

// A proxied is a proxy, or one that is to be.
type proxied struct {
	want control.Proxy // as it was asked for; never changed
	listening
}

// beginProxy begins a proxy that somebody has asked for.
func (d *Daemon) beginProxy(want control.Proxy) (control.Proxy, error) {
	d.editing.Lock()
	defer d.editing.Unlock()
	want.From = ""
	p, err := parseProxy(want)
	if err != nil {
		return control.Proxy{}, err
	}
	if err := d.startProxy(p); err != nil {
		return control.Proxy{}, err
	}
	if err := d.keepProxy(p); err != nil {
		return control.Proxy{}, errors.Join(err, p.close())
	}
	if !d.enter(func() { d.proxies[p.name()] = p }) {
		return control.Proxy{}, errors.Join(errDown, p.close())
	}
	d.events.tell(p.event(control.EventProxy))
	return p.view(), nil
}

// parseProxy makes of what is asked for a proxy that does not listen yet.
func parseProxy(want control.Proxy) (*proxied, error) {
	addr, err := forward.ParseListen(cmp.Or(want.Listen, control.DefaultProxy))
	if err != nil {
		return nil, badRequest{err}
	}
	return &proxied{want, listening{listen: addr}}, nil
}

// startProxy begins to listen.
func (d *Daemon) startProxy(p *proxied) error {
	c := forward.ProxyConfig{Logger: d.log, Hint: d.hintOf}
	if p.want.Others {
		c.Others = new(net.Dialer)
	}
	started, err := forward.NewProxy(d.mesh, p.listen, c)
	if errors.Is(err, forward.ErrNotLocal) {
		return badRequest{err}
	}
	if err != nil {
		return err
	}
	p.socket, p.down = started, nil
	return nil
}

// hintOf returns what to do about a failure, for a program that uses a proxy.
func (d *Daemon) hintOf(err error) string {
	if d.hint == nil {
		return ""
	}
	code, _ := codeOf(err)
	return d.hint(code)
}

// unproxy ends the proxy that listens at an address, however it is written.
func (d *Daemon) unproxy(listen string) error {
	addr, err := forward.ParseAddress(cmp.Or(listen, control.DefaultProxy))
	if err != nil {
		return badRequest{err}
	}
	d.editing.Lock()
	defer d.editing.Unlock()
	p := d.proxyAt(addr)
	switch {
	case p == nil:
		return fmt.Errorf("unproxy %v: %w", addr, errNoProxy)
	case p.want.From != "":
		return fmt.Errorf("unproxy %v: %w", addr, errFromConfig)
	}
	return errors.Join(d.dropProxy(p), d.forget(proxyKey(p.name())))
}

// dropProxy ends a proxy.
func (d *Daemon) dropProxy(p *proxied) error {
	d.mu.Lock()
	delete(d.proxies, p.name())
	d.mu.Unlock()
	d.events.tell(p.event(control.EventUnproxy))
	return p.close()
}

// proxyAt returns the proxy that an address names.
func (d *Daemon) proxyAt(addr forward.Address) *proxied {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.proxies {
		if p.isAt(addr) {
			return p
		}
	}
	return nil
}

// event returns what happens to the proxy.
func (p *proxied) event(kind control.EventKind) control.Event {
	return control.Event{Kind: kind, Listen: p.name()}
}

// view tells of a proxy, without counts if it is down.
func (p *proxied) view() control.Proxy {
	v := p.want
	v.Version, v.Listen, v.Down, v.Counts = control.Version, p.name(), errorText(p.down), p.counts()
	return v
}

func (d *Daemon) listProxies() []control.Proxy {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []control.Proxy{}
	for _, name := range slices.Sorted(maps.Keys(d.proxies)) {
		out = append(out, d.proxies[name].view())
	}
	return out
}
