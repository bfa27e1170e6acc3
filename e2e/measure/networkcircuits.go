package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

const (
	// circuitEnds is how many nodes there are on each side: each has a circuit to each
	// of the other side, which makes a few more than 1,000.
	circuitEnds = 32

	// circuitSettle lets the ends be done with looking for a better path.
	circuitSettle = 30 * time.Second
)

// circuitCost takes what a circuit that nobody uses costs the relay, as the
// difference that many of them make.
func circuitCost(ctx context.Context, n *network) (_ []figure, err error) {
	names := []string{"circuit-relay", "circuit-left", "circuit-right"}
	at := []*lab.Host{n.lab.Host(names[0])}
	for i, p := range []place{symmetric, portRestricted} {
		h, err := n.hostAt(ctx, p, names[i+1])
		if err != nil {
			return nil, err
		}
		at = append(at, h)
	}
	var parts []*child
	for _, h := range at {
		c, err := startNodes(ctx, h)
		if err != nil {
			return nil, err
		}
		defer c.stop()
		parts = append(parts, c)
	}
	relay, left, right := parts[0], parts[1], parts[2]
	words, err := relay.ask("listen")
	if err != nil {
		return nil, err
	}
	if _, err := left.ask("settle", circuitEnds, words); err != nil {
		return nil, err
	}
	ids, err := right.ask("settle", circuitEnds, words)
	if err != nil {
		return nil, err
	}
	through, err := relayWords(words, at[0])
	if err != nil {
		return nil, err
	}
	before, err := holdings(relay)
	if err != nil {
		return nil, err
	}
	if _, err := left.ask("meet", through, ids); err != nil {
		return nil, err
	}
	if err := wait(ctx, circuitSettle); err != nil {
		return nil, err
	}
	after, err := holdings(relay)
	if err != nil {
		return nil, err
	}
	paths, err := left.ask("paths")
	if err != nil {
		return nil, err
	}
	const circuits = circuitEnds * circuitEnds
	heap := figure{Name: fmt.Sprintf("a circuit, of %d: heap and stacks of the relay", circuits), Unit: "kB", Note: "connections of one side: " + paths}
	resident := figure{Name: fmt.Sprintf("a circuit, of %d: resident memory of the relay", circuits), Unit: "kB"}
	heap.Values = []float64{(after[0] - before[0]) * 1000 / circuits}
	resident.Values = []float64{(after[1] - before[1]) * 1000 / circuits}
	return []figure{heap, resident}, nil
}

// relayWords returns the address at which a node on a host relays.
func relayWords(words string, h *lab.Host) (string, error) {
	for _, w := range strings.Fields(words)[1:] {
		if strings.HasPrefix(w, "/ip4/"+h.Addr().String()+"/tcp/") && !strings.HasSuffix(w, "/ws") {
			return w + "/p2p/" + strings.Fields(words)[0], nil
		}
	}
	return "", fmt.Errorf("the relay is at none of its host's addresses: %s", words)
}

// holdings returns the heap, and what is in memory, in MB.
func holdings(c *child) (out [2]float64, err error) {
	text, err := c.ask("memory")
	if err != nil {
		return out, err
	}
	if out[0], err = strconv.ParseFloat(text, 64); err != nil {
		return out, err
	}
	out[1], _, err = memoryOf(c.pid())
	return out, err
}
