package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// With few peers more are compared. A node closes connections on this machine that
// carry nothing when it has more than 32 (p2p/trim.go), so that no more than these can
// be held: of further members it knows, and is connected to some.
const (
	fewLocalPeers  = 10
	heldLocalPeers = 30
)

// A peering says how memory for each peer is measured.
type peering struct {
	few, held int // peers that a node is connected to
	many      int // members that it knows, where they are of a mesh
	processes int // that hold them
	settle    time.Duration
}

// measureLocalPeers takes the memory of one node with few peers and with more, all on
// this machine in other processes, on the level of packages p2p and overlay, and of a
// member of a mesh that has many.
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
	held, err := p.grow(ctx, one, others, p.few, p.held, words)
	if err != nil {
		return nil, err
	}
	paths, err := one.ask("paths")
	if err != nil {
		return nil, err
	}
	level += ": "
	paths = "by " + paths
	figures := append(few.figures(level, paths), held.figures(level, paths)...)
	figures = append(figures, held.further(few, level+"%s for each further peer", held.peers-few.peers, paths)...)
	if level != meshLevel+": " {
		return figures, nil
	}
	many, err := p.grow(ctx, one, others, p.held, p.many, words)
	if err != nil {
		return figures, err
	}
	figures = append(figures, many.figures(level, paths)...)
	return append(figures, many.further(held, level+"%s for each further member", many.members-held.members, paths)...), nil
}

// A holding is what a node has.
type holding struct {
	peers, members            float64 // that it is connected to, and that it knows
	resident, anonymous, heap float64 // MB
}

func (h holding) figures(level, note string) []figure {
	name := fmt.Sprintf("%sresident memory with %.0f peers", level, h.peers)
	if h.members > h.peers {
		name += fmt.Sprintf(" of %.0f members", h.members)
	}
	return []figure{{Name: name, Unit: "MB", Values: []float64{h.resident}, Note: note}}
}

// further returns what each of those costs by which h has more.
func (h holding) further(less holding, name string, more float64, note string) []figure {
	each := func(what string, has, had float64) figure {
		return figure{Name: fmt.Sprintf(name, what), Unit: "kB", Values: []float64{(has - had) * 1000 / more}, Note: note}
	}
	return []figure{
		each("resident memory", h.resident, less.resident),
		each("memory of which no file is behind", h.anonymous, less.anonymous),
		each("heap and stacks", h.heap, less.heap),
	}
}

// grow adds nodes in turn to the processes that hold them, until there are count,
// and looks at the one that they are connected to.
func (p peering) grow(ctx context.Context, one *child, others []*child, has, count int, words string) (h holding, err error) {
	for ; has < count; has++ {
		if _, err := others[has%len(others)].ask("add", 1, words); err != nil {
			return h, err
		}
	}
	if _, err := one.ask("await", min(count, p.held), count); err != nil {
		return h, err
	}
	fmt.Fprintf(os.Stderr, "%d peers are there; waiting %v for them to settle\n", count, p.settle)
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
	if _, err := fmt.Sscan(heap+" "+peers, &h.heap, &h.peers, &h.members); err != nil {
		return h, err
	}
	h.resident, h.anonymous, err = memoryOf(one.pid())
	return h, err
}
