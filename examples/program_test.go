package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"
)

// programs is where TestMain puts the examples that it builds.
var programs string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	// The examples meet in a directory of these tests.
	run := filepath.Join(dir, "run")
	if err := errors.Join(os.Mkdir(run, 0o700), os.Setenv("XDG_RUNTIME_DIR", run)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./...", "../cmd/p2pnode").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build the examples: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// maxRun bounds how long a program may run: the whole of a test but for what
// else the machine has to do.
const maxRun = 2 * time.Minute

// A program is an example that runs in a process of its own.
type program struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
	stderr bytes.Buffer
	seen   bytes.Buffer // what was read of stdout
	ended  bool
}

// start runs an example. One that is still there at the end of the test is
// killed.
func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	return startIn(t, ".", name, args...)
}

// startIn is start in a folder.
func startIn(t *testing.T, dir, name string, args ...string) *program {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a process can't be interrupted by another on Windows")
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxRun)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(programs, name), args...)
	cmd.Dir = dir
	return startCommand(t, name, cmd)
}

// startCommand is start for what is no example in Go. It ends with the command's context.
func startCommand(t *testing.T, name string, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, name: name, cmd: cmd}
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewScanner(stdout)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.ended {
			_ = p.cmd.Process.Kill() // it may have ended by itself
			_ = p.cmd.Wait()         // says that it was killed
		}
	})
	return p
}

// expect reads on to a line that matches, and returns its submatches.
func (p *program) expect(pattern string) []string {
	p.t.Helper()
	want := regexp.MustCompile(pattern)
	for p.next() {
		if match := want.FindStringSubmatch(p.stdout.Text()); match != nil {
			return match
		}
	}
	p.t.Fatalf("%s ended without a line like %q; it printed\n%s%s", p.name, pattern, &p.seen, &p.stderr)
	return nil
}

func (p *program) next() bool {
	if !p.stdout.Scan() {
		return false
	}
	p.seen.Write(append(p.stdout.Bytes(), '\n'))
	return true
}

// invite returns the invite in the line that the program says to type.
func (p *program) invite() string {
	p.t.Helper()
	return p.expect(`^go run \./examples/` + p.name + ` (?:-name bob )?(p2pnode1\w+)(?: < FILE)?$`)[1]
}

func (p *program) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, text); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, &p.stderr)
	}
}

// interrupt ends the program as Ctrl-C does.
func (p *program) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatalf("interrupt %s: %v", p.name, err)
	}
	p.wait()
}

// endInput ends the program as Ctrl-D does.
func (p *program) endInput() {
	p.t.Helper()
	if err := p.stdin.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
}

// wait waits for the program's end, which must be a good one.
func (p *program) wait() {
	p.t.Helper()
	for p.next() {
	}
	p.ended = true
	if err := p.cmd.Wait(); err != nil || p.stderr.Len() > 0 {
		p.t.Errorf("%s ended with %v, want exit code 0 and nothing on stderr; it printed\n%s%s", p.name, err, &p.seen, &p.stderr)
	}
}
