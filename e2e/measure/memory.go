package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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

// measureMemory takes the memory of idle nodes that are connected to all others,
// in a small mesh and in a larger one.
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
	many, err := growTo(ctx, s, invite, manyPeers)
	if err != nil {
		return few, err
	}
	each := figure{Name: "resident memory for each further connection", Unit: "kB"}
	each.Values = []float64{(many[0].percentile(50) - few[0].percentile(50)) * 1000 / (manyPeers - fewPeers)}
	return append(append(few, many...), each), nil
}

// growTo starts nodes until each has that many peers, and measures them all: what
// is resident, and what of that is their own and not of the program's file.
func growTo(ctx context.Context, s *site, invite string, peers int) ([]figure, error) {
	for i := len(s.nodes); i <= peers; i++ {
		if _, err := s.node(fmt.Sprint("n", i)).start(ctx, invite, "join", "-", "--ephemeral"); err != nil {
			return nil, err
		}
	}
	for _, n := range s.nodes {
		if err := n.meetAll(ctx, s.nodes); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(os.Stderr, "%d nodes are connected; waiting %v for them to settle\n", len(s.nodes), settle)
	if err := wait(ctx, settle); err != nil {
		return nil, err
	}
	resident := figure{Name: fmt.Sprintf("resident memory of an idle node with %d peers", peers), Unit: "MB"}
	own := figure{Name: "of which heap, stacks and the like", Unit: "MB"}
	for _, n := range s.nodes {
		all, anonymous, err := n.memory()
		if err != nil {
			return nil, err
		}
		resident.Values = append(resident.Values, all)
		own.Values = append(own.Values, anonymous)
	}
	return []figure{resident, own}, nil
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

func (n *node) memory() (resident, anonymous float64, err error) {
	resident, anonymous, err = memoryOf(n.cmd.Process.Pid)
	if errors.Is(err, errNoMemory) {
		err = fmt.Errorf("%s ended: %w: %s", n.name, n.cmd.Wait(), n.stderr)
		n.cmd = nil
	}
	return resident, anonymous, err
}

// errNoMemory says that a process has ended, and is there only to be waited for.
var errNoMemory = errors.New("the process has no memory")

// memoryOf returns what of a process is in memory, and how much of that no file
// is behind, in MB.
func memoryOf(pid int) (resident, anonymous float64, err error) {
	kb, err := readKB(fmt.Sprintf("/proc/%d/status", pid), "VmRSS", "RssAnon")
	if err != nil {
		return 0, 0, err
	}
	if kb["VmRSS"] == 0 {
		return 0, 0, errNoMemory
	}
	return kb["VmRSS"] / 1000, kb["RssAnon"] / 1000, nil
}

// readKB returns what a file of the kernel's says of memory, in units of 1000
// bytes. A key that it does not have is not in the result.
func readKB(file string, keys ...string) (map[string]float64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("memory is read from /proc: %w", err)
	}
	out := make(map[string]float64)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		if !slices.Contains(keys, key) {
			continue
		}
		var kib float64
		if _, err := fmt.Sscan(value, &kib); err != nil {
			return nil, fmt.Errorf("%s in %s: %w", key, file, err)
		}
		out[key] = kib * 1.024
	}
	return out, nil
}

// wait returns after d, or with an error when ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
