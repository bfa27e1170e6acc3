package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A crowd says how many processes of one mesh are measured, and when.
type crowd struct {
	processes int
	settle    time.Duration // after all have found all
	idle      time.Duration // over which CPU time is summed
}

// pollEach is how often a process is asked until it has found all. One is asked at
// a time, so that asking takes little from what is measured.
const pollEach = 20 * time.Millisecond

// measureLocalMany starts processes one after the other, each told of the first
// alone, and takes how long they need to find each other and what they cost when
// they do nothing.
func measureLocalMany(c crowd) measurement {
	return func(ctx context.Context, s *site) ([]figure, error) {
		all, err := c.start(ctx, s)
		if err != nil {
			return all, err
		}
		if err := wait(ctx, c.settle); err != nil {
			return all, err
		}
		cpu, err := c.idleCPU(ctx, s)
		if err != nil {
			return all, err
		}
		rest, err := c.holdings(ctx, s)
		return append(append(all, cpu), rest...), err
	}
}

// start starts all and returns how long each took, and how long it was from the last
// start until all had found all.
func (c crowd) start(ctx context.Context, s *site) ([]figure, error) {
	ready := figure{Name: fmt.Sprintf("each of %d: process start to ready", c.processes), Unit: "ms"}
	found := figure{Name: fmt.Sprintf("%d processes: last start until all have found all", c.processes), Unit: "ms"}
	flags := localFlags(filepath.Join(s.dir, "local"))
	first := s.node("n0")
	if _, err := first.start(ctx, "", append([]string{"up", "--ephemeral"}, flags...)...); err != nil {
		return nil, err
	}
	invite, err := first.output(ctx, "invite")
	if err != nil {
		return nil, err
	}
	var last time.Time
	for i := 1; i < c.processes; i++ {
		last = time.Now()
		args := append([]string{"join", "-", "--ephemeral"}, flags...)
		took, err := s.node(fmt.Sprint("n", i)).start(ctx, invite, args...)
		if err != nil {
			return []figure{ready}, err
		}
		ready.addTime(took)
	}
	fmt.Fprintf(os.Stderr, "%d processes are ready; waiting until all have found all\n", c.processes)
	patience, cancel := context.WithTimeout(ctx, localPatience)
	defer cancel()
	for i, n := range s.nodes {
		up, err := n.awaitUp(patience, c.processes-1)
		switch {
		case ctx.Err() != nil:
			return []figure{ready}, ctx.Err()
		case patience.Err() != nil:
			found.Note = fmt.Sprintf("after %v %s has found %d of %d; %d had all", localPatience, n.name, up, c.processes-1, i)
			return []figure{ready, found}, nil
		case err != nil:
			return []figure{ready}, err
		}
	}
	found.addTime(time.Since(last))
	return []figure{ready, found}, nil
}

// awaitUp waits until a node has so many others up, and returns how many it has.
func (n *node) awaitUp(ctx context.Context, count int) (up int, err error) {
	for {
		var status struct{ Up int }
		if err := n.call(ctx, "GET", "status", "", &status); err != nil {
			return up, err
		}
		if up = status.Up; up >= count {
			return up, nil
		}
		if err := wait(ctx, pollEach); err != nil {
			return up, err
		}
	}
}

// idleCPU returns what all processes together use of one core.
func (c crowd) idleCPU(ctx context.Context, s *site) (figure, error) {
	f := figure{Name: fmt.Sprintf("CPU of all %d, idle, over %v", c.processes, c.idle), Unit: "% of a core"}
	before, err := s.cpu()
	if err != nil {
		return f, err
	}
	began := time.Now()
	if err := wait(ctx, c.idle); err != nil {
		return f, err
	}
	after, err := s.cpu()
	f.Values = []float64{100 * float64(after-before) / float64(time.Since(began))}
	return f, err
}

// holdings returns what each process holds.
func (c crowd) holdings(ctx context.Context, s *site) ([]figure, error) {
	resident := figure{Name: fmt.Sprintf("resident memory of one of %d", c.processes), Unit: "MB"}
	anonymous := figure{Name: "of which no file is behind", Unit: "MB"}
	connected := figure{Name: "members that one is connected to"}
	up := figure{Name: "other members that one has up"}
	paths := map[string]bool{}
	for _, n := range s.nodes {
		all, own, err := n.memory()
		if err != nil {
			return nil, err
		}
		var members []struct {
			Self, Up bool
			Path     string
		}
		if err := n.call(ctx, "GET", "members", "", &members); err != nil {
			return nil, err
		}
		var ups, conns int
		for _, m := range members {
			if m.Self {
				continue
			}
			if m.Up {
				ups++
			}
			if m.Path != "" {
				conns++
				paths[m.Path] = true
			}
		}
		resident.Values, anonymous.Values = append(resident.Values, all), append(anonymous.Values, own)
		connected.Values, up.Values = append(connected.Values, float64(conns)), append(up.Values, float64(ups))
	}
	connected.Note = "by " + strings.Join(slices.Sorted(maps.Keys(paths)), ",")
	return []figure{resident, anonymous, connected, up}, nil
}

// cpu returns the CPU time that all nodes have used so far.
func (s *site) cpu() (sum time.Duration, err error) {
	for _, n := range s.nodes {
		used, err := cpuOf(n.cmd.Process.Pid)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", n.name, err)
		}
		sum += used
	}
	return sum, nil
}

// cpuOf returns the user and system time of a process.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time is read from /proc: %w", err)
	}
	return parseCPU(string(text))
}

// parseCPU reads the text of a /proc/PID/stat, which counts in hundredths of a
// second. See proc_pid_stat(5).
func parseCPU(text string) (time.Duration, error) {
	// The second field is the command's name in parentheses, in which there may
	// be spaces and parentheses.
	const third, utime, stime = 3, 14, 15
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= stime-third {
		return 0, fmt.Errorf("stat %q: too few fields", text)
	}
	var sum time.Duration
	for _, f := range fields[utime-third : stime-third+1] {
		ticks, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("stat %q: time: %w", text, err)
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum, nil
}
