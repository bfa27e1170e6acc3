package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a node in a process of its own, which carries out orders.
type process struct {
	t      testing.TB
	name   string
	dir    string // where it meets others
	users  []uint32
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
	stderr *bytes.Buffer
	log    string // what it has logged up to its last answer
}

// placed says in which namespaces a process runs, or as whom.
type placed struct {
	namespaces uintptr
	user       uint32
}

// startProcess starts a process that has no node yet. It ends with the test.
func startProcess(t testing.TB, name, dir string, p placed) *process {
	t.Helper()
	if os.Geteuid() != 0 && p != (placed{}) {
		skip(t, "namespaces and other users need root")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := &process{t: t, name: name, dir: dir, stderr: new(bytes.Buffer)}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: p.namespaces & unix.CLONE_NEWNS, Cloneflags: p.namespaces &^ unix.CLONE_NEWNS}
	if p.user != 0 {
		attr.Credential = &syscall.Credential{Uid: p.user, Gid: p.user}
		program = forAll(t, program)
	}
	n.cmd = exec.Command(program, memberArgument)
	n.cmd.SysProcAttr, n.cmd.Stderr, n.cmd.Dir = attr, n.stderr, "/"
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	n.stdout = bufio.NewScanner(stdout)
	n.stdout.Buffer(nil, 16<<20)
	if err := n.cmd.Start(); errors.Is(err, unix.EPERM) {
		skip(t, "namespaces are not permitted: "+err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.end)
	return n
}

// forAll returns a copy of a program that all users may run.
func forAll(t testing.TB, program string) string {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(sharedDirectory(t, 0o755), "program")
	if err := errors.Join(os.WriteFile(path, data, 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// sharedDirectory returns a new directory that all users can reach.
func sharedDirectory(t testing.TB, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// end lets the process end, unless it was killed.
func (n *process) end() {
	if n.cmd.ProcessState != nil {
		return
	}
	n.stdin.Close()
	timer := time.AfterFunc(patience, func() { _ = n.cmd.Process.Kill() })
	defer timer.Stop()
	if err := n.cmd.Wait(); err != nil && !n.t.Failed() {
		n.t.Errorf("%s: %v: %s", n.name, err, n.stderr)
	}
}

// kill ends the process as a crash does, and returns when it was asked for.
func (n *process) kill() time.Time {
	n.t.Helper()
	began := time.Now()
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	_ = n.cmd.Wait() // says that it was killed
	return began
}

// try gives the process an order and returns what came of it.
func (n *process) try(o order) (answer, error) {
	n.t.Helper()
	if err := json.NewEncoder(n.stdin).Encode(o); err != nil {
		n.t.Fatalf("%s: %s: %v: %s", n.name, o.Do, err, n.stderr)
	}
	if !n.stdout.Scan() {
		_ = n.cmd.Wait()
		n.t.Fatalf("%s: %s: it ended: %v: %s", n.name, o.Do, n.stdout.Err(), n.stderr)
	}
	var a answer
	if err := json.Unmarshal(n.stdout.Bytes(), &a); err != nil {
		n.t.Fatalf("%s: %s: answers %q: %v", n.name, o.Do, n.stdout.Bytes(), err)
	}
	n.log += a.Log
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s %s: %s", n.name, o.Do, o.Text, a.Error)
	}
	return a, nil
}

func (n *process) do(o order) answer {
	n.t.Helper()
	a, err := n.try(o)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *process) config() memberConfig {
	return memberConfig{Name: n.name, LocalDir: n.dir, LocalUsers: n.users, LocalOnly: true}
}

// found has the process found a mesh, and returns an invite.
func (n *process) found() (invite string) {
	n.t.Helper()
	n.do(order{Do: "start", Config: n.config()})
	n.do(order{Do: "echo", Text: "echo"})
	return n.do(order{Do: "invite"}).Text
}

func (n *process) join(invite string) *process {
	n.t.Helper()
	n.do(order{Do: "join", Config: n.config(), Text: invite})
	n.do(order{Do: "echo", Text: "echo"})
	return n
}

func (n *process) state() state {
	n.t.Helper()
	return n.do(order{Do: "state"}).State
}

// checkReaches checks that each can use the other's service, within this machine.
func checkReaches(t testing.TB, all ...*process) {
	t.Helper()
	for _, from := range all {
		for _, to := range all {
			if from == to {
				continue
			}
			if a, err := from.try(order{Do: "say", Text: to.name + "/echo"}); err != nil || a.Text != "unix" {
				t.Errorf("%s reaches %s by path %q, %v, want unix", from.name, to.name, a.Text, err)
			}
		}
	}
}

// serveEcho sends back what comes at a unix socket, and returns its address.
func serveEcho(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "target")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	handleEach(t, l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	return "unix:" + path
}

// roundTrip sends bytes through a forward's unix socket and checks that they come
// back. While the connection is open, between is called.
func roundTrip(t testing.TB, path string, between func()) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	got := make([]byte, len(want))
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got[:1]); err != nil {
		t.Fatalf("the first byte does not come back: %v", err)
	}
	between()
	go func() {
		_, _ = c.Write(want)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	got, err = io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes come back, %v, want the %d that were sent and an end", len(got), err, len(want))
	}
}

// sharedSockets returns how many sockets both processes have a descriptor of: those
// that one has handed over to the other.
func sharedSockets(t testing.TB, a, b *process) int {
	t.Helper()
	of := func(n *process) (sockets []string) {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", n.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "socket:") {
				sockets = append(sockets, to)
			}
		}
		return sockets
	}
	in := of(b)
	return len(slices.DeleteFunc(of(a), func(s string) bool { return !slices.Contains(in, s) }))
}

// checkNoNetwork checks that a process uses no interface, address or port.
func checkNoNetwork(t testing.TB, n *process) {
	t.Helper()
	s := n.state()
	if len(s.Addrs) > 0 || s.LocalError != "" {
		t.Errorf("%s has addresses %v, and on this machine %q, want none", n.name, s.Addrs, s.LocalError)
	}
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "packet"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", n.cmd.Process.Pid, proto))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if lines := strings.Count(string(data), "\n"); lines > 1 {
			t.Errorf("%s: there are %s sockets:\n%s", n.name, proto, data)
		}
	}
}

// Without any network interface, members on one machine meet and work.
func TestWithoutNetwork(t *testing.T) {
	dir, target := sharedDirectory(t, 0o700), sharedDirectory(t, 0o755)
	alice := startProcess(t, "alice", dir, placed{namespaces: unix.CLONE_NEWNET})
	bob := startProcess(t, "bob", dir, placed{namespaces: unix.CLONE_NEWNET})
	bob.join(alice.found())
	checkReaches(t, alice, bob)
	for _, n := range []*process{alice, bob} {
		if up := n.state().LinksUp; len(up) > 0 {
			t.Errorf("interfaces %v of %s are up, want none", up, n.name)
		}
	}

	alice.do(order{Do: "expose", Text: "web", At: serveEcho(t, target)})
	listen := filepath.Join(target, "forward")
	bob.do(order{Do: "forward", Text: "alice/web", At: "unix:" + listen})
	roundTrip(t, listen, func() {
		for _, n := range []*process{alice, bob} {
			checkNoNetwork(t, n)
		}
		if n := sharedSockets(t, alice, bob); n != 1 {
			t.Errorf("%d sockets are handed over, want 1", n)
		}
	})
}

// What a node in another network namespace has connected to can be handed over,
// and then reaches what is in none of the client's networks.
func TestTwoNetworkNamespaces(t *testing.T) {
	dir, sockets := sharedDirectory(t, 0o700), sharedDirectory(t, 0o755)
	alice := startProcess(t, "alice", dir, placed{namespaces: unix.CLONE_NEWNET})
	bob := startProcess(t, "bob", dir, placed{namespaces: unix.CLONE_NEWNET})
	alice.do(order{Do: "lo up"})
	port := alice.do(order{Do: "serve tcp"}).Text
	bob.join(alice.found())
	checkReaches(t, alice, bob)
	alice.do(order{Do: "expose", Text: "web", At: port})
	listen := filepath.Join(sockets, "forward")
	bob.do(order{Do: "forward", Text: "alice/web", At: "unix:" + listen})
	roundTrip(t, listen, func() {
		if n := sharedSockets(t, alice, bob); n != 1 {
			t.Errorf("%d sockets are handed over, want 1", n)
		}
		checkNoNetwork(t, bob)
	})
}

// Containers share no more than a directory, which each has at a path of its own.
func TestContainers(t *testing.T) {
	const namespaces = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID
	for _, tt := range []struct {
		name string
		proc string // order for what is at /proc
	}{
		{"with /proc", "mount proc"},
		{"without /proc", "unmount proc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, target := sharedDirectory(t, 0o700), sharedDirectory(t, 0o755)
			var nodes []*process
			for _, name := range []string{"alice", "bob"} {
				n := startProcess(t, name, sharedDirectory(t, 0o755), placed{namespaces: namespaces})
				n.do(order{Do: "mount", Text: dir, At: n.dir})
				n.do(order{Do: tt.proc})
				nodes = append(nodes, n)
			}
			alice, bob := nodes[0], nodes[1]
			bob.join(alice.found())
			checkReaches(t, alice, bob)
			alice.do(order{Do: "expose", Text: "web", At: serveEcho(t, target)})
			listen := filepath.Join(target, "forward")
			bob.do(order{Do: "forward", Text: "alice/web", At: "unix:" + listen})
			roundTrip(t, listen, func() {
				if n := sharedSockets(t, alice, bob); n != 0 {
					t.Errorf("%d sockets are handed over to another container, want none", n)
				}
			})
		})
	}
}

// Of sockets that were handed over, neither process keeps anything.
func TestHandedOverLeavesNothing(t *testing.T) {
	const connections = 200
	dir, sockets := sharedDirectory(t, 0o700), sharedDirectory(t, 0o700)
	alice, bob := startProcess(t, "alice", dir, placed{}), startProcess(t, "bob", dir, placed{})
	bob.join(alice.found())
	checkReaches(t, alice, bob)
	alice.do(order{Do: "expose", Text: "web", At: serveEcho(t, sockets)})
	listen := filepath.Join(sockets, "forward")
	bob.do(order{Do: "forward", Text: "alice/web", At: "unix:" + listen})
	roundTrip(t, listen, func() {})
	var before []state
	both := []*process{alice, bob}
	await(t, "the first connection is gone", func() bool { return sharedSockets(t, alice, bob) == 0 })
	for _, n := range both {
		before = append(before, n.state())
	}
	for i := range connections {
		if i%2 == 0 {
			roundTrip(t, listen, func() {})
			continue
		}
		c, err := net.Dial("unix", listen)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "what nobody waits for")
		c.Close()
	}
	for i, n := range both {
		await(t, "all is given back", func() bool {
			s := n.state()
			return s.Files <= before[i].Files && s.Goroutines <= before[i].Goroutines
		})
	}
}
