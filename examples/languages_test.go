package examples_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// languages are those with an example of the control API.
var languages = []struct{ program, file, says string }{
	{"python3", "python/mesh.py", "python"},
	{"node", "node/mesh.js", "node.js"},
}

// newMember starts a node, and returns its directory.
func newMember(t *testing.T, args ...string) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "l") // a socket's path must not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := start(t, "p2pnode", append(args, "--dir", dir, "--local-only", "--json")...)
	p.expect(`"event":"ready"`)
	return dir
}

// command runs the p2pnode command of a node, and returns its standard output.
func command(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(programs, "p2pnode"), append(args, "--dir", dir)...).Output()
	if err != nil {
		t.Fatalf("p2pnode %q: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// in prepares an example to use the node of a directory, and skips the test if there is
// nothing to run it.
func in(t *testing.T, dir, interpreter, file string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(interpreter)
	if err != nil {
		t.Skipf("%s is not installed", interpreter)
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxRun)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, append([]string{file}, args...)...)
	cmd.Env = append(os.Environ(), "P2PNODE_DIR="+dir)
	return cmd
}

// What one language offers the others use, and all see how a stream ended.
func TestLanguages(t *testing.T) {
	alice := newMember(t, "up", "--name", "alice")
	bob := newMember(t, "join", command(t, alice, "invite"), "--name", "bob")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go breakAll(l)
	command(t, alice, "expose", "broken", l.Addr().String())
	for _, server := range languages {
		t.Run("served by "+server.program, func(t *testing.T) {
			serve := startCommand(t, server.program, in(t, alice, server.program, server.file, "serve", "greet"))
			serve.expect(`^serving greet$`)
			for _, client := range languages {
				t.Run("used by "+client.program, func(t *testing.T) {
					for _, tt := range []struct{ target, says, fails string }{
						{"alice/greet", "hello " + client.says + "\n", ""},
						{"/greet", "hello " + client.says + "\n", ""},
						{"alice/nothing", "", "no such service"},
						{"carol/greet", "", "no such member"},
						{"alice/broken", "", "the stream broke"},
					} {
						cmd := in(t, bob, client.program, client.file, "call", tt.target)
						var stderr strings.Builder
						cmd.Stderr = &stderr
						out, err := cmd.Output()
						if string(out) != tt.says || (err != nil) != (tt.fails != "") || !strings.Contains(stderr.String(), tt.fails) {
							t.Errorf("call %s = %q, %v, %q, want %q, %q", tt.target, out, err, &stderr, tt.says, tt.fails)
						}
					}
				})
			}
			serve.interrupt()
			if got := command(t, alice, "status"); strings.Contains(got, "greet") {
				t.Errorf("status = %s, want that greet is not exposed any more", got)
			}
		})
	}
}

// breakAll resets each connection once it has said something.
func breakAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("half of it"))
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
