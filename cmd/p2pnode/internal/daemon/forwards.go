package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/p2p"
)

// A forwarded is a forward, or one that is to be.
type forwarded struct {
	want control.Forward // as it was asked for; never changed
	listening
}

// forward begins a forward that somebody has asked for.
func (d *Daemon) forward(want control.Forward) (control.Forward, error) {
	made, err := d.forwardAll([]control.Forward{want})
	if err != nil {
		return control.Forward{}, err
	}
	return made[0], nil
}

// forwardAll begins forwards, all or none. If there are several the error says with
// which it is.
func (d *Daemon) forwardAll(wants []control.Forward) ([]control.Forward, error) {
	d.editing.Lock()
	defer d.editing.Unlock()
	var made []*forwarded
	for _, want := range wants {
		want.From = ""
		f, err := parseForward(want)
		if err == nil {
			err = d.startForward(f)
		}
		if err != nil {
			if len(wants) > 1 {
				err = fmt.Errorf("forward %s to %s: %w", want.Listen, want.Target, err)
			}
			return nil, errors.Join(err, closeForwards(made))
		}
		made = append(made, f)
	}
	if err := d.keepForwards(made); err != nil {
		return nil, errors.Join(err, closeForwards(made))
	}
	out := []control.Forward{}
	entered := d.enter(func() {
		for _, f := range made {
			d.forwards[f.name()] = f
			out = append(out, f.view())
		}
	})
	if !entered {
		return nil, errors.Join(errDown, closeForwards(made))
	}
	for _, f := range made {
		d.events.tell(f.event(control.EventForward))
	}
	return out, nil
}

func closeForwards(all []*forwarded) error {
	var errs []error
	for _, f := range all {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// parseForward makes of what is asked for a forward that does not listen yet.
func parseForward(want control.Forward) (*forwarded, error) {
	addr, err := forward.ParseListen(want.Listen)
	if err != nil {
		return nil, badRequest{err}
	}
	if _, err := overlay.ParseTarget(want.Target); err != nil {
		return nil, err
	}
	if err := checkIdle(want.IdleTimeout); err != nil {
		return nil, badRequest{err}
	}
	if _, err := forward.ParseMode(want.Mode); err != nil {
		return nil, badRequest{err}
	}
	if (want.Mode != "" || want.Owner != "") && addr.Network() != "unix" {
		return nil, badRequestf("a mode and an owner are for a unix socket, which %v is not", addr)
	}
	if want.WaitDirect < 0 || want.WaitDirect > maxWaitDirect {
		return nil, badRequestf("%v is not how long to wait for a direct path: want 0s to %v", want.WaitDirect, maxWaitDirect)
	}
	return &forwarded{want, listening{listen: addr}}, nil
}

// startForward begins to listen.
func (d *Daemon) startForward(f *forwarded) error {
	mode, err := forward.ParseMode(f.want.Mode)
	if err != nil {
		return badRequest{err}
	}
	c := forward.Config{
		Logger: d.log, DialTimeout: forwardDialTimeout + f.want.WaitDirect, IdleTimeout: f.want.IdleTimeout, Mode: mode, Owner: f.want.Owner,
	}
	started, err := forward.NewForward(forwardDialer{d.mesh, f.want}, f.want.Target, f.listen, c)
	if err != nil {
		return err
	}
	f.socket, f.down = started, nil
	return nil
}

const (
	// forwardDialTimeout is how long a dial may take besides the wait for a direct
	// path.
	forwardDialTimeout = 30 * time.Second

	maxWaitDirect = control.MaxWaitDirect
)

// A forwardDialer dials as a forward is to.
type forwardDialer struct {
	mesh *overlay.Mesh
	want control.Forward
}

func (d forwardDialer) DialContext(ctx context.Context, network, target string) (net.Conn, error) {
	if d.want.DirectOnly {
		ctx = p2p.WaitDirect(ctx, d.want.WaitDirect)
	}
	if d.want.Plain {
		ctx = p2p.Plain(ctx)
	}
	if d.want.Spread {
		ctx = overlay.Spread(ctx)
	}
	return d.mesh.DialContext(ctx, network, target)
}

// unforward ends the forward that listens at an address, however it is written.
func (d *Daemon) unforward(listen string) error {
	addr, err := forward.ParseAddress(listen)
	if err != nil {
		return badRequest{err}
	}
	d.editing.Lock()
	defer d.editing.Unlock()
	f := d.forwardAt(addr)
	switch {
	case f == nil:
		return fmt.Errorf("unforward %v: %w", addr, errNoForward)
	case f.want.From != "":
		return fmt.Errorf("unforward %v: %w", addr, errFromConfig)
	}
	return errors.Join(d.dropForward(f), d.forget(forwardKey(f.name())))
}

// dropForward ends a forward.
func (d *Daemon) dropForward(f *forwarded) error {
	d.mu.Lock()
	delete(d.forwards, f.name())
	d.mu.Unlock()
	d.events.tell(f.event(control.EventUnforward))
	return f.close()
}

// forwardAt returns the forward that an address names.
func (d *Daemon) forwardAt(addr forward.Address) *forwarded {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.forwards {
		if f.isAt(addr) {
			return f
		}
	}
	return nil
}

// event returns what happens to the forward.
func (f *forwarded) event(kind control.EventKind) control.Event {
	return control.Event{Kind: kind, Listen: f.name(), Target: f.want.Target}
}

// view tells of a forward, without counts if it is down.
func (f *forwarded) view() control.Forward {
	v := f.want
	v.Version, v.Listen, v.Down, v.Counts = control.Version, f.name(), errorText(f.down), f.counts()
	return v
}

func counts(s forward.Stats) control.Counts {
	c := control.Counts{Open: s.Open, Total: s.Total, Failed: s.Failed, Sent: s.Sent, Received: s.Received, Dropped: s.Dropped, Reasons: s.Reasons}
	if s.LastError != nil {
		c.Error = s.LastError.Error()
	}
	return c
}

func (d *Daemon) listForwards() []control.Forward {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []control.Forward{}
	for _, name := range slices.Sorted(maps.Keys(d.forwards)) {
		out = append(out, d.forwards[name].view())
	}
	return out
}
