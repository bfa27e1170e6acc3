package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// command is the p2pnode under test, built once.
var command string

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == memberArgument {
		os.Exit(runMember())
	}
	if len(os.Args) == 3 && os.Args[1] == proxyArgument {
		os.Exit(runProxy(os.Args[2]))
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "p2pnode-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	command = filepath.Join(dir, "p2pnode")
	build := exec.Command("go", "build", "-o", command, "github.com/p2pnode/p2pnode/cmd/p2pnode")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build p2pnode: %v\n%s", err, out)
		return 1
	}
	// The nodes meet in a directory of these tests, and not on the machine's network.
	run := filepath.Join(dir, "run")
	if err := errors.Join(os.Mkdir(run, 0o700), os.Setenv("XDG_RUNTIME_DIR", run), os.Setenv("P2PNODE_NO_LAN", "1")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for what should take moments.
const patience = 60 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// A node is a p2pnode process.
type node struct {
	t      testing.TB
	name   string
	dir    string
	cmd    *exec.Cmd
	ready  readyLine
	stderr *bytes.Buffer

	at func(ctx context.Context, name string, args ...string) *exec.Cmd // runs it elsewhere, unless nil
}

type readyLine struct {
	Event string   `json:"event"`
	ID    string   `json:"id"`
	Addrs []string `json:"addrs"`
}

// newNode names a node and gives it a directory, short enough for a socket.
func newNode(t testing.TB, name string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &node{t: t, name: name, dir: filepath.Join(dir, name)}
}

// up founds a mesh or comes back to it.
func (n *node) up(args ...string) *node {
	n.t.Helper()
	if err := n.start("", append([]string{"up"}, args...)...); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// join enters a mesh.
func (n *node) join(invite string, args ...string) *node {
	n.t.Helper()
	if err := n.start(invite, append([]string{"join", "-"}, args...)...); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// start runs the command and returns once it is ready.
func (n *node) start(stdin string, args ...string) error {
	args = append(args, "--dir", n.dir, "--name", n.name, "--json")
	n.cmd = exec.Command(command, args...)
	if n.at != nil {
		n.cmd = n.at(context.Background(), command, args...)
	}
	n.stderr = new(bytes.Buffer)
	n.cmd.Stdin, n.cmd.Stderr = strings.NewReader(stdin), n.stderr
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := startWithTest(n.cmd); err != nil {
		return err
	}
	cmd := n.cmd
	n.t.Cleanup(func() { n.end(cmd) })
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if json.Unmarshal(lines.Bytes(), &n.ready) == nil && n.ready.Event == "ready" {
			return nil
		}
	}
	err = cmd.Wait()
	return fmt.Errorf("%s ended before it was ready: %w: %s", n.name, err, n.stderr)
}

// end interrupts a process that still runs.
func (n *node) end(cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Signal(os.Interrupt)
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil && !n.t.Failed() {
		n.t.Errorf("%s: %v: %s", n.name, err, n.stderr)
	}
}

// kill ends the process as a crash does.
func (n *node) kill() {
	n.t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	_ = n.cmd.Wait() // says that it was killed
}

// run has the command talk to the node, and returns what it prints.
func (n *node) run(args ...string) string {
	n.t.Helper()
	out, err := n.try(args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

func (n *node) try(args ...string) (string, error) {
	cmd := exec.Command(command, append(args, "--dir", n.dir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("p2pnode %s at %s: %w: %s", strings.Join(args, " "), n.name, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), err
}

func (n *node) invite() string {
	n.t.Helper()
	return n.run("invite")
}

// forward ties a free port to a target and returns its address.
func (n *node) forward(target string) string {
	n.t.Helper()
	out := n.run("forward", "0", target)
	addr := strings.Fields(strings.TrimPrefix(out, "forward "))[0]
	return addr
}

// dial opens a stream through the node's control socket.
func (n *node) dial(ctx context.Context, target string) (*stream, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(n.dir, "control.sock"))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	fmt.Fprintf(conn, "POST /v1/dial?target=%s HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: p2pnode-stream\r\nContent-Length: 0\r\n\r\n", url.QueryEscape(target))
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		return nil, errors.Join(fmt.Errorf("dial %s from %s: %s %s", target, n.name, resp.Status, body), conn.Close())
	}
	return &stream{Reader: httputil.NewChunkedReader(r), out: httputil.NewChunkedWriter(conn), conn: conn}, nil
}

// A stream's bytes go in chunks between the node and whoever controls it.
type stream struct {
	io.Reader
	out  io.WriteCloser
	conn net.Conn
}

func (s *stream) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *stream) CloseWrite() error           { return s.out.Close() }
func (s *stream) Close() error                { return s.conn.Close() }

// serveGreeting answers every connection at a local port with a text and what
// it was sent.
func serveGreeting(t testing.TB, greeting string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handleEach(t, l, func(c net.Conn) {
		data, err := io.ReadAll(io.LimitReader(c, 1<<10))
		if err == nil {
			fmt.Fprintf(c, "%s %s", greeting, data)
		}
	})
	return l.Addr().String()
}

// handleEach handles each connection until the test ends, and closes it.
func handleEach(t testing.TB, l net.Listener, handle func(net.Conn)) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
}

// greet checks that a stream to a target reaches who it names.
func (n *node) greet(ctx context.Context, target, greeting string) error {
	s, err := n.dial(ctx, target)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := io.WriteString(s, n.name); err != nil {
		return fmt.Errorf("%s to %s: %w", n.name, target, err)
	}
	if err := s.CloseWrite(); err != nil {
		return fmt.Errorf("%s to %s: %w", n.name, target, err)
	}
	got, err := io.ReadAll(s)
	if want := greeting + " " + n.name; err != nil || string(got) != want {
		return fmt.Errorf("%s to %s = %q, %v, want %q", n.name, target, got, err, want)
	}
	return nil
}

// needs skips a test that a machine can't run, with the reason. CI has what
// .ci/run installs, and fails.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			skip(t, p+" is not installed")
		}
	}
}

func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("skipped in CI: %s", why)
	}
	t.Skip(why)
}
