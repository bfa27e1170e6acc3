package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptPatience is how long a script waits for what should take moments.
const scriptPatience = 30 * time.Second

type nodesKey struct{}

// nodes are the processes that a script runs in the background.
type nodes struct {
	mu      sync.Mutex
	running map[string]*background
}

// A background is a process and what it has written.
type background struct {
	cmd            *exec.Cmd
	stdout, stderr transcript
	ended          context.Context // done when the process has ended
}

func scriptNodes(ts *testscript.TestScript) *nodes { return ts.Value(nodesKey{}).(*nodes) }

func (n *nodes) killAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.running {
		_ = b.cmd.Process.Kill() // it may have ended
		<-b.ended.Done()
	}
}

// killOwners kills the nodes in the background whose directories are in a directory,
// should a script not have come to their end.
func killOwners(dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*", "owner.json")) // the pattern is good
	for _, file := range files {
		var owner struct {
			PID int `json:"pid"`
		}
		data, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(data, &owner) != nil || owner.PID <= 1 {
			continue
		}
		if p, err := os.FindProcess(owner.PID); err == nil {
			_ = p.Kill() // it may have ended
		}
	}
}

func (n *nodes) get(ts *testscript.TestScript, name string) *background {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.running[name]
	if b == nil {
		ts.Fatalf("no node %s is running", name)
	}
	return b
}

// wait waits until a process has ended by itself.
func (n *nodes) wait(ts *testscript.TestScript, name string) *background {
	b := n.get(ts, name)
	stuck := time.AfterFunc(scriptPatience, func() { _ = b.cmd.Process.Kill() })
	defer stuck.Stop()
	<-b.ended.Done()
	ts.Logf("[%s]\n%s", name, &b.stderr)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.running, name)
	return b
}

var readyLine = regexp.MustCompile(`(?m)^ready|"event":"ready"`)

func startNode(ts *testscript.TestScript, neg bool, args []string) {
	beginNode(ts, neg, args)
	b := scriptNodes(ts).get(ts, args[0])
	if !b.stdout.wait(b.ended, readyLine) {
		ts.Fatalf("%s is not ready: %s", args[0], &b.stderr)
	}
	ts.Logf("%s", &b.stdout)
}

func beginNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: node NAME ARGS...")
	}
	name := args[0]
	b := &background{cmd: command(ts, args[1:])}
	if in, err := os.Open(ts.MkAbs("stdin-" + name)); err == nil {
		b.cmd.Stdin = in
		defer in.Close()
	}
	b.cmd.Stdout, b.cmd.Stderr = &b.stdout, &b.stderr
	ts.Check(b.cmd.Start())
	var end context.CancelFunc
	b.ended, end = context.WithCancel(context.Background())
	go func() {
		defer end()
		_ = b.cmd.Wait() // ProcessState tells the same
	}()
	n := scriptNodes(ts)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running[name] = b
}

// command makes p2pnode as the script would run it.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, "p2pnode")
		if _, err := os.Stat(path); err != nil {
			continue
		}
		cmd := exec.Command(path, withFiles(ts, args)...)
		cmd.Dir = ts.MkAbs(".")
		for _, key := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", dirVariable, noLANVariable, "XDG_RUNTIME_DIR", "TMPDIR", "GORACE", "GOCOVERDIR"} {
			if value := ts.Getenv(key); value != "" {
				cmd.Env = append(cmd.Env, key+"="+value)
			}
		}
		return cmd
	}
	ts.Fatalf("no p2pnode in PATH")
	return nil
}

// withFiles puts the contents of files in the place of @FILE.
func withFiles(ts *testscript.TestScript, args []string) []string {
	var out []string
	for _, arg := range args {
		if file, ok := strings.CutPrefix(arg, "@"); ok {
			arg = strings.TrimSpace(ts.ReadFile(file))
		}
		out = append(out, arg)
	}
	return out
}

func waitSaid(ts *testscript.TestScript, neg bool, args []string) {
	waitOutput(ts, neg, args, func(b *background) *transcript { return &b.stderr })
}

func waitPrinted(ts *testscript.TestScript, neg bool, args []string) {
	waitOutput(ts, neg, args, func(b *background) *transcript { return &b.stdout })
}

func waitOutput(ts *testscript.TestScript, neg bool, args []string, of func(*background) *transcript) {
	if len(args) != 2 {
		ts.Fatalf("usage: said NAME REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	b := scriptNodes(ts).get(ts, args[0])
	out := of(b)
	if neg && re.MatchString(out.String()) {
		ts.Fatalf("%s has written %s", args[0], out)
	}
	if !neg && !out.wait(b.ended, re) {
		ts.Fatalf("%s has not written %s: %s", args[0], args[1], out)
	}
}

func endNode(ts *testscript.TestScript, neg bool, args []string) {
	interruptNode(ts, neg, args)
	endedNode(ts, neg, args)
}

func interruptNode(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(scriptNodes(ts).get(ts, args[0]).cmd.Process.Signal(os.Interrupt))
}

func terminateNode(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(scriptNodes(ts).get(ts, args[0]).cmd.Process.Signal(syscall.SIGTERM))
}

func hangUpNode(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(scriptNodes(ts).get(ts, args[0]).cmd.Process.Signal(syscall.SIGHUP))
}

func endedNode(ts *testscript.TestScript, neg bool, args []string) {
	want := "0"
	if len(args) > 1 {
		want = args[1]
	}
	b := scriptNodes(ts).wait(ts, args[0])
	if got := strconv.Itoa(b.cmd.ProcessState.ExitCode()); got != want {
		ts.Fatalf("%s ends with %v, want %s", args[0], b.cmd.ProcessState, want)
	}
}

func killNode(ts *testscript.TestScript, neg bool, args []string) {
	n := scriptNodes(ts)
	ts.Check(n.get(ts, args[0]).cmd.Process.Kill())
	n.wait(ts, args[0])
}

func wantStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "p2pnode" {
		ts.Fatalf("usage: status N p2pnode ARGS...")
	}
	cmd := command(ts, args[2:])
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ts.Check(cmd.Start())
	stuck := time.AfterFunc(scriptPatience, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	err := cmd.Wait()
	_, _ = ts.Stdout().Write(stdout.Bytes())
	_, _ = ts.Stderr().Write(stderr.Bytes())
	line := strings.Join(args[1:], " ")
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("%s exits with %s, %v, want %s", line, got, err, args[0])
	}
	if args[0] != "0" && (stdout.Len() > 0 || stderr.Len() == 0) {
		ts.Fatalf("%s fails, with %d bytes on standard output and %d on standard error", line, stdout.Len(), stderr.Len())
	}
}

// A transcript is what a process has written. Those who wait for more are woken.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed when there is more; nil if nobody waits
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait waits until a match is there, and returns false if none comes.
func (s *transcript) wait(ended context.Context, re *regexp.Regexp) bool {
	ctx, cancel := context.WithTimeout(ended, scriptPatience)
	defer cancel()
	for {
		over := ctx.Err() != nil // before looking: what was written last counts
		s.mu.Lock()
		found := re.MatchString(s.text.String())
		if s.more == nil {
			s.more = make(chan struct{})
		}
		more := s.more
		s.mu.Unlock()
		if found || over {
			return found
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}
