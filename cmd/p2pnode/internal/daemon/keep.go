package daemon

import (
	"encoding/json"
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
	"github.com/p2pnode/p2pnode/overlay/forward"
)

// What a node exposes and forwards, and its proxies, are kept in its state file, and
// are there again when it is started anew. Each is under a key of its own, as the JSON
// with which it would be asked for; the address of a forward or a proxy is the one that
// it had, and rules are as they were resolved.

const (
	exposedPrefix = "exposed/"
	forwardPrefix = "forward/"
	proxyPrefix   = "proxy/"
)

func exposedKey(service string) string { return exposedPrefix + service }
func forwardKey(name string) string    { return forwardPrefix + name }
func proxyKey(name string) string      { return proxyPrefix + name }

// keepExposed writes down a service with those who may use it.
func (d *Daemon) keepExposed(e *exposed) error {
	a := d.accessView(e.want.Service, e, nil)
	kept := e.want
	kept.Target, kept.Allow, kept.Deny = e.targetText(), a.Allow, a.Deny
	value, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return d.keep(map[string][]byte{exposedKey(kept.Service): value})
}

// keepForwards writes down forwards.
func (d *Daemon) keepForwards(all []*forwarded) error {
	values := map[string][]byte{}
	for _, f := range all {
		kept := f.want
		kept.Listen = keptListen(f.listen, f.name())
		value, err := json.Marshal(kept)
		if err != nil {
			return err
		}
		values[forwardKey(f.name())] = value
	}
	return d.keep(values)
}

// keepProxy writes down a proxy.
func (d *Daemon) keepProxy(p *proxied) error {
	kept := p.want
	kept.Listen = keptListen(p.listen, p.name())
	value, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return d.keep(map[string][]byte{proxyKey(p.name()): value})
}

// keptListen returns where to listen the next time: as it was asked for, or at the port
// that was free then.
func keptListen(asked forward.Address, name string) string {
	if anyPort(asked) {
		return name
	}
	return asked.String()
}

// keep writes into the state file.
func (d *Daemon) keep(values map[string][]byte) error {
	err := d.mesh.Keep(values)
	if errors.Is(err, net.ErrClosed) {
		return errDown
	}
	return err
}

// forget has something not come back.
func (d *Daemon) forget(key string) error {
	if err := d.keep(map[string][]byte{key: nil}); err != nil {
		return fmt.Errorf("it is over, but will be back when the node is started anew: %w", err)
	}
	return nil
}

// restore begins again what was exposed and forwarded when the node last ran. What
// can't be is tried again, see runRetry.
func (d *Daemon) restore() error {
	d.editing.Lock()
	defer d.editing.Unlock()
	values, err := d.mesh.Kept()
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		var err error
		if service, ok := strings.CutPrefix(key, exposedPrefix); ok {
			err = d.restoreExposed(service, values[key])
		} else if name, ok := strings.CutPrefix(key, forwardPrefix); ok {
			err = d.restoreForward(name, values[key])
		} else if name, ok := strings.CutPrefix(key, proxyPrefix); ok {
			err = d.restoreProxy(name, values[key])
		}
		if err != nil {
			d.log.Warn("what was kept can't be understood", "key", key, "err", err)
		}
	}
	return nil
}

// restoreExposed takes rules as they were written down: what they were resolved to
// then is whom they are about.
func (d *Daemon) restoreExposed(service string, value []byte) error {
	var kept control.Exposed
	if err := json.Unmarshal(value, &kept); err != nil {
		return err
	}
	e := &exposed{want: kept, names: map[peer.ID]string{}}
	e.want.Allow, e.want.Deny = nil, nil
	var err error
	if e.target, err = parseTarget(kept); err != nil {
		return err
	}
	if e.asked.Allow, err = e.parseRules(kept.Allow); err != nil {
		return err
	}
	if e.asked.Deny, err = e.parseRules(kept.Deny); err != nil {
		return err
	}
	d.beginOrRetry("expose "+service, func() error { return d.startExposed(e) }, &e.down)
	if !d.enter(func() { d.exposed[service] = e }) {
		return e.close()
	}
	return nil
}

// parseRules reads rules, and notes the names that they were made of.
func (e *exposed) parseRules(rules []control.Rule) (out []overlay.Rule, err error) {
	for _, r := range rules {
		rule, err := overlay.ParseRule(r.Rule)
		if err != nil {
			return nil, err
		}
		if id, err := peer.Decode(r.Rule); err == nil && r.Name != "" {
			e.names[id] = r.Name
		}
		out = append(out, rule)
	}
	return out, nil
}

func (d *Daemon) restoreForward(name string, value []byte) error {
	var kept control.Forward
	if err := json.Unmarshal(value, &kept); err != nil {
		return err
	}
	f, err := parseForward(kept)
	if err != nil {
		return err
	}
	d.beginOrRetry("forward "+name, func() error { return d.startForward(f) }, &f.down)
	if !d.enter(func() { d.forwards[f.name()] = f }) {
		return f.close()
	}
	return nil
}

func (d *Daemon) restoreProxy(name string, value []byte) error {
	var kept control.Proxy
	if err := json.Unmarshal(value, &kept); err != nil {
		return err
	}
	p, err := parseProxy(kept)
	if err != nil {
		return err
	}
	d.beginOrRetry("proxy "+name, func() error { return d.startProxy(p) }, &p.down)
	if !d.enter(func() { d.proxies[p.name()] = p }) {
		return p.close()
	}
	return nil
}

// beginOrRetry begins something, or notes why it can't be now.
func (d *Daemon) beginOrRetry(what string, begin func() error, down *error) {
	if *down = begin(); *down != nil {
		d.log.Warn(what+" is down, and tried again", "err", *down)
	}
}

// retryEvery is how often it is tried again what could not be begun: as a rule
// another program has the port.
const retryEvery = 2 * time.Second

// runRetry tries again, until the node ends.
func (d *Daemon) runRetry() {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.retry()
		case <-d.ctx.Done():
			return
		}
	}
}

// retry tries once to begin what is down. Entries are not changed but replaced, as
// others read them meanwhile.
func (d *Daemon) retry() {
	if !d.anyDown() {
		return
	}
	d.editing.Lock()
	defer d.editing.Unlock()
	d.mu.Lock()
	exposures, forwards, proxies := maps.Clone(d.exposed), maps.Clone(d.forwards), maps.Clone(d.proxies)
	d.mu.Unlock()
	for service, old := range exposures {
		if old.down == nil {
			continue
		}
		e := &exposed{want: old.want, target: old.target, asked: old.asked, names: old.names}
		d.again("expose "+service, old.down, d.startExposed(e), e.close, func() { d.exposed[service] = e })
	}
	for name, old := range forwards {
		if old.down == nil {
			continue
		}
		f := &forwarded{old.want, listening{listen: old.listen}}
		d.again("forward "+name, old.down, d.startForward(f), f.close, func() {
			delete(d.forwards, name)
			d.forwards[f.name()] = f
		})
	}
	for name, old := range proxies {
		if old.down == nil {
			continue
		}
		p := &proxied{old.want, listening{listen: old.listen}}
		d.again("proxy "+name, old.down, d.startProxy(p), p.close, func() {
			delete(d.proxies, name)
			d.proxies[p.name()] = p
		})
	}
}

// again enters what was begun anew, if it was.
func (d *Daemon) again(what string, before, now error, end func() error, enter func()) {
	switch {
	case now != nil && now.Error() != before.Error():
		d.log.Warn(what+" is still down", "err", now)
	case now == nil && d.enter(enter):
		d.log.Info(what + " is up")
	case now == nil:
		_ = end() // the node is going down
	}
}

func (d *Daemon) anyDown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.exposed {
		if e.down != nil {
			return true
		}
	}
	for _, f := range d.forwards {
		if f.down != nil {
			return true
		}
	}
	for _, p := range d.proxies {
		if p.down != nil {
			return true
		}
	}
	return false
}
