package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// stopGrace is how long a process may take to end when asked to.
const stopGrace = 30 * time.Second

// A child is this program once more, in a role in which it carries out orders.
type child struct {
	role   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	stderr bytes.Buffer // to be read when the process has ended
}

// startChild starts a role. It ends by stop, or with this program.
func startChild(ctx context.Context, role string, args ...string) (*child, error) {
	c, err := newChild(ctx, role, args...)
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return c, nil
}

// newChild is a child still to be started.
func newChild(ctx context.Context, role string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: role, cmd: exec.CommandContext(ctx, self, append([]string{role}, args...)...)}
	ownProcess(c.cmd)
	return c, c.tie()
}

// tie makes the pipes by which orders go to the child, and answers come back.
func (c *child) tie() (err error) {
	c.cmd.Stderr = &c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.lines = bufio.NewScanner(stdout)
	return nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// An answer is what came of an order.
type answer struct{ Text, Error string }

// ask gives an order, which is words with spaces between, and waits for the
// answer.
func (c *child) ask(order ...any) (string, error) {
	if _, err := fmt.Fprintln(c.stdin, order...); err != nil {
		return "", fmt.Errorf("%s: %v: %w", c.role, order[0], err)
	}
	if !c.lines.Scan() {
		return "", fmt.Errorf("%s: %v: it ended: %w: %s", c.role, order[0], c.cmd.Wait(), &c.stderr)
	}
	var a answer
	if err := json.Unmarshal(c.lines.Bytes(), &a); err != nil {
		return "", fmt.Errorf("%s: %v: answered %q: %w", c.role, order[0], c.lines.Bytes(), err)
	}
	if a.Error != "" {
		return "", fmt.Errorf("%s: %v: %s", c.role, order[0], a.Error)
	}
	return a.Text, nil
}

// stop ends the child's input, and then the child if that does not.
func (c *child) stop() {
	c.stdin.Close()
	waitOrKill(c.cmd)
}

// waitOrKill waits until a process that was asked to end has.
func waitOrKill(cmd *exec.Cmd) {
	late := time.AfterFunc(stopGrace, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait() // how it ended does not matter any more
}

// obey carries out the orders that come in until they end.
func obey(in io.Reader, out io.Writer, orders map[string]func(args []string) (string, error)) error {
	lines, answers := bufio.NewScanner(in), json.NewEncoder(out)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			return errors.New("an order without words")
		}
		var a answer
		if do := orders[words[0]]; do == nil {
			a.Error = "no such order"
		} else if text, err := do(words[1:]); err != nil {
			a.Error = err.Error()
		} else {
			a.Text = text
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}
