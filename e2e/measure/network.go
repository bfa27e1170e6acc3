package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
	"golang.org/x/sync/errgroup"
)

// A place is where a node of the matrix is.
type place struct {
	name string
	nat  lab.NAT
	// outer is the router in front of the place's own, if there is one.
	outer *lab.NAT
	// link is what the router's link does besides delaying.
	link lab.Link
	// prepare does the rest, before the first node starts there.
	prepare func(context.Context, *lab.Router, *lab.Host) (io.Closer, error)
}

// Those that other measurements have as well.
var (
	open           = place{name: "none", nat: lab.NAT{Kind: lab.None}}
	portRestricted = place{name: "port", nat: lab.NAT{Kind: lab.PortRestricted}}
	symmetric      = place{name: "symmetric", nat: lab.NAT{Kind: lab.Symmetric}}
	udpBlocked     = place{name: "udp-blocked", nat: lab.NAT{Kind: lab.PortRestricted, UDPBlocked: true}}
)

// places are the sides of the matrix. Two nodes are never in the same place: each
// place is built twice.
var places = []place{
	open,
	{name: "full-cone", nat: lab.NAT{Kind: lab.FullCone}},
	{name: "address", nat: lab.NAT{Kind: lab.AddressRestricted}},
	portRestricted,
	{name: "port-open", nat: lab.NAT{Kind: lab.PortRestricted, OpenInput: true}},
	symmetric,
	{name: "cgnat", nat: lab.NAT{Kind: lab.PortRestricted}, outer: &lab.NAT{Kind: lab.FullCone, Carrier: true}},
	udpBlocked,
}

// together are two nodes in one place.
var together = []place{
	{name: "same-lan", nat: lab.NAT{Kind: lab.PortRestricted}},
	{name: "same-lan-hairpin", nat: lab.NAT{Kind: lab.FullCone, Hairpin: true}},
}

// networkDelay is the delay of each end's link, which makes 50 ms of a round trip
// between two.
const networkDelay = 12500 * time.Microsecond

// A cell is a pair of places, and what path there can be between them.
type cell struct {
	a, b place
	best string
}

// matrix returns all pairs, as far as filter says. The first of a pair is the one that
// is there first, so an order makes a difference; with ordered false each is there once.
func matrix(filter string, ordered bool) (out []cell) {
	for i, a := range places {
		for _, b := range places[map[bool]int{false: i}[ordered]:] {
			out = append(out, cell{a, b, bestPath(a, b)})
		}
	}
	for _, p := range together {
		out = append(out, cell{p, p, "lan"})
	}
	return slices.DeleteFunc(out, func(c cell) bool { return !c.chosen(filter) })
}

func (c cell) chosen(filter string) bool { return strings.Contains(c.name(), filter) }

func (c cell) name() string { return c.a.name + "+" + c.b.name }

// bestPath tells whether two places can have a direct path: one can be connected to, or
// both know at which port each will be seen.
func bestPath(a, b place) string {
	switch {
	case a.name == "none" || b.name == "none": // TCP
		return "direct"
	case a.nat.UDPBlocked || b.nat.UDPBlocked:
		return "relay"
	}
	if a.nat.Kind == lab.Symmetric && b.nat.Kind == lab.Symmetric {
		return "relay"
	}
	for _, v := range [][2]place{{a, b}, {b, a}} {
		if v[0].nat.Kind == lab.Symmetric && v[1].nat.Kind == lab.PortRestricted {
			return "relay"
		}
	}
	return "direct"
}

// measureAll measures several cells.
func (n *network) measureAll(ctx context.Context, cells []cell, rounds int) ([]figure, error) {
	defer func() {
		for _, c := range n.closers {
			_ = c.Close() // the lab is about to go
		}
	}()
	all := make([][]figure, len(cells))
	var g errgroup.Group
	g.SetLimit(cellsAtOnce)
	for i, c := range cells {
		g.Go(func() (err error) {
			all[i], err = n.measure(ctx, c, rounds)
			return err
		})
	}
	err := g.Wait()
	return slices.Concat(all...), errors.Join(err, n.lab.Err())
}

// cellsAtOnce is how many cells are measured at a time: most of one is waiting.
const cellsAtOnce = 3

// network is what the matrix is measured in.
type network struct {
	site  *site
	lab   *lab.Lab
	relay *node
	count atomic.Int64 // of nodes, which all have other names

	mu      sync.Mutex // guards the fields below
	hosts   map[string]*lab.Host
	routers map[string]*lab.Router
	closers []io.Closer // of what runs in them
}

// measureNetwork measures the cells whose name has filter in it, each so many times.
func measureNetwork(rounds int, filter string, ordered bool) measurement {
	return inNetwork(func(ctx context.Context, n *network) ([]figure, error) {
		if err := n.startRelays(ctx, 2); err != nil {
			return nil, err
		}
		return n.measureAll(ctx, matrix(filter, ordered), rounds)
	})
}

// inNetwork makes a measurement of one that is in a network of its own.
func inNetwork(measure func(context.Context, *network) ([]figure, error)) measurement {
	return func(ctx context.Context, s *site) ([]figure, error) {
		l, err := lab.Open(ctx)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		figures, err := measure(ctx, &network{site: s, lab: l, hosts: map[string]*lab.Host{}, routers: map[string]*lab.Router{}})
		return figures, errors.Join(err, l.Err())
	}
}

// on has a node run on a host of the lab.
func (n *node) on(h *lab.Host) *node {
	n.host = h
	return n
}

// startRelays starts nodes that can relay. The flags are the first one's, which is the
// admin.
func (n *network) startRelays(ctx context.Context, count int, flags ...string) error {
	var invite string
	for i := range count {
		h := n.lab.Host(fmt.Sprint("relay", i))
		h.SetLink(lab.Link{Delay: networkDelay})
		r := n.site.node(fmt.Sprint("relay", i)).on(h)
		args := append([]string{"up", "--no-local", "--ephemeral"}, flags...)
		if i > 0 {
			args = []string{"join", "-", "--no-local", "--ephemeral"}
		}
		if _, err := r.start(ctx, invite, args...); err != nil {
			return err
		}
		if i == 0 {
			n.relay = r
			var err error
			if invite, err = r.output(ctx, "invite"); err != nil {
				return err
			}
		}
	}
	return n.lab.Err()
}

// hostAt returns the host of a place, which is built when it is first asked for.
func (n *network) hostAt(ctx context.Context, p place, which string) (*lab.Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := p.name + "-" + which
	if h := n.hosts[name]; h != nil {
		return h, nil
	}
	router := name
	if slices.ContainsFunc(together, func(o place) bool { return o.name == p.name }) {
		router = p.name
	}
	if n.routers[router] == nil {
		n.routers[router] = n.build(p, router)
	}
	h := n.routers[router].Host(name)
	n.hosts[name] = h
	if p.prepare == nil {
		return h, n.lab.Err()
	}
	c, err := p.prepare(ctx, n.routers[router], h)
	if c != nil {
		n.closers = append(n.closers, c)
	}
	return h, errors.Join(err, n.lab.Err())
}

func (n *network) build(p place, name string) *lab.Router {
	var r *lab.Router
	if p.outer != nil {
		r = n.lab.Router(name+"-outer", *p.outer).Router(name, p.nat)
	} else {
		r = n.lab.Router(name, p.nat)
	}
	p.link.Delay = networkDelay
	r.SetLink(p.link)
	return r
}

// patience bounds what a round waits for.
const networkPatience = 15 * time.Second

// measure measures one cell.
func (n *network) measure(ctx context.Context, c cell, rounds int) ([]figure, error) {
	talk := figure{Name: c.name() + ": second ready until the first answers", Unit: "ms"}
	better := figure{Name: c.name() + ": first answer until the best path", Unit: "ms"}
	ends := map[string]int{}
	for range rounds {
		talked, improved, path, err := n.round(ctx, c)
		if err != nil {
			return []figure{talk, better}, fmt.Errorf("%s: %w", c.name(), err)
		}
		if talked >= 0 {
			talk.addTime(talked)
		}
		if improved >= 0 {
			better.addTime(improved)
		}
		ends[path]++
	}
	for _, path := range slices.Sorted(maps.Keys(ends)) {
		better.Note += fmt.Sprintf(" %s %d/%d", path, ends[path], rounds)
	}
	fmt.Fprintf(os.Stderr, "%-24s best %-6s talk max %.0f ms, better p50 %.0f p95 %.0f max %.0f ms,%s\n", c.name(), c.best,
		talk.percentile(100), better.percentile(50), better.percentile(95), better.percentile(100), better.Note)
	return []figure{talk, better}, nil
}

// round starts two nodes and has the second ping the first. A time is negative if it
// did not come to that.
func (n *network) round(ctx context.Context, c cell) (talked, improved time.Duration, path string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*networkPatience)
	defer cancel()
	a, err := n.join(ctx, c.a, "left")
	if err != nil {
		return 0, 0, "", err
	}
	defer a.end()
	b, err := n.join(ctx, c.b, "right")
	if err != nil {
		return 0, 0, "", err
	}
	defer b.end()
	ready := time.Now()
	var pong struct{ Path string }
	if err := b.call(ctx, "POST", "ping?member="+url.QueryEscape(a.name), "", &pong); err != nil {
		fmt.Fprintln(os.Stderr, c.name(), err)
		return -1, -1, "nothing", nil
	}
	talked = time.Since(ready)
	first := time.Now()
	for path = pong.Path; path != c.best && time.Since(first) < networkPatience; {
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return talked, -1, path, errors.Join(err, nil)
		}
		if path, err = b.pathTo(ctx, a.name); err != nil {
			return talked, -1, path, err
		}
	}
	if path != c.best {
		return talked, -1, path, nil
	}
	return talked, time.Since(first), path, nil
}

func (n *network) join(ctx context.Context, p place, which string, flags ...string) (*node, error) {
	invite, err := n.relay.output(ctx, "invite")
	if err != nil {
		return nil, err
	}
	h, err := n.hostAt(ctx, p, which)
	if err != nil {
		return nil, err
	}
	m := n.site.node(fmt.Sprintf("%s-%s-%d", p.name, which, n.count.Add(1))).on(h)
	_, err = m.start(ctx, invite, append([]string{"join", "-", "--no-local", "--ephemeral", "-v"}, flags...)...)
	return m, err
}

// end ends a node and forgets it, so that the site has no more of them than run.
func (n *node) end() {
	n.stop()
	if n.site.logs != "" {
		_ = os.WriteFile(filepath.Join(n.site.logs, n.name+".log"), n.stderr.Bytes(), 0o600) // it is a help, no more
	}
	n.site.forget(n)
	_ = os.RemoveAll(n.dir)
}

func (n *node) pathTo(ctx context.Context, member string) (string, error) {
	var members []struct{ Name, Path string }
	if err := n.call(ctx, "GET", "members", "", &members); err != nil {
		return "", err
	}
	for _, m := range members {
		if m.Name == member {
			return m.Path, nil
		}
	}
	return "", fmt.Errorf("%s does not know %s", n.name, member)
}
