package main

import (
	"context"
	"strconv"
)

// costTrips is how many round trips a median is of.
const costTrips = 2000

// A costOf is what streams of one kind do where nothing goes wrong.
type costOf struct{ rate, cpu, trip figure }

// durableCost compares durable streams with plain ones, in turns, between two hosts with
// nothing between them.
func durableCost(rounds int) measurement {
	return inNetwork(func(ctx context.Context, n *network) ([]figure, error) {
		d, err := n.openDurableLab(ctx, neither, 0)
		if err != nil {
			return nil, err
		}
		defer d.close()
		var costs [2]costOf
		kinds := []string{"plain", "durable"}
		for i, kind := range kinds {
			costs[i] = newCost(kind+": ", "Gbit/s", "CPU-s/GiB", "ms")
		}
		ratio := newCost("durable, of plain: ", "", "", "")
		for round := range rounds {
			for turn := range kinds {
				i := (round + turn) % len(kinds) // neither is always the first
				if err := costs[i].measure(d, kinds[i]); err != nil {
					return nil, err
				}
			}
			ratio.divide(costs[1], costs[0])
		}
		var all []figure
		for _, c := range []costOf{costs[0], costs[1], ratio} {
			all = append(all, c.rate, c.cpu, c.trip)
		}
		return all, n.lab.Err()
	})
}

func newCost(name, rate, cpu, trip string) costOf {
	return costOf{
		rate: figure{Name: name + "bulk", Unit: rate},
		cpu:  figure{Name: name + "CPU of both ends for bulk", Unit: cpu},
		trip: figure{Name: name + "round trip, median", Unit: trip},
	}
}

func (c *costOf) measure(d *durableLab, kind string) error {
	peer := d.ends[1].id()
	text, err := d.ends[0].ask("round-trip", peer, kind, costTrips)
	if err != nil {
		return err
	}
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	if c.rate.Note, err = d.ends[0].ask("bulk", peer, kind); err != nil {
		return err
	}
	before, err := d.cpu()
	if err != nil {
		return err
	}
	bytes, seconds, err := d.ends[0].drain()
	if err != nil {
		return err
	}
	after, err := d.cpu()
	c.trip.Values = append(c.trip.Values, ms)
	c.rate.Values = append(c.rate.Values, bytes*8/1e9/seconds)
	c.cpu.Values = append(c.cpu.Values, (after-before).Seconds()/(bytes/(1<<30)))
	return err
}

// divide adds the last of each figure of a by that of b.
func (c *costOf) divide(a, b costOf) {
	last := func(f figure) float64 { return f.Values[len(f.Values)-1] }
	for _, v := range []struct {
		to   *figure
		a, b figure
	}{{&c.rate, a.rate, b.rate}, {&c.cpu, a.cpu, b.cpu}, {&c.trip, a.trip, b.trip}} {
		v.to.Values = append(v.to.Values, last(v.a)/last(v.b))
	}
}
