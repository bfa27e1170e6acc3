package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"p2pnode": main})
}

// The scripts in testdata use p2pnode as a user does. These commands are theirs
// besides those of testscript:
//
//	node NAME ARGS...   runs p2pnode ARGS in the background until it is ready;
//	                    its standard input is the file stdin-NAME, if there is one
//	end NAME            interrupts it; it must exit with 0
//	ended NAME          waits until it has ended by itself with 0
//	crash NAME          kills it
//	server VAR          sets VAR to the address of a server that answers what it
//	                    was sent, but only when the client has ended its side
//	status N COMMAND... runs a command that must exit with that status
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			// A socket's path must be short.
			dir, err := os.MkdirTemp("", "s")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			nodes := &nodes{running: map[string]*background{}}
			e.Defer(nodes.killAll)
			e.Values[nodesKey{}] = nodes
			e.Setenv("D", dir)
			e.Setenv("HOME", dir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node": startNode, "end": endNode, "ended": endedNode, "crash": killNode,
			"server": startServer, "status": wantStatus,
		},
	})
}

const scriptPatience = 30 * time.Second

type nodesKey struct{}

// nodes are the processes that a script runs in the background.
type nodes struct {
	mu      sync.Mutex
	running map[string]*background
}

type background struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

func (n *nodes) killAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.running {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
}

func (n *nodes) take(ts *testscript.TestScript, args []string) *background {
	if len(args) != 1 {
		ts.Fatalf("want the name of a node, not %q", args)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.running[args[0]]
	if b == nil {
		ts.Fatalf("no node %s is running", args[0])
	}
	delete(n.running, args[0])
	return b
}

func scriptNodes(ts *testscript.TestScript) *nodes { return ts.Value(nodesKey{}).(*nodes) }

func startNode(ts *testscript.TestScript, neg bool, args []string) {
	name := args[0]
	b := &background{cmd: command(ts, args[1:])}
	if in, err := os.Open(ts.MkAbs("stdin-" + name)); err == nil {
		b.cmd.Stdin = in
		defer in.Close()
	}
	b.cmd.Stderr = &b.stderr
	out, err := b.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(b.cmd.Start())
	stuck := time.AfterFunc(scriptPatience, func() { _ = b.cmd.Process.Kill() })
	defer stuck.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		ts.Fatalf("%s ended before it was ready: %v: %s", name, b.cmd.Wait(), b.stderr.String())
	}
	ts.Logf("%s", line)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	n := scriptNodes(ts)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running[name] = b
}

// command makes p2pnode as the script would run it.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, "p2pnode")
		if _, err := os.Stat(path); err == nil {
			cmd := exec.Command(path, args...)
			cmd.Dir = ts.MkAbs(".")
			for _, key := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "P2PNODE_DIR", "TMPDIR"} {
				cmd.Env = append(cmd.Env, key+"="+ts.Getenv(key))
			}
			return cmd
		}
	}
	ts.Fatalf("no p2pnode in PATH")
	return nil
}

func endNode(ts *testscript.TestScript, neg bool, args []string) {
	b := scriptNodes(ts).take(ts, args)
	ts.Check(b.cmd.Process.Signal(os.Interrupt))
	b.wantEnd(ts, args[0])
}

func endedNode(ts *testscript.TestScript, neg bool, args []string) {
	scriptNodes(ts).take(ts, args).wantEnd(ts, args[0])
}

func (b *background) wantEnd(ts *testscript.TestScript, name string) {
	stuck := time.AfterFunc(scriptPatience, func() { _ = b.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := b.cmd.Wait(); err != nil {
		ts.Fatalf("%s: %v: %s", name, err, b.stderr.String())
	}
	ts.Logf("%s", b.stderr.String())
}

func killNode(ts *testscript.TestScript, neg bool, args []string) {
	b := scriptNodes(ts).take(ts, args)
	ts.Check(b.cmd.Process.Kill())
	_ = b.cmd.Wait() // says that it was killed
}

func startServer(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if data, err := io.ReadAll(c); err == nil {
					fmt.Fprintf(c, "got %s\n", data)
				}
			}()
		}
	}()
}

func wantStatus(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s exits with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}
