package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// demoDeadline is how long the demo may take.
const demoDeadline = 30 * time.Second

// The demo ends with all pairs verified, or when it is interrupted, and leaves no
// process, socket or file.
func TestDemoLeavesNothing(t *testing.T) {
	t.Run("when it is done", func(t *testing.T) {
		d := startDemo(t)
		began := time.Now()
		out, err := d.end()
		if want := "20 of 20 ordered pairs verified"; err != nil || !strings.Contains(out, want) {
			t.Errorf("demo = %v, prints %q, want %q in it", err, out, want)
		}
		if took := time.Since(began); took > demoDeadline {
			t.Errorf("demo took %v, want at most %v", took, demoDeadline)
		}
	})
	for _, signal := range []struct {
		name string
		send func(*demo)
	}{
		{"interrupted", func(d *demo) { d.signal(d.cmd.Process.Pid, unix.SIGINT) }},
		{"interrupted with its nodes, as by Ctrl-C", func(d *demo) { d.signal(-d.cmd.Process.Pid, unix.SIGINT) }},
		{"terminated", func(d *demo) { d.signal(d.cmd.Process.Pid, unix.SIGTERM) }},
	} {
		for _, moment := range []struct {
			name  string
			await func(*demo)
		}{
			{"amid the start", (*demo).awaitFirstNode},
			{"when the nodes are ready", (*demo).awaitReady},
		} {
			t.Run(signal.name+" "+moment.name, func(t *testing.T) {
				d := startDemo(t)
				moment.await(d)
				signal.send(d)
				if out, err := d.end(); err == nil && !strings.Contains(out, "20 of 20") {
					t.Errorf("demo = %v, prints %q, want exit code 1, or that it was done before", err, out)
				}
			})
		}
	}
}

// A demo is a run of "p2pnode demo" in a session and with temporary files of its
// own.
type demo struct {
	t      *testing.T
	cmd    *exec.Cmd
	tmp    string
	stdout bytes.Buffer
	stderr *bufio.Reader
}

func startDemo(t *testing.T) *demo {
	t.Helper()
	tmp, err := os.MkdirTemp("", "d") // t.TempDir may be too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	d := &demo{t: t, tmp: tmp, cmd: exec.CommandContext(testContext(t), command, "demo")}
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	d.cmd.Stdout = &d.stdout
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.stderr = bufio.NewReader(stderr)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// awaitFirstNode waits until the first node's process has come into being.
func (d *demo) awaitFirstNode() {
	d.t.Helper()
	await(d.t, "the demo starts a node", func() bool { return len(d.processes()) > 1 })
}

// awaitReady waits until the demo says that its nodes are ready.
func (d *demo) awaitReady() {
	d.t.Helper()
	if line, err := d.stderr.ReadString('\n'); err != nil || !strings.Contains(line, "ready") {
		d.t.Fatalf("demo says %q, %v, want that the nodes are ready", line, err)
	}
}

func (d *demo) signal(pid int, s unix.Signal) {
	d.t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		d.t.Fatal(err)
	}
}

// end waits for the end of the demo and checks that nothing is left.
func (d *demo) end() (stdout string, err error) {
	d.t.Helper()
	said, _ := io.ReadAll(d.stderr)
	err = d.cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	if left := d.processes(); len(left) > 0 {
		d.t.Errorf("the demo leaves processes %v", left)
	}
	if left, globErr := filepath.Glob(filepath.Join(d.tmp, "*")); globErr != nil || len(left) > 0 {
		d.t.Errorf("the demo leaves files %v, %v", left, globErr)
	}
	if sockets, readErr := os.ReadFile("/proc/net/unix"); readErr != nil || bytes.Contains(sockets, []byte(d.tmp)) {
		d.t.Errorf("the demo leaves sockets in %s (%v):\n%s", d.tmp, readErr, sockets)
	}
	return d.stdout.String(), err
}

// processes returns the IDs of the processes of the demo's session.
func (d *demo) processes() []string {
	d.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		d.t.Fatal(err)
	}
	var found []string
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscan(filepath.Base(dir), &pid); err != nil {
			continue
		}
		if sid, err := unix.Getsid(pid); err == nil && sid == d.cmd.Process.Pid {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}
