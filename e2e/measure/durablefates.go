package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// peerKilled measures when an end knows that the other is gone for good: when that comes
// back as one that knows nothing of the stream, and when it does not come back.
func peerKilled(ctx context.Context, n *network, rounds int) ([]figure, error) {
	rounds = min(rounds, fewRounds)
	restarted := figure{Name: "peer killed and restarted: from ready until the stream's error", Unit: "ms"}
	gone := figure{Name: fmt.Sprintf("peer killed, streams limited to %v: until the stream's error", rowLimit), Unit: "ms"}
	for range rounds {
		if err := n.killPeer(ctx, &restarted, true); err != nil {
			return []figure{restarted, gone}, err
		}
	}
	for range rounds {
		if err := n.killPeer(ctx, &gone, false, rowLimit); err != nil {
			return []figure{gone, restarted}, err
		}
	}
	return []figure{restarted, gone}, nil
}

func (n *network) killPeer(ctx context.Context, f *figure, again bool, words ...any) error {
	d, err := n.openDurableLab(ctx, homeKinds, 2, words...)
	if err != nil {
		return err
	}
	defer d.close()
	d.setDelay(networkDelay)
	a, b := d.ends[0], d.ends[1]
	if _, err := a.ask("hold", b.id(), 1, "durable", echoProtocol); err != nil {
		return err
	}
	if _, err := a.ask("echo"); err != nil {
		return err
	}
	if _, err := a.ask("watch"); err != nil {
		return err
	}
	killed := time.Now()
	b.kill()
	var until time.Duration
	if again {
		if err := b.start(ctx); err != nil {
			return err
		}
		until = time.Since(killed)
		if err := d.keep(1); err != nil {
			return err
		}
	}
	text, err := a.ask("ended", errAwaited)
	if err != nil {
		return err
	}
	ms, why, _ := strings.Cut(text, " ")
	took, err := strconv.ParseFloat(ms, 64)
	f.Values = append(f.Values, max(0, took-float64(until.Milliseconds())))
	if !strings.Contains(f.Note, why) {
		f.Note += " " + why
	}
	return err
}

// durableMemory takes what an idle stream holds at each end, and how much more that is of
// a durable one.
func durableMemory(ctx context.Context, n *network, rounds int) ([]figure, error) {
	var figures [3][2]figure
	for i, kind := range []string{"plain", "durable", "durable beyond plain"} {
		for end, name := range []string{"dials", "accepts"} {
			figures[i][end] = figure{Name: fmt.Sprintf("an idle stream of %d, %s, at the end that %s", manyHeld, kind, name), Unit: "kB"}
		}
	}
	all := func() []figure { return append(append(figures[2][:], figures[1][:]...), figures[0][:]...) }
	for range min(rounds, 3) {
		var each [2][2]float64
		for i, kind := range []string{"plain", "durable"} {
			var err error
			if each[i], err = n.holdMany(ctx, kind); err != nil {
				return all(), err
			}
			for end, kb := range each[i] {
				figures[i][end].Values = append(figures[i][end].Values, kb)
			}
		}
		for end := range figures[2] {
			figures[2][end].Values = append(figures[2][end].Values, each[1][end]-each[0][end])
		}
	}
	return all(), nil
}

// holdMany returns the memory that an idle stream takes at both ends, in kB.
func (n *network) holdMany(ctx context.Context, kind string) (each [2]float64, err error) {
	d, err := n.openDurableLab(ctx, neither, 0)
	if err != nil {
		return each, err
	}
	defer d.close()
	a, b := d.ends[0], d.ends[1]
	before, err := d.heaps()
	if err != nil {
		return each, err
	}
	if _, err := a.ask("hold", b.id(), manyHeld, kind, echoProtocol); err != nil {
		return each, err
	}
	if _, err := a.ask("echo"); err != nil {
		return each, err
	}
	after, err := d.heaps()
	for i := range each {
		each[i] = (after[i] - before[i]) * 1000 / manyHeld
	}
	return each, err
}

// heaps returns the memory of both ends, in MB.
func (d *durableLab) heaps() (out [2]float64, err error) {
	texts, err := d.both("memory")
	for i := range out {
		if err == nil {
			out[i], err = strconv.ParseFloat(texts[i], 64)
		}
	}
	return out, err
}

// durableStalled has many streams on which the peer reads nothing filled, and looks at
// one beside them that works.
func durableStalled(ctx context.Context, n *network, rounds int) ([]figure, error) {
	name := fmt.Sprintf("%d streams that nobody reads: ", manyHeld)
	taken := figure{Name: name + "bytes that all of them took", Unit: "MB"}
	heaps := [2]figure{{Name: name + "memory of the end that writes", Unit: "MB"}, {Name: name + "memory of the end that does not read", Unit: "MB"}}
	alone := figure{Name: "a stream without them: round trip, median", Unit: "ms"}
	beside := figure{Name: "a stream beside them: round trip, median", Unit: "ms"}
	fast := [2]figure{{Name: "a stream without them: bulk", Unit: "Mbit/s"}, {Name: "a stream beside them: bulk", Unit: "Mbit/s"}}
	all := func() []figure { return []figure{taken, heaps[0], heaps[1], alone, beside, fast[0], fast[1]} }
	for range min(rounds, 3) {
		err := n.stallMany(ctx, &taken, &heaps, [2]*figure{&alone, &beside}, &fast)
		if err != nil {
			return all(), err
		}
	}
	return all(), nil
}

func (n *network) stallMany(ctx context.Context, taken *figure, heaps *[2]figure, trips [2]*figure, fast *[2]figure) error {
	d, err := n.openDurableLab(ctx, neither, 0)
	if err != nil {
		return err
	}
	defer d.close()
	a, b := d.ends[0], d.ends[1]
	if err := a.works(b.id(), "durable", trips[0], &fast[0]); err != nil {
		return err
	}
	if _, err := a.ask("release"); err != nil {
		return err
	}
	before, err := d.heaps()
	if err != nil {
		return err
	}
	if _, err := a.ask("hold", b.id(), manyHeld, "durable", sinkProtocol); err != nil {
		return err
	}
	text, err := a.ask("stuff")
	if err != nil {
		return err
	}
	bytes, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	after, err := d.heaps()
	if err != nil {
		return err
	}
	taken.Values = append(taken.Values, bytes/1e6)
	for i := range heaps {
		heaps[i].Values = append(heaps[i].Values, after[i]-before[i])
	}
	return a.works(b.id(), "durable", trips[1], &fast[1])
}

// works adds how a stream to a peer does: the median of its round trip, and bulk.
func (c *durableChild) works(peer, kind string, trip, fast *figure) error {
	text, err := c.ask("round-trip", peer, kind, rowTrips)
	if err != nil {
		return err
	}
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	if fast.Note, err = c.ask("bulk", peer, kind); err != nil {
		return err
	}
	bytes, seconds, err := c.drain()
	trip.Values = append(trip.Values, ms)
	fast.Values = append(fast.Values, bytes*8/1e6/seconds)
	return err
}

// drain returns how many bytes of bulk come in how many seconds.
func (c *durableChild) drain() (bytes, seconds float64, err error) {
	text, err := c.ask("drained")
	if err == nil {
		_, err = fmt.Sscan(text, &bytes, &seconds)
	}
	return bytes, seconds, err
}
