package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	fewPeers  = 10
	manyPeers = 40

	// settle lets what a start has left behind be collected: the Go runtime
	// does so after two minutes without need.
	settle = 150 * time.Second
)

// measureMemory takes the resident memory of idle nodes that are connected to
// all others, in a small mesh and in a larger one.
func measureMemory(ctx context.Context, s *site) ([]figure, error) {
	first := s.node("n0")
	if _, err := first.start(ctx, "", "up", "--ephemeral"); err != nil {
		return nil, err
	}
	invite, err := first.output(ctx, "invite")
	if err != nil {
		return nil, err
	}
	few, err := growTo(ctx, s, invite, fewPeers)
	if err != nil {
		return nil, err
	}
	few.Name = fmt.Sprintf("resident memory of an idle node with %d peers", fewPeers)
	many, err := growTo(ctx, s, invite, manyPeers)
	if err != nil {
		return []figure{few}, err
	}
	many.Name = fmt.Sprintf("resident memory of an idle node with %d peers", manyPeers)
	each := figure{Name: "for each further connection", Unit: "kB"}
	each.Values = []float64{(many.percentile(50) - few.percentile(50)) * 1000 / (manyPeers - fewPeers)}
	return []figure{few, many, each}, nil
}

// growTo starts nodes until each has that many peers, and measures them all.
func growTo(ctx context.Context, s *site, invite string, peers int) (figure, error) {
	f := figure{Unit: "MB"}
	for i := len(s.nodes); i <= peers; i++ {
		if _, err := s.node(fmt.Sprint("n", i)).start(ctx, invite, "join", "-", "--ephemeral"); err != nil {
			return f, err
		}
	}
	for _, n := range s.nodes {
		if err := n.meetAll(ctx, s.nodes); err != nil {
			return f, err
		}
	}
	fmt.Fprintf(os.Stderr, "%d nodes are connected; waiting %v for them to settle\n", len(s.nodes), settle)
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return f, ctx.Err()
	}
	for _, n := range s.nodes {
		mb, err := n.resident()
		if err != nil {
			return f, err
		}
		f.Values = append(f.Values, mb)
	}
	return f, nil
}

// meetAll connects a node to all others.
func (n *node) meetAll(ctx context.Context, all []*node) error {
	for _, o := range all {
		if o == n {
			continue
		}
		if _, err := n.output(ctx, "ping", o.name, "-n", "1"); err != nil {
			return err
		}
	}
	return nil
}

// resident returns the process's resident memory in MB.
func (n *node) resident() (float64, error) { return residentOf(n.cmd.Process.Pid) }

func residentOf(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("resident memory is read from /proc: %w", err)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kb float64
			_, err := fmt.Sscan(rest, &kb)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, errors.New("no VmRSS in /proc")
}
