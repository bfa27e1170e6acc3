package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// fewLocalPeers are those with which more are compared.
const fewLocalPeers = 10

// A peering says how memory for each peer is measured.
type peering struct {
	few, many int // peers
	processes int // that hold them
	settle    time.Duration
}

// measureLocalPeers takes the memory of one node with few peers and with many, all
// on this machine in other processes, on the level of packages p2p and overlay.
func measureLocalPeers(p peering) measurement {
	return func(ctx context.Context, s *site) ([]figure, error) {
		var all []figure
		for _, level := range []string{peerLevel, meshLevel} {
			figures, err := p.measure(ctx, filepath.Join(s.dir, level), level)
			all = append(all, figures...)
			if err != nil {
				return all, err
			}
		}
		return all, nil
	}
}

func (p peering) measure(ctx context.Context, dir, level string) ([]figure, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	one, err := startChild(ctx, localNodeRole, level, dir)
	if err != nil {
		return nil, err
	}
	defer one.stop()
	words, err := one.ask("found")
	if err != nil {
		return nil, err
	}
	var others []*child
	for range p.processes {
		o, err := startChild(ctx, localNodeRole, level, dir)
		if err != nil {
			return nil, err
		}
		defer o.stop()
		others = append(others, o)
	}
	few, err := p.grow(ctx, one, others, 0, p.few, words)
	if err != nil {
		return nil, err
	}
	many, err := p.grow(ctx, one, others, p.few, p.many, words)
	if err != nil {
		return nil, err
	}
	paths, err := one.ask("paths")
	if err != nil {
		return nil, err
	}
	return p.figures(level, paths, few, many), nil
}

// A holding is what a node has.
type holding struct {
	peers                     float64
	resident, anonymous, heap float64 // MB
}

// grow adds nodes in turn to the processes that hold them, until there are count,
// and looks at the one that they are connected to.
func (p peering) grow(ctx context.Context, one *child, others []*child, has, count int, words string) (h holding, err error) {
	for ; has < count; has++ {
		if _, err := others[has%len(others)].ask("add", 1, words); err != nil {
			return h, err
		}
	}
	if _, err := one.ask("await", count); err != nil {
		return h, err
	}
	fmt.Fprintf(os.Stderr, "%d peers are connected; waiting %v for them to settle\n", count, p.settle)
	if err := wait(ctx, p.settle); err != nil {
		return h, err
	}
	heap, err := one.ask("memory")
	if err != nil {
		return h, err
	}
	peers, err := one.ask("peers") // some may have gone
	if err != nil {
		return h, err
	}
	if _, err := fmt.Sscan(heap+" "+peers, &h.heap, &h.peers); err != nil {
		return h, err
	}
	h.resident, h.anonymous, err = memoryOf(one.pid())
	return h, err
}

func (p peering) figures(level, paths string, few, many holding) []figure {
	one := func(name, unit string, v float64) figure {
		return figure{Name: level + ": " + name, Unit: unit, Values: []float64{v}, Note: "by " + paths}
	}
	each := func(few, many, peers float64) float64 { return (many - few) * 1000 / peers }
	further := many.peers - few.peers
	return []figure{
		one(fmt.Sprintf("resident memory with %.0f peers", few.peers), "MB", few.resident),
		one(fmt.Sprintf("resident memory with %.0f peers", many.peers), "MB", many.resident),
		one("resident memory for each further peer", "kB", each(few.resident, many.resident, further)),
		one("of which no file is behind", "kB", each(few.anonymous, many.anonymous, further)),
		one("heap and stacks for each further peer", "kB", each(few.heap, many.heap, further)),
	}
}
