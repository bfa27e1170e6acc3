package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A durableLab is two nodes behind routers, and relays between them.
type durableLab struct {
	network *network
	relays  []*durableChild
	ends    [2]*durableChild
	homes   [2][]*lab.Router // of each end, where it is and where it can move to; none of one on the Internet

	mu    sync.Mutex // guards the fields below
	at    [2]int     // in which of its homes an end is
	paths map[string]int
}

// A durableChild is a process in the role of durableRole, on a host, which can be
// started again as the same node.
type durableChild struct {
	*child
	site   *site
	host   *lab.Host
	number int
	words  string // of its node

	mu sync.Mutex // guards talking to the child
}

// durablePort is where all of them listen.
const durablePort = 4001

// homeKinds are what the routers in front of each end are. With each end at its first
// home a direct path can be had, as with most others.
var homeKinds = [2][]lab.Kind{{lab.PortRestricted, lab.Symmetric}, {lab.PortRestricted, lab.AddressRestricted}}

// onInternet has the second end on the Internet, where it takes connections by TCP.
var onInternet = [2][]lab.Kind{{lab.PortRestricted}, nil}

// neither has both ends on the Internet.
var neither [2][]lab.Kind

// openDurableLab starts so many relays and two nodes behind routers. The words are said
// to the two after their number and port.
func (n *network) openDurableLab(ctx context.Context, homes [2][]lab.Kind, relays int, words ...any) (_ *durableLab, err error) {
	d := &durableLab{network: n, paths: map[string]int{}}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	for i := range relays {
		r, err := n.startDurable(ctx, n.lab.Host(fmt.Sprint("relay", i)), i+1)
		if err != nil {
			return nil, err
		}
		d.relays = append(d.relays, r)
	}
	for i := range d.ends {
		name := fmt.Sprint("end", i)
		for j, kind := range homes[i] {
			d.homes[i] = append(d.homes[i], n.lab.Router(fmt.Sprint("home", i, j), lab.NAT{Kind: kind}))
		}
		var h *lab.Host
		if len(d.homes[i]) > 0 {
			h = d.homes[i][0].Host(name)
		} else {
			h = n.lab.Host(name)
		}
		if d.ends[i], err = n.startDurable(ctx, h, 100+i, words...); err != nil {
			return nil, err
		}
		if err := d.keep(i); err != nil {
			return nil, err
		}
	}
	if relays == 0 {
		if _, err := d.ends[0].ask("keep", d.ends[1].words); err != nil {
			return nil, err
		}
	}
	return d, n.lab.Err()
}

// keep keeps an end connected to the relays.
func (d *durableLab) keep(end int) error {
	for _, r := range d.relays {
		order := []any{"keep", r.words}
		if len(d.homes[end]) > 0 {
			order = append(order, "relay")
		}
		if _, err := d.ends[end].ask(order...); err != nil {
			return err
		}
	}
	return nil
}

// setDelay delays what each end sends and gets.
func (d *durableLab) setDelay(delay time.Duration) {
	for i := range d.ends {
		for _, m := range d.outside(i) {
			m.SetLink(lab.Link{Delay: delay})
		}
	}
}

// A linked machine is one whose link can be set.
type linked interface {
	lab.Machine
	SetLink(lab.Link)
}

// outside returns what of an end is on the Internet: the routers that it can be behind,
// or its host.
func (d *durableLab) outside(end int) (out []linked) {
	for _, r := range d.homes[end] {
		out = append(out, r)
	}
	if len(out) == 0 {
		out = append(out, d.ends[end].host)
	}
	return out
}

// startDurable starts a child with a node on a host.
func (n *network) startDurable(ctx context.Context, h *lab.Host, number int, words ...any) (*durableChild, error) {
	c := &durableChild{site: n.site, host: h, number: number}
	return c, c.start(ctx, words...)
}

func (c *durableChild) start(ctx context.Context, words ...any) error {
	program := c.site.program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	fresh := &child{role: durableRole + " " + c.host.Name(), cmd: c.host.Command(context.WithoutCancel(ctx), program, durableRole)}
	if err := fresh.tie(); err != nil {
		return err
	}
	if err := fresh.cmd.Start(); err != nil {
		return err
	}
	c.mu.Lock()
	c.child = fresh
	c.mu.Unlock()
	var err error
	c.words, err = c.ask(append([]any{"listen", c.number, durablePort}, words...)...)
	return err
}

// ask gives an order. Orders wait for one another.
func (c *durableChild) ask(order ...any) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.child.ask(order...)
}

// kill ends the child as a crash does.
func (c *durableChild) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	c.stop()
}

// id returns the ID of the child's node.
func (c *durableChild) id() string { return strings.Fields(c.words)[0] }

// askFor gives an order and reads the answer into a value.
func (c *durableChild) askFor(value any, order ...any) error {
	text, err := c.ask(order...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), value)
}

// both gives an order to both ends at once, and returns their answers.
func (d *durableLab) both(order ...any) (out [2]string, err error) {
	var errs [2]error
	var wg sync.WaitGroup
	for i, e := range d.ends {
		wg.Go(func() { out[i], errs[i] = e.ask(order...) })
	}
	wg.Wait()
	return out, errors.Join(errs[:]...)
}

// home returns the router that an end is behind.
func (d *durableLab) home(end int) *lab.Router {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.homes[end][d.at[end]]
}

// apart has the two ends reach each other through relays only, or directly again.
func (d *durableLab) apart(on bool) {
	for _, a := range d.outside(0) {
		for _, b := range d.outside(1) {
			if on {
				d.network.lab.Partition(a, b)
			} else {
				d.network.lab.Heal(a, b)
			}
		}
	}
}

func (d *durableLab) close() {
	for _, c := range append([]*durableChild{d.ends[0], d.ends[1]}, d.relays...) {
		if c == nil || c.child == nil || c.cmd.Process == nil {
			continue
		}
		_ = pause(c.cmd.Process, false) // it may have ended
		c.stop()
		if logs := c.site.logs; logs != "" {
			_ = os.WriteFile(logs+"/"+c.host.Name()+".log", c.stderr.Bytes(), 0o600) // it is a help, no more
		}
	}
}
