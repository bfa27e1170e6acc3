package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A fault is something that happens to one of two nodes that talk.
type fault struct {
	name string
	// relayed has the two in places between which there is a relay only.
	relayed bool
	happen  func(context.Context, *network, *pair) error
	// mend, if there is one, makes good for the next round what is gone for ever.
	mend func(context.Context, *network, *pair) error
}

var faults = []fault{
	{name: "NAT reboot", happen: func(_ context.Context, _ *network, p *pair) error { p.router.Reboot(); return nil }},
	{name: "public address change", happen: func(_ context.Context, _ *network, p *pair) error { p.router.ChangeAddress(); return nil }},
	{name: "own address change", happen: func(_ context.Context, _ *network, p *pair) error { p.a.host.ChangeAddress(); return nil }},
	{name: "uplink moved", happen: func(_ context.Context, _ *network, p *pair) error {
		p.router, p.other = p.other, p.router
		p.a.host.MoveTo(p.router)
		return nil
	}},
	{name: "link down 5 s", happen: func(ctx context.Context, _ *network, p *pair) error {
		p.a.host.Down()
		err := wait(ctx, 5*time.Second)
		p.a.host.Up()
		return err
	}},
	{
		name: "relay killed", relayed: true,
		happen: func(ctx context.Context, n *network, p *pair) error { return n.killRelay(ctx, p) },
		mend:   func(ctx context.Context, n *network, p *pair) error { return n.replaceRelay(ctx, p) },
	},
}

// A pair are two nodes, each of which offers a service that says hello.
type pair struct {
	a, b          *node
	router, other *lab.Router // that a is behind, and one that it can move to
	toA, toB      string      // sockets that lead to the services
	greeters      []net.Listener
	killed        *node // the relay that was killed last
}

// measureFaults measures, for each fault whose name has filter in it, how long it takes
// until a new stream works, in each direction.
func measureFaults(rounds int, filter string) measurement {
	return inNetwork(func(ctx context.Context, n *network) ([]figure, error) {
		if err := n.startRelays(ctx, 4, "--no-relay"); err != nil {
			return nil, err
		}
		var all []figure
		for i, f := range faults {
			if filter != "" && !strings.Contains(f.name, filter) {
				continue
			}
			figures, err := n.measureFault(ctx, f, i, rounds)
			all = append(all, figures...)
			if err != nil {
				return all, fmt.Errorf("%s: %w", f.name, err)
			}
		}
		return all, nil
	})
}

func (n *network) measureFault(ctx context.Context, f fault, i, rounds int) ([]figure, error) {
	p, err := n.pair(ctx, fmt.Sprint("f", i), f.relayed)
	if err != nil {
		return nil, err
	}
	defer p.end()
	toA := figure{Name: f.name + ": until a new stream to it", Unit: "ms"}
	fromA := figure{Name: f.name + ": until a new stream from it", Unit: "ms"}
	for range rounds {
		if err := p.settle(ctx, f.relayed); err != nil {
			return []figure{toA, fromA}, err
		}
		if err := f.happen(ctx, n, p); err != nil {
			return []figure{toA, fromA}, err
		}
		began := time.Now()
		var wg sync.WaitGroup
		for _, way := range []struct {
			figure *figure
			socket string
		}{{&toA, p.toA}, {&fromA, p.toB}} {
			wg.Go(func() {
				if untilByte(ctx, way.socket) {
					way.figure.addTime(time.Since(began))
				} else {
					way.figure.Note += " never"
				}
			})
		}
		wg.Wait()
		if f.mend != nil {
			if err := f.mend(ctx, n, p); err != nil {
				return []figure{toA, fromA}, err
			}
		}
		fmt.Fprintf(os.Stderr, "%s: to %v from %v\n", f.name, toA.Values, fromA.Values)
	}
	return []figure{toA, fromA}, n.lab.Err()
}

// untilByte opens streams until one of them brings a byte, and returns false if none
// does in time.
func untilByte(ctx context.Context, socket string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*networkPatience)
	defer cancel()
	done := make(chan struct{}, 1)
	for {
		go func() {
			if firstByteAt(ctx, socket) == nil {
				select {
				case done <- struct{}{}:
				default:
				}
			}
		}()
		select {
		case <-done:
			return true
		case <-ctx.Done():
			return false
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func firstByteAt(ctx context.Context, socket string) error {
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_, err = c.Read(make([]byte, 1))
	return err
}

// pair starts two nodes behind routers of their own.
func (n *network) pair(ctx context.Context, name string, relayed bool) (*pair, error) {
	left, right := lab.NAT{Kind: lab.PortRestricted}, lab.NAT{Kind: lab.PortRestricted}
	if relayed {
		left.Kind = lab.Symmetric
	}
	p := &pair{router: n.build(place{nat: left}, name+"-r0"), other: n.build(place{nat: left}, name+"-r1")}
	hosts := []*lab.Host{p.router.Host(name + "-a"), n.build(place{nat: right}, name+"-r2").Host(name + "-b")}
	if err := n.lab.Err(); err != nil {
		return nil, err
	}
	invite, err := n.relay.output(ctx, "invite")
	if err != nil {
		return nil, err
	}
	for i, h := range hosts {
		m := n.site.node(name + string(rune('a'+i))).on(h)
		if _, err := m.start(ctx, invite, "join", "-", "--no-local", "--ephemeral", "-v"); err != nil {
			return nil, err
		}
		hello := filepath.Join(n.site.dir, m.name+".hello")
		g, err := greeterAt("unix", hello)
		if err != nil {
			return nil, err
		}
		p.greeters = append(p.greeters, g)
		if _, err := m.output(ctx, "expose", "hello", "unix:"+hello); err != nil {
			return nil, err
		}
		if i == 0 {
			p.a = m
		} else {
			p.b = m
		}
	}
	p.toA, p.toB = filepath.Join(n.site.dir, name+".toa"), filepath.Join(n.site.dir, name+".tob")
	if _, err := p.b.output(ctx, "forward", "unix:"+p.toA, p.a.name+"/hello"); err != nil {
		return nil, err
	}
	_, err = p.a.output(ctx, "forward", "unix:"+p.toB, p.b.name+"/hello")
	return p, err
}

func (p *pair) end() {
	p.a.end()
	p.b.end()
	for _, g := range p.greeters {
		_ = g.Close()
	}
}

// settle waits until the two are connected as they should be, and have been for a
// while.
func (p *pair) settle(ctx context.Context, relayed bool) error {
	want := "direct"
	if relayed {
		want = "relay"
	}
	ctx, cancel := context.WithTimeout(ctx, 4*networkPatience)
	defer cancel()
	seen := map[string]int{} // how often each path was there
	for since := time.Now(); time.Since(since) < 6*time.Second; {
		for _, way := range []struct {
			from, to *node
			socket   string
		}{{p.a, p.b, p.toB}, {p.b, p.a, p.toA}} {
			path, err := way.from.pathTo(ctx, way.to.name)
			if err == nil {
				err = firstByteAt(ctx, way.socket)
			}
			seen[path]++
			if err != nil || path != want {
				since = time.Now()
			}
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("%s and %s did not get a path that is %s and lasts, but %v: %w", p.a.name, p.b.name, want, seen, err)
		}
	}
	return nil
}

// killRelay kills the relay that the pair's connection goes through.
func (n *network) killRelay(ctx context.Context, p *pair) error {
	var members []struct{ Name, Relay string }
	ctx, cancel := context.WithTimeout(ctx, networkPatience)
	defer cancel()
	if err := p.b.call(ctx, "GET", "members", "", &members); err != nil {
		return err
	}
	for _, m := range members {
		if m.Name != p.a.name {
			continue
		}
		i := slices.IndexFunc(n.site.nodes, func(o *node) bool { return o.name == m.Relay })
		if i < 0 {
			return fmt.Errorf("%s is not reached through a relay of this run, but %q", p.a.name, m.Relay)
		}
		relay := n.site.nodes[i]
		if relay == n.relay {
			return fmt.Errorf("%s is the only admin", relay.name)
		}
		p.killed = relay
		return relay.cmd.Process.Kill()
	}
	return fmt.Errorf("%s does not know %s", p.b.name, p.a.name)
}

// replaceRelay starts another relay where the one was that was killed.
func (n *network) replaceRelay(ctx context.Context, p *pair) error {
	h := p.killed.host
	p.killed.end()
	invite, err := n.relay.output(ctx, "invite")
	if err != nil {
		return err
	}
	r := n.site.node(fmt.Sprint("relay-again", n.count.Add(1))).on(h)
	_, err = r.start(ctx, invite, "join", "-", "--no-local", "--ephemeral")
	return err
}
