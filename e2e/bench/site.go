package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// startTime bounds how long a part of a way may take to come up.
const startTime = 15 * time.Second

// A site is a way that has been brought up: all its processes, client and server
// included, and a folder for their files. One goroutine uses it.
type site struct {
	places
	dir    string // removed by stop
	client *process
	procs  []*process
	undo   []func()

	// path tells by which path streams go now. It is nil where the way has none
	// to tell.
	path func(context.Context) (string, error)
}

// openSite brings up a way and sees a byte through it.
func openSite(ctx context.Context, w way, at places) (_ *site, err error) {
	if w.ends() != tcpEnds && at.apart() {
		return nil, skip("its ends are on one machine")
	}
	s := &site{places: at}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	server, err := s.role(ctx, s.far, "server", w.ends(), s.dir)
	if err != nil {
		return nil, err
	}
	dial, err := w.start(ctx, s, server)
	if err != nil {
		return nil, err
	}
	if s.client, err = s.startRole(s.near, "client", w.ends(), dial); err != nil {
		return nil, err
	}
	err = s.retry(ctx, func(ctx context.Context) error {
		_, err := s.ask(ctx, request{Op: "conns", AtOnce: 1, Conns: 1, Time: startTime})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("no byte came through: %w", err)
	}
	return s, nil
}

// start starts a process that ends with the site.
func (s *site) start(name string, cmd *exec.Cmd) (*process, error) {
	p, err := startProcess(name, cmd, nil)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	return p, nil
}

// role starts this program in a role at a place, and returns the address that it
// prints.
func (s *site) role(ctx context.Context, at place, args ...string) (addr string, err error) {
	p, err := s.startRole(at, args...)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return p.line(ctx)
}

func (s *site) startRole(at place, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := at.command(self, append([]string{roleArg, at.ip()}, args...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p, err := startProcess(args[0], cmd, stdin)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	return p, nil
}

// output runs a command to its end and returns what it printed.
func (s *site) output(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ownGroup(cmd)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// retry calls try until it succeeds, a process of the site ends or startTime is
// over.
func (s *site) retry(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
		if err := s.ended(); err != nil {
			return err
		}
	}
}

// ended returns what ended that should run.
func (s *site) ended() error {
	var errs []error
	for _, p := range s.procs {
		errs = append(errs, p.ended())
	}
	return errors.Join(errs...)
}

// ask has the client measure.
func (s *site) ask(ctx context.Context, q request) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, q.Time+2*stall)
	defer cancel()
	if err := json.NewEncoder(s.client.stdin).Encode(q); err != nil {
		return reply{}, err
	}
	line, err := s.client.line(ctx)
	if err != nil {
		return reply{}, err
	}
	var r reply
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return reply{}, fmt.Errorf("client: %w", err)
	}
	if r.Err != "" {
		return reply{}, errors.Join(errors.New(r.Err), s.ended())
	}
	return r, nil
}

// cpu returns the CPU seconds that all processes of the site, and all that they
// started, have used so far.
func (s *site) cpu() (float64, error) {
	var pids []int
	for _, p := range s.procs {
		pids = append(pids, p.pid())
	}
	return cpuSeconds("/proc", pids)
}

// onStop has f called by stop, after all processes have ended.
func (s *site) onStop(f func()) { s.undo = append(s.undo, f) }

// stop ends all processes, the last started first, and removes their files. It
// is safe to call twice.
func (s *site) stop() {
	for _, p := range slices.Backward(s.procs) {
		p.stop()
	}
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
	*s = site{}
}
