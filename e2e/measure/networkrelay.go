package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// measureNetworkRelay takes what a path through a relay carries.
func measureNetworkRelay(rounds int) measurement {
	return inNetwork(func(ctx context.Context, n *network) ([]figure, error) { return n.relayThroughput(ctx, min(rounds, 3)) })
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
func (n *network) relayThroughput(ctx context.Context, rounds int) (all []figure, err error) {
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
	for range rounds {
		a, err := direct.measure(ctx, &straight)
		if err != nil {
			return nil, err
		}
		b, err := relayed.measure(ctx, &through)
		if err != nil {
			return nil, err
		}
		ratio.Values = append(ratio.Values, b/a)
	}
	return []figure{straight, through, ratio}, nil
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
func (p *bulkEnds) measure(ctx context.Context, f *figure) (float64, error) {
	before, err := p.to.pathTo(ctx, p.from.name)
	if err != nil {
		return 0, err
	}
	c, err := p.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := drain(c, bulkWarmUp); err != nil {
		return 0, fmt.Errorf("bulk from %s: %w", p.from.name, err)
	}
	began := time.Now()
	bytes, err := drain(c, bulkTime)
	if err != nil {
		return 0, fmt.Errorf("bulk from %s: %w", p.from.name, err)
	}
	rate := float64(bytes) * 8 / 1e6 / time.Since(began).Seconds()
	f.Values = append(f.Values, rate)
	path, err := p.to.pathTo(ctx, p.from.name)
	if path != before {
		path = before + ", then " + path
	}
	f.Note = "by " + path
	return rate, err
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
