package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// stopGrace is how long a process may take to end when asked to.
const stopGrace = 5 * time.Second

// A process is a child of this program. Its methods may be called from any
// goroutine, but only one may read lines.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser // nil unless the process is a role
	lines  lineWriter     // its standard output
	stderr tail
	done   chan struct{} // closed once it has ended,
	err    error         // and then this says how
}

// startProcess starts cmd. It ends by stop alone, or by itself.
func startProcess(name string, cmd *exec.Cmd, stdin io.WriteCloser) (*process, error) {
	p := &process{
		name: name, cmd: cmd, stdin: stdin,
		lines: lineWriter{lines: make(chan string, 64)},
		done:  make(chan struct{}),
	}
	cmd.Stdout, cmd.Stderr = &p.lines, &p.stderr
	// What the process leaves behind may hold its output open.
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process; stop waits for it
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// line returns the next line that the process prints. Lines that nobody waits
// for are kept up to some number, then dropped.
func (p *process) line(ctx context.Context) (string, error) {
	select {
	case line := <-p.lines.lines:
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s: no answer: %w%s", p.name, ctx.Err(), p.stderr.quoted())
	case <-p.done:
	}
	select {
	case line := <-p.lines.lines: // its last words
		return line, nil
	default:
		return "", p.ended()
	}
}

// ended returns how the process ended, and nil while it runs.
func (p *process) ended() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended: %s%s", p.name, how, p.stderr.quoted())
}

// stop asks the process to end, by the end of its input and an interrupt, then
// kills it, and returns when it is gone.
func (p *process) stop() {
	if p.stdin != nil {
		p.stdin.Close()
	}
	interrupt(p.cmd)
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		kill(p.cmd)
		<-p.done
	}
}

// A lineWriter puts the lines written to it into a channel.
type lineWriter struct {
	lines chan string
	rest  []byte
}

// maxLine bounds what is kept of a line that doesn't end.
const maxLine = 64 << 10

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			break
		}
		select {
		case w.lines <- strings.TrimSuffix(string(line), "\r"):
		default:
		}
		w.rest = rest
	}
	if len(w.rest) > maxLine {
		w.rest = nil
	}
	return len(b), nil
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const maxTail = 1 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - maxTail; over > 0 {
		t.text = bytes.Clone(t.text[over:])
	}
	return len(b), nil
}

// quoted returns the text to be put behind an error, empty if there is none.
func (t *tail) quoted() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	if text == "" {
		return ""
	}
	return ": " + text
}
