package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
)

// localStartRole makes this program one that measures starts where it is: its
// arguments are the site's command, a directory and the number of rounds. It prints
// a figure a line, as JSON.
const localStartRole = "local-start-here"

// measureLocalStart takes how long a second process of this machine needs to be
// ready and to be found, with a network and where there is none at all.
func measureLocalStart(rounds int) measurement {
	return func(ctx context.Context, s *site) ([]figure, error) {
		figures := localStarts(ctx, s, rounds, "with a network")
		if err := ctx.Err(); err != nil {
			return figures, err
		}
		inside, err := startsWithoutNetwork(ctx, s, rounds)
		return append(figures, inside...), err
	}
}

// startsWithoutNetwork measures in a process that has no network.
func startsWithoutNetwork(ctx context.Context, s *site, rounds int) ([]figure, error) {
	c, err := newChild(ctx, localStartRole, s.command, filepath.Join(s.dir, "apart"), strconv.Itoa(rounds))
	if err != nil {
		return nil, err
	}
	err = withoutNetwork(c.cmd)
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return []figure{{Name: "without a network", Note: err.Error()}}, nil
	}
	defer c.stop()
	var figures []figure
	for c.lines.Scan() {
		var f figure
		if err := json.Unmarshal(c.lines.Bytes(), &f); err != nil {
			return figures, fmt.Errorf("%s: printed %q: %w", localStartRole, c.lines.Bytes(), err)
		}
		figures = append(figures, f)
	}
	return figures, c.lines.Err()
}

// localStartsRole measures where this process is, until its input ends.
func localStartsRole(args []string) error {
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if err := os.Mkdir(args[1], 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		bufio.NewScanner(os.Stdin).Scan()
		cancel()
	}()
	s := &site{dir: args[1], command: args[0]}
	defer s.close()
	for _, f := range localStarts(ctx, s, rounds, "without a network") {
		f.print(true)
	}
	return nil
}

// localStarts takes all figures where this process is. Of what can't be had there
// the figure says why.
func localStarts(ctx context.Context, s *site, rounds int, where string) []figure {
	join := figure{Name: "join, " + where + ": process start to ready", Unit: "ms"}
	up := figure{Name: "up, " + where + ": process start to ready", Unit: "ms"}
	listed := figure{Name: "join, " + where + ": its socket appears to first process has it up", Unit: "ms"}
	if err := startSeconds(ctx, s, rounds, &join, &up); err != nil {
		for _, f := range []*figure{&join, &up} {
			f.giveUp(err)
		}
	}
	if err := findSeconds(ctx, s, rounds, &listed); err != nil {
		listed.giveUp(err)
	}
	return []figure{join, up, listed}
}

// giveUp notes in one line why there are no more values.
func (f *figure) giveUp(err error) {
	f.Note = fmt.Sprintf("ended after %d: %s", len(f.Values), strings.Join(strings.Fields(err.Error()), " "))
}

// startSeconds starts second processes, new ones and one that was there before.
func startSeconds(ctx context.Context, s *site, rounds int, join, up *figure) error {
	flags := localFlags(filepath.Join(s.dir, "start"))
	first, back := s.node("first"), s.node("back")
	if _, err := first.start(ctx, "", append([]string{"up"}, flags...)...); err != nil {
		return err
	}
	defer first.stop()
	invite, err := first.output(ctx, "invite")
	if err != nil {
		return err
	}
	err = back.startSecond(ctx, new(figure), invite, append([]string{"join", "-"}, flags...)...)
	if err != nil {
		return err
	}
	for i := range rounds {
		args := append([]string{"join", "-", "--ephemeral"}, flags...)
		if err := s.node(fmt.Sprint("j", i)).startSecond(ctx, join, invite, args...); err != nil {
			return err
		}
		if err := back.startSecond(ctx, up, "", append([]string{"up"}, flags...)...); err != nil {
			return err
		}
	}
	return nil
}

// startSecond adds the time that a node takes to be ready, and not alone, and ends
// it.
func (n *node) startSecond(ctx context.Context, f *figure, stdin string, args ...string) error {
	took, err := n.start(ctx, stdin, args...)
	defer n.stop()
	if err != nil {
		return err
	}
	var status struct{ Up int }
	if err := n.call(ctx, "GET", "status", "", &status); err != nil {
		return err
	}
	if status.Up == 0 {
		return fmt.Errorf("%s was ready after %v without having found anybody", n.name, took.Round(time.Millisecond))
	}
	f.addTime(took)
	return nil
}

// findSeconds has this process be the first, on no path but that of this machine,
// and watch for others.
func findSeconds(ctx context.Context, s *site, rounds int, listed *figure) error {
	dir := filepath.Join(s.dir, "found")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	mesh, err := overlay.Open(ctx, localMesh(overlay.Config{Name: "watcher"}, dir))
	if err != nil {
		return err
	}
	defer mesh.Close()
	inv, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	sockets, err := watchSockets(dir)
	if err != nil {
		return err
	}
	defer sockets.close()
	for i := range rounds {
		took, err := findSecond(ctx, mesh, s.node(fmt.Sprint("f", i)), inv.Text(), sockets)
		if err != nil {
			return err
		}
		listed.addTime(took)
	}
	return nil
}

// findSecond returns the time from when a node's socket is there until the mesh has
// it up. It is below zero if the node said that it was there before.
func findSecond(ctx context.Context, mesh *overlay.Mesh, n *node, invite string, sockets *socketWatch) (time.Duration, error) {
	sockets.take()
	ctx, cancel := context.WithTimeout(ctx, localPatience)
	defer cancel()
	up := make(chan time.Time, 1)
	go func() {
		defer close(up)
		for members := range mesh.Watch(ctx) {
			for _, m := range members {
				if m.Name == n.name && m.Up {
					up <- time.Now()
					return
				}
			}
		}
	}()
	_, err := n.start(ctx, invite, append([]string{"join", "-", "--ephemeral"}, localFlags(sockets.dir)...)...)
	defer n.stop()
	if err != nil {
		return 0, err
	}
	at, ok := <-up
	if !ok {
		return 0, fmt.Errorf("%s is ready and is not found", n.name)
	}
	return sinceSocket(at, sockets.take())
}

// sinceSocket returns the time since the last of the sockets that had appeared. A
// socket may get its name when it is ready, and then appears twice.
func sinceSocket(at time.Time, appeared []time.Time) (time.Duration, error) {
	if len(appeared) == 0 {
		return 0, errors.New("no socket appeared in the directory")
	}
	last := appeared[0]
	for _, t := range appeared {
		if t.After(last) && !t.After(at) {
			last = t
		}
	}
	return at.Sub(last), nil
}
