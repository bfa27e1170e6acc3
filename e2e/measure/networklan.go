package main

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

const (
	// lanBytes are sent once there is a path by the local network, and lanQuiet is for
	// how long the relay is looked at meanwhile.
	lanBytes = 10 << 20
	lanQuiet = 3 * time.Second

	// lanLeft is when the connection through the relay has been left for sure: half a
	// second after there is a better one, see package p2p.
	lanLeft = time.Second
)

// measureNetworkLAN has two nodes of one local network meet that do not look for each
// other there, and counts what goes through the relay once they have found out.
func measureNetworkLAN(rounds int, filter string) measurement {
	return inNetwork(func(ctx context.Context, n *network) (all []figure, err error) {
		if err := n.startRelays(ctx, 1); err != nil {
			return nil, err
		}
		for _, p := range together {
			c := cell{p, p, "lan"}
			if !c.chosen(filter) {
				continue
			}
			figures, err := n.throughTheLAN(ctx, c, rounds)
			all = append(all, figures...)
			if err != nil {
				return all, fmt.Errorf("%s: %w", c.name(), err)
			}
		}
		return all, nil
	})
}

func (n *network) throughTheLAN(ctx context.Context, c cell, rounds int) ([]figure, error) {
	figures := []figure{
		{Name: c.name() + ": first answer until the path by the LAN", Unit: "ms"},
		{Name: c.name() + ": through the relay until then", Unit: "bytes"},
		{Name: c.name() + ": through the relay from then on, of 10 MB", Unit: "bytes"},
	}
	for range rounds {
		took, before, after, err := n.lanRound(ctx, c)
		if err != nil {
			return figures, err
		}
		figures[0].addTime(took)
		figures[1].Values = append(figures[1].Values, before)
		figures[2].Values = append(figures[2].Values, after)
	}
	return figures, nil
}

func (n *network) lanRound(ctx context.Context, c cell) (took time.Duration, before, after float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*networkPatience)
	defer cancel()
	start, err := n.relayed(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	p := &bulkEnds{}
	defer p.close()
	for _, end := range []struct {
		node  **node
		which string
	}{{&p.from, "left"}, {&p.to, "right"}} {
		if *end.node, err = n.join(ctx, c.a, end.which, "--no-relay", "--no-lan"); err != nil {
			return 0, 0, 0, err
		}
	}
	var pong struct{ Path string }
	if err := p.to.call(ctx, "POST", "ping?member="+url.QueryEscape(p.from.name), "", &pong); err != nil {
		return 0, 0, 0, err
	}
	began := time.Now()
	for path := pong.Path; path != c.best; {
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return 0, 0, 0, fmt.Errorf("by %s: %w", path, err)
		}
		if path, err = p.to.pathTo(ctx, p.from.name); err != nil {
			return 0, 0, 0, err
		}
	}
	took = time.Since(began)
	if err := p.serve(ctx); err != nil {
		return 0, 0, 0, err
	}
	if err := wait(ctx, lanLeft); err != nil {
		return 0, 0, 0, err
	}
	left, err := n.relayed(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	if err := p.fetch(ctx, lanBytes, holeLimit); err != nil {
		return 0, 0, 0, err
	}
	if err := wait(ctx, lanQuiet); err != nil {
		return 0, 0, 0, err
	}
	end, err := n.relayed(ctx)
	return took, left - start, end - left, err
}

// relayed returns how many bytes the first relay has carried.
func (n *network) relayed(ctx context.Context) (float64, error) {
	var status struct{ Relaying struct{ Bytes uint64 } }
	err := n.relay.call(ctx, "GET", "status", "", &status)
	return float64(status.Relaying.Bytes), err
}
