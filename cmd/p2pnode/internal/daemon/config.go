package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/config"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

var (
	errNoConfig  = errors.New("the node was started without a configuration file")
	errBadConfig = errors.New("nothing was changed")
)

// A change is what a configuration file asks of a node that does something already.
type change struct {
	newExposed, newForwards, newProxies       []entry
	otherExposed, otherForwards, otherProxies []entry // in the place of those of the same name
	access                                    []entry // for whom a service is
	gone                                      []func() error
	result                                    control.Reloaded
}

// An entry of a file is a service, a forward or a proxy.
type entry struct {
	exposed *exposed
	forward *forwarded
	proxy   *proxied
	at      config.Place
}

// beginConfig does what a file says when the node starts.
func (d *Daemon) beginConfig(f *config.File) error {
	d.editing.Lock()
	defer d.editing.Unlock()
	_, err := d.configure(f, true)
	return err
}

// reload reads the configuration file again and does what it says now. Whatever it
// says as before is not touched. The error is errBadConfig, and nothing is changed,
// if something is wrong with the file, or a new entry can't be begun.
func (d *Daemon) reload() (control.Reloaded, error) {
	d.editing.Lock()
	defer d.editing.Unlock()
	if d.config == nil {
		return control.Reloaded{}, errNoConfig
	}
	f, err := config.Read(d.config.Path)
	if err != nil {
		return control.Reloaded{}, fmt.Errorf("%w: %w", errBadConfig, err)
	}
	return d.configure(f, false)
}

// configure does what a file says. At the start what can't be begun is tried again,
// as with what was kept. The Daemon's editing is held.
func (d *Daemon) configure(f *config.File, start bool) (control.Reloaded, error) {
	c, err := d.compare(f)
	if err != nil {
		return control.Reloaded{}, fmt.Errorf("%w: %w", errBadConfig, err)
	}
	if err := d.startNew(f, c, start); err != nil {
		return control.Reloaded{}, fmt.Errorf("%w: %w", errBadConfig, err)
	}
	var errs []error
	for _, end := range c.gone {
		errs = append(errs, end())
	}
	for _, x := range c.access {
		x.exposed.listener.SetAccess(x.exposed.asked)
	}
	for _, x := range c.otherExposed {
		errs = append(errs, d.replaceExposed(d.exposedAs(x.exposed.want.Service), c))
		d.beginOrRetry(placed(f, x, "expose "+x.exposed.want.Service), func() error { return d.startExposed(x.exposed) }, &x.exposed.down)
	}
	for _, x := range c.otherForwards {
		errs = append(errs, d.replaceForward(d.forwardAt(x.forward.listen), c))
		d.beginOrRetry(placed(f, x, "forward "+x.forward.want.Listen), func() error { return d.startForward(x.forward) }, &x.forward.down)
	}
	for _, x := range c.otherProxies {
		errs = append(errs, d.replaceProxy(d.proxyAt(x.proxy.listen), c))
		d.beginOrRetry(placed(f, x, "proxy "+x.proxy.want.Listen), func() error { return d.startProxy(x.proxy) }, &x.proxy.down)
	}
	entered := d.enter(func() {
		for _, x := range slices.Concat(c.newExposed, c.otherExposed, c.access) {
			d.exposed[x.exposed.want.Service] = x.exposed
		}
		for _, x := range slices.Concat(c.newForwards, c.otherForwards) {
			d.forwards[x.forward.name()] = x.forward
		}
		for _, x := range slices.Concat(c.newProxies, c.otherProxies) {
			d.proxies[x.proxy.name()] = x.proxy
		}
	})
	if !entered {
		return control.Reloaded{}, errors.Join(errDown, closeEntries(slices.Concat(c.newExposed, c.otherExposed, c.newForwards, c.otherForwards, c.newProxies, c.otherProxies)))
	}
	for _, x := range slices.Concat(c.newExposed, c.otherExposed) {
		d.events.tell(x.exposed.event(control.EventExposed))
	}
	for _, x := range slices.Concat(c.newForwards, c.otherForwards) {
		d.events.tell(x.forward.event(control.EventForward))
	}
	for _, x := range slices.Concat(c.newProxies, c.otherProxies) {
		d.events.tell(x.proxy.event(control.EventProxy))
	}
	for _, x := range c.access {
		d.events.tell(x.exposed.event(control.EventAccess))
	}
	if !start && !sameSettings(d.config.Node, f.Node) {
		c.result.Notes = append(c.result.Notes, "[node] has changed, which holds from the node's next start on")
	}
	if start {
		d.logNotes(c.result)
	}
	d.config = f
	return c.result, errors.Join(errs...)
}

// replaceExposed ends a service in whose place the file has another. If it was a
// command's it is forgotten.
func (d *Daemon) replaceExposed(e *exposed, c *change) error {
	service := e.want.Service
	err := d.dropExposed(service, e)
	if e.want.From == control.FromConfig {
		return err
	}
	c.result.Notes = append(c.result.Notes, fmt.Sprintf("service %s, which a command had exposed, is as the file says now", service))
	return errors.Join(err, d.forget(exposedKey(service)))
}

// replaceForward is replaceExposed for a forward.
func (d *Daemon) replaceForward(f *forwarded, c *change) error {
	err := d.dropForward(f)
	if f.want.From == control.FromConfig {
		return err
	}
	c.result.Notes = append(c.result.Notes, fmt.Sprintf("the forward at %s, which a command had made to %s, is as the file says now", f.name(), f.want.Target))
	return errors.Join(err, d.forget(forwardKey(f.name())))
}

// replaceProxy is replaceExposed for a proxy.
func (d *Daemon) replaceProxy(p *proxied, c *change) error {
	err := d.dropProxy(p)
	if p.want.From == control.FromConfig {
		return err
	}
	c.result.Notes = append(c.result.Notes, fmt.Sprintf("the proxy at %s, which a command had made, is as the file says now", p.name()))
	return errors.Join(err, d.forget(proxyKey(p.name())))
}

// compare finds out what a file changes, and says what is wrong with it here.
func (d *Daemon) compare(f *config.File) (*change, error) {
	c := &change{result: control.Reloaded{Version: control.Version, File: f.Path}}
	stay := map[any]bool{}
	var errs []error
	for _, x := range f.Exposed {
		e, _, err := d.parseExposed(x.Exposed)
		if err != nil {
			errs = append(errs, &config.Problem{Path: f.Path, At: x.At, Err: err})
			continue
		}
		before := d.exposedAs(x.Service)
		stay[before] = true
		c.takeExposed(entry{exposed: e, at: x.At}, before)
	}
	for _, x := range f.Forwards {
		next, err := parseForward(x.Forward)
		if err != nil {
			errs = append(errs, &config.Problem{Path: f.Path, At: x.At, Err: err})
			continue
		}
		before := d.forwardAt(next.listen)
		stay[before] = true
		c.takeForward(entry{forward: next, at: x.At}, before)
	}
	for _, x := range f.Proxies {
		next, err := parseProxy(x.Proxy)
		if err != nil {
			errs = append(errs, &config.Problem{Path: f.Path, At: x.At, Err: err})
			continue
		}
		before := d.proxyAt(next.listen)
		stay[before] = true
		c.takeProxy(entry{proxy: next, at: x.At}, before)
	}
	d.mu.Lock()
	exposures, forwards, proxies := maps.Clone(d.exposed), maps.Clone(d.forwards), maps.Clone(d.proxies)
	d.mu.Unlock()
	for service, e := range exposures {
		if e.want.From == control.FromConfig && !stay[e] {
			c.gone = append(c.gone, func() error { return d.dropExposed(service, e) })
		}
	}
	for _, before := range forwards {
		if before.want.From == control.FromConfig && !stay[before] {
			c.gone = append(c.gone, func() error { return d.dropForward(before) })
		}
	}
	for _, before := range proxies {
		if before.want.From == control.FromConfig && !stay[before] {
			c.gone = append(c.gone, func() error { return d.dropProxy(before) })
		}
	}
	c.result.Removed = len(c.gone)
	return c, errors.Join(errs...)
}

// takeExposed takes in a service of the file, and what there is under its name.
func (c *change) takeExposed(x entry, before *exposed) {
	switch {
	case before == nil:
		c.newExposed = append(c.newExposed, x)
		c.result.Added++
	case !reflect.DeepEqual(before.want, x.exposed.want) || before.target != x.exposed.target:
		c.otherExposed = append(c.otherExposed, x)
		c.result.Changed++
	case reflect.DeepEqual(before.access(), x.exposed.asked):
		c.result.Unchanged++
	case before.listener == nil:
		c.otherExposed = append(c.otherExposed, x)
		c.result.Changed++
	default:
		x.exposed.expose, x.exposed.listener = before.expose, before.listener
		c.access = append(c.access, x)
		c.result.Changed++
	}
}

// takeForward takes in a forward of the file, and the one there is at its address.
func (c *change) takeForward(x entry, before *forwarded) {
	switch {
	case before == nil:
		c.newForwards = append(c.newForwards, x)
		c.result.Added++
	case !reflect.DeepEqual(before.want, x.forward.want):
		c.otherForwards = append(c.otherForwards, x)
		c.result.Changed++
	default:
		c.result.Unchanged++
	}
}

// takeProxy takes in a proxy of the file, and the one there is at its address.
func (c *change) takeProxy(x entry, before *proxied) {
	switch {
	case before == nil:
		c.newProxies = append(c.newProxies, x)
		c.result.Added++
	case !reflect.DeepEqual(before.want, x.proxy.want):
		c.otherProxies = append(c.otherProxies, x)
		c.result.Changed++
	default:
		c.result.Unchanged++
	}
}

// startNew begins what is new, all or nothing unless the node is just starting.
func (d *Daemon) startNew(f *config.File, c *change, start bool) error {
	for i, x := range c.newExposed {
		begin := func() error { return d.startExposed(x.exposed) }
		if start {
			d.beginOrRetry(placed(f, x, "expose "+x.exposed.want.Service), begin, &x.exposed.down)
		} else if err := begin(); err != nil {
			return errors.Join(&config.Problem{Path: f.Path, At: x.at, Err: err}, closeEntries(c.newExposed[:i]))
		}
	}
	for i, x := range c.newForwards {
		begin := func() error { return d.startForward(x.forward) }
		if start {
			d.beginOrRetry(placed(f, x, "forward "+x.forward.want.Listen), begin, &x.forward.down)
		} else if err := begin(); err != nil {
			err = &config.Problem{Path: f.Path, At: x.at, Err: err}
			return errors.Join(err, closeEntries(c.newExposed), closeEntries(c.newForwards[:i]))
		}
	}
	for i, x := range c.newProxies {
		begin := func() error { return d.startProxy(x.proxy) }
		if start {
			d.beginOrRetry(placed(f, x, "proxy "+x.proxy.want.Listen), begin, &x.proxy.down)
		} else if err := begin(); err != nil {
			err = &config.Problem{Path: f.Path, At: x.at, Err: err}
			return errors.Join(err, closeEntries(c.newExposed), closeEntries(c.newForwards), closeEntries(c.newProxies[:i]))
		}
	}
	return nil
}

// placed names an entry with its place.
func placed(f *config.File, x entry, what string) string {
	return fmt.Sprintf("%s:%d: %s", f.Path, x.at.Line, what)
}

func closeEntries(all []entry) error {
	var errs []error
	for _, x := range all {
		switch {
		case x.exposed != nil:
			errs = append(errs, x.exposed.close())
		case x.forward != nil:
			errs = append(errs, x.forward.close())
		default:
			errs = append(errs, x.proxy.close())
		}
	}
	return errors.Join(errs...)
}

func sameSettings(a, b []config.Setting) bool {
	return slices.EqualFunc(a, b, func(a, b config.Setting) bool {
		return a.Key == b.Key && slices.Equal(a.Values, b.Values)
	})
}

// runReload reloads each time that somebody hangs up, as the system's signal says,
// and logs what came of it: there is nobody to answer.
func (d *Daemon) runReload(ctx context.Context, hangup <-chan os.Signal) {
	for {
		select {
		case <-hangup:
		case <-ctx.Done():
			return
		}
		done, err := d.reload()
		if err != nil {
			d.log.Error("reload", "err", err)
			continue
		}
		d.log.Info("reloaded", "added", done.Added, "changed", done.Changed, "removed", done.Removed, "unchanged", done.Unchanged)
		d.logNotes(done)
	}
}

func (d *Daemon) logNotes(r control.Reloaded) {
	for _, note := range r.Notes {
		d.log.Warn(note)
	}
}
