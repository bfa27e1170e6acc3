package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// measureNetworkRelay takes what a path through a relay carries.
// The links are those whose name has filter in it.
func measureNetworkRelay(rounds int, filter string) measurement {
	return inNetwork(func(ctx context.Context, n *network) ([]figure, error) {
		return n.relayThroughput(ctx, min(rounds, 3), filter)
	})
}

// A wire is the link of each of those that bulk goes between.
type wire struct {
	name string
	link lab.Link
}

var wires = []wire{
	{"wires without bounds", lab.Link{}},
	{"links of 100 Mbit/s", lab.Link{Rate: 100e6}},
	{"links of 100 Mbit/s, round trip 50 ms", lab.Link{Rate: 100e6, Delay: networkDelay, Queue: 1 << 20}},
}

const (
	bulkWarmUp = 2 * time.Second // windows grow meanwhile
	bulkTime   = 5 * time.Second
)

// A bulkEnds is two nodes between which bulk is sent, from the first to the second.
type bulkEnds struct {
	from, to *node
	wires    []interface{ SetLink(lab.Link) }
	source   net.Listener
	target   string // where the second's host gets bulk
}

// relayThroughput sends bulk between two nodes that have no NAT, and between two that
// have only a relay, in turns.
func (n *network) relayThroughput(ctx context.Context, rounds int, filter string) (all []figure, err error) {
	if err := n.startRelays(ctx, 1, "--relay-rate", fmt.Sprint(uint32(math.MaxUint32))); err != nil {
		return nil, err
	}
	direct, err := n.bulkPair(ctx, onlyTCP, onlyTCP)
	if err != nil {
		return nil, err
	}
	defer direct.close()
	relayed, err := n.bulkPair(ctx, symmetric, portRestricted)
	if err != nil {
		return nil, err
	}
	defer relayed.close()
	for _, w := range wires {
		if !strings.Contains(w.name, filter) {
			continue
		}
		figures, err := n.bulkOver(ctx, w, direct, relayed, rounds)
		all = append(all, figures...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// onlyTCP is on the Internet, where nobody can use QUIC.
var onlyTCP = place{name: "none-tcp", nat: lab.NAT{Kind: lab.None, UDPBlocked: true}}

// bulkOver measures with one kind of link.
func (n *network) bulkOver(ctx context.Context, w wire, direct, relayed *bulkEnds, rounds int) ([]figure, error) {
	n.relay.host.SetLink(w.link)
	for _, p := range []*bulkEnds{direct, relayed} {
		for _, o := range p.wires {
			o.SetLink(w.link)
		}
	}
	straight := figure{Name: w.name + ": directly", Unit: "Mbit/s"}
	through := figure{Name: w.name + ": through the relay", Unit: "Mbit/s"}
	ratio := figure{Name: w.name + ": through the relay, of directly"}
	costs := map[string]*figure{}
	var order []*figure
	for range rounds {
		a, err := direct.measure(ctx, &straight, map[string]*node{"the sender": direct.from, "the receiver": direct.to})
		if err != nil {
			return nil, err
		}
		b, err := relayed.measure(ctx, &through, map[string]*node{"the sender": relayed.from, "the receiver": relayed.to, "the relay": n.relay})
		if err != nil {
			return nil, err
		}
		ratio.Values = append(ratio.Values, b.rate/a.rate)
		for _, m := range []struct {
			name string
			bulk bulk
		}{{straight.Name, a}, {through.Name, b}} {
			for _, who := range slices.Sorted(maps.Keys(m.bulk.cpu)) {
				name := m.name + ", CPU of " + who
				if costs[name] == nil {
					costs[name] = &figure{Name: name, Unit: "s/GiB"}
					order = append(order, costs[name])
				}
				costs[name].Values = append(costs[name].Values, m.bulk.cpu[who])
			}
		}
	}
	all := []figure{straight, through, ratio}
	for _, f := range order {
		all = append(all, *f)
	}
	return all, nil
}

// A bulk is how much went in a time, in Mbit/s, and the seconds of CPU that each of some
// processes took for a GiB.
type bulk struct {
	rate float64
	cpu  map[string]float64
}

// bulkPair starts two nodes, of which the first has a service that sends without end.
func (n *network) bulkPair(ctx context.Context, a, b place) (_ *bulkEnds, err error) {
	p := &bulkEnds{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.from, err = n.join(ctx, a, "left", "--no-relay"); err != nil {
		return nil, err
	}
	if p.to, err = n.join(ctx, b, "right", "--no-relay"); err != nil {
		return nil, err
	}
	p.wires = []interface{ SetLink(lab.Link) }{n.routers[a.name+"-left"], n.routers[b.name+"-right"]}
	return p, p.serve(ctx)
}

// serve makes the service, and the way to it.
func (p *bulkEnds) serve(ctx context.Context) error {
	err := p.from.host.Do(func() (err error) {
		p.source, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return err
	}
	go pour(p.source)
	if _, err := p.from.output(ctx, "expose", "bulk", p.source.Addr().String()); err != nil {
		return err
	}
	p.target, err = p.to.forward(ctx, p.from.name+"/bulk")
	return err
}

func (p *bulkEnds) close() {
	for _, m := range []*node{p.from, p.to} {
		if m != nil {
			m.end()
		}
	}
	if p.source != nil {
		p.source.Close()
	}
}

// pour sends without end to whoever connects.
func pour(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for b := make([]byte, 256<<10); err == nil; {
				_, err = c.Write(b)
			}
		}()
	}
}

// measure adds how fast bulk is, and notes by which path.
func (p *bulkEnds) measure(ctx context.Context, f *figure, who map[string]*node) (b bulk, err error) {
	before, err := p.to.pathTo(ctx, p.from.name)
	if err != nil {
		return b, err
	}
	c, err := p.dial(ctx)
	if err != nil {
		return b, err
	}
	defer c.Close()
	if _, err := drain(c, bulkWarmUp); err != nil {
		return b, fmt.Errorf("bulk from %s: %w", p.from.name, err)
	}
	used, err := cpuOfAll(who)
	if err != nil {
		return b, err
	}
	began := time.Now()
	bytes, err := drain(c, bulkTime)
	if err != nil {
		return b, fmt.Errorf("bulk from %s: %w", p.from.name, err)
	}
	b.rate = float64(bytes) * 8 / 1e6 / time.Since(began).Seconds()
	if b.cpu, err = cpuOfAll(who); err != nil {
		return b, err
	}
	for name := range b.cpu {
		b.cpu[name] = (b.cpu[name] - used[name]) / (float64(bytes) / (1 << 30))
	}
	f.Values = append(f.Values, b.rate)
	path, err := p.to.pathTo(ctx, p.from.name)
	if path != before {
		path = before + ", then " + path
	}
	f.Note = "by " + path
	return b, err
}

// cpuOfAll returns the seconds of CPU that nodes have taken so far.
func cpuOfAll(who map[string]*node) (map[string]float64, error) {
	out := map[string]float64{}
	for name, n := range who {
		used, err := cpuOf(n.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		out[name] = used.Seconds()
	}
	return out, nil
}

// steady returns what a connection brings once windows have grown, in Mbit/s.
func steady(c net.Conn) (float64, error) {
	if _, err := drain(c, bulkWarmUp); err != nil {
		return 0, err
	}
	began := time.Now()
	bytes, err := drain(c, bulkTime)
	return float64(bytes) * 8 / 1e6 / time.Since(began).Seconds(), err
}

// drain reads for some time and counts.
func drain(c net.Conn, d time.Duration) (total int64, err error) {
	end := time.Now().Add(d)
	if err := c.SetReadDeadline(end.Add(10 * time.Second)); err != nil {
		return 0, err
	}
	b := make([]byte, 256<<10)
	for time.Now().Before(end) {
		n, err := c.Read(b)
		total += int64(n)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return total, err
		}
	}
	return total, nil
}
