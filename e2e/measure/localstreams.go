package main

import (
	"context"
	"fmt"
	"os"
)

// measureLocalStreams takes what a stream that nobody uses costs the two processes
// that hold it and the kernel, as the difference that many of them make.
func measureLocalStreams(streams int) measurement {
	return func(ctx context.Context, s *site) ([]figure, error) {
		ends := make([]*child, 2)
		for i := range ends {
			c, err := startChild(ctx, localNodeRole, meshLevel, s.dir)
			if err != nil {
				return nil, err
			}
			defer c.stop()
			ends[i] = c
		}
		words, err := ends[0].ask("found")
		if err != nil {
			return nil, err
		}
		if _, err := ends[1].ask("add", 1, words); err != nil {
			return nil, err
		}
		return streamCosts(ends, streams)
	}
}

// streamCosts measures three times. The first time also grows what is kept for
// later.
func streamCosts(ends []*child, streams int) ([]figure, error) {
	var cost [6]figure
	for range 3 {
		before, err := lookAt(ends)
		if err != nil {
			return nil, err
		}
		if _, err := ends[1].ask("open", streams); err != nil {
			return nil, err
		}
		held, err := lookAt(ends)
		if err != nil {
			return nil, err
		}
		if _, err := ends[1].ask("shut"); err != nil {
			return nil, err
		}
		cost = held.less(before).addTo(cost, float64(streams))
	}
	paths, err := ends[1].ask("paths")
	if err != nil {
		return nil, err
	}
	for i, name := range []string{
		"resident memory of both ends", "of which no file is behind", "heap and stacks of both ends",
		"kernel memory (slab) of the machine", "resident memory and slab together", "files that both ends have open",
	} {
		cost[i].Name = fmt.Sprintf("a stream, of %d: %s", streams, name)
		cost[i].Unit = "kB"
		cost[i].Note = "by " + paths
	}
	cost[5].Unit = ""
	return cost[:], nil
}

// A usage is what both ends and the kernel hold, in kB.
type usage struct {
	resident, anonymous, heap, slab float64
	files                           float64
}

func lookAt(ends []*child) (u usage, err error) {
	for _, c := range ends { // all heaps first: asking changes what is resident
		text, err := c.ask("memory")
		if err != nil {
			return u, err
		}
		var heap float64
		if _, err := fmt.Sscan(text, &heap); err != nil {
			return u, err
		}
		u.heap += heap * 1000
	}
	for _, c := range ends {
		resident, anonymous, err := memoryOf(c.pid())
		if err != nil {
			return u, err
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.pid()))
		if err != nil {
			return u, err
		}
		u.resident, u.anonymous, u.files = u.resident+resident*1000, u.anonymous+anonymous*1000, u.files+float64(len(files))
	}
	slab, err := readKB("/proc/meminfo", "Slab")
	u.slab = slab["Slab"]
	return u, err
}

func (u usage) less(v usage) usage {
	return usage{u.resident - v.resident, u.anonymous - v.anonymous, u.heap - v.heap, u.slab - v.slab, u.files - v.files}
}

// addTo adds a value for each of so many streams to the figures.
func (u usage) addTo(f [6]figure, streams float64) [6]figure {
	for i, v := range []float64{u.resident, u.anonymous, u.heap, u.slab, u.resident + u.slab, u.files} {
		f[i].Values = append(f[i].Values, v/streams)
	}
	return f
}
