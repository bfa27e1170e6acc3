package overlaytest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A Process is a node in a process of its own. Its methods fail the test where
// the harness itself breaks, and return an error where the mesh gives one.
type Process struct {
	Name string
	Dir  string // of its state

	t      testing.TB
	local  string // directory in which the nodes meet
	socket string // directory of sockets, short enough for a socket's path
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
	stderr *bytes.Buffer

	listens int
}

// Processes returns n nodes of one mesh, each in a process of its own, named
// node0, node1 and so on. The first has founded the mesh, and the others were
// told of it alone. They use no port: see Local. They are ended when the test ends.
func Processes(t testing.TB, n int) []*Process {
	t.Helper()
	requireMain(t, "Processes")
	all := make([]*Process, n)
	var invite string
	for i := range all {
		all[i] = newProcess(t, fmt.Sprintf("node%d", i))
		all[i].start(invite)
		if i == 0 && n > 1 {
			invite = all[0].Invite()
		}
	}
	return all
}

// Join returns a node in a process of its own that joins the mesh of an invite. It
// is ended when the test ends.
func Join(t testing.TB, name, invite string) *Process {
	t.Helper()
	requireMain(t, "Join")
	p := newProcess(t, name)
	p.start(invite)
	return p
}

func requireMain(t testing.TB, call string) {
	t.Helper()
	if !prepared {
		t.Fatalf("overlaytest.%s needs a TestMain that calls overlaytest.Main", call)
	}
}

func newProcess(t testing.TB, name string) *Process {
	t.Helper()
	sockets, err := os.MkdirTemp("", "ot") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	p := &Process{Name: name, Dir: filepath.Join(t.TempDir(), name), t: t, local: Local(t).LocalDir, socket: sockets}
	t.Cleanup(p.end)
	return p
}

// start runs the process and waits until its node can be used.
func (p *Process) start(invite string) {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.stderr = new(bytes.Buffer)
	p.cmd = exec.Command(self, childArgument)
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	p.stdout = bufio.NewScanner(stdout)
	p.stdout.Buffer(nil, maxLine)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.Name, err)
	}
	p.ask(order{Do: "start", Name: p.Name, Dir: p.Dir, Invite: invite, Local: p.local, Socket: p.dialSocket()})
}

func (p *Process) dialSocket() string { return filepath.Join(p.socket, "dial") }

// ask gives the process an order and waits for the answer.
func (p *Process) ask(o order) answer {
	p.t.Helper()
	if err := json.NewEncoder(p.stdin).Encode(o); err != nil {
		p.t.Fatalf("%s: %s: %v: %s", p.Name, o.Do, err, p.stderr)
	}
	if !p.stdout.Scan() {
		p.t.Fatalf("%s: %s: it ended: %v: %s", p.Name, o.Do, p.stdout.Err(), p.stderr)
	}
	var a answer
	if err := json.Unmarshal(p.stdout.Bytes(), &a); err != nil {
		p.t.Fatalf("%s: %s: answered %q: %v", p.Name, o.Do, p.stdout.Bytes(), err)
	}
	if a.Error != "" {
		p.t.Fatalf("%s: %s: %s", p.Name, o.Do, a.Error)
	}
	return a
}

// Invite returns an invite to the mesh. The process must be an admin's, as the
// first one is.
func (p *Process) Invite() string {
	p.t.Helper()
	return p.ask(order{Do: "invite"}).Text
}

// Dial opens a stream from the process to a target such as "node1/web".
func (p *Process) Dial(ctx context.Context, target string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", p.dialSocket())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := json.NewEncoder(c).Encode(order{Target: target}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	line, err := readLine(c)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if a.Error != "" {
		return nil, errors.Join(errors.New(a.Error), c.Close())
	}
	return c, nil
}

// Listen offers a service from the process, and accepts its streams here.
func (p *Process) Listen(service string) net.Listener {
	p.t.Helper()
	p.listens++ // a path of its own: the listener before a restart may still be open
	path := filepath.Join(p.socket, fmt.Sprint("listen", p.listens))
	l, err := net.Listen("unix", path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { l.Close() })
	p.ask(order{Do: "listen", Service: service, Socket: path})
	return l
}

// Kill ends the process as a crash would, with SIGKILL where there is one.
func (p *Process) Kill() {
	p.t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait() // says that it was killed
	p.cmd = nil
}

// Restart starts a node that was killed again, on the state it left. Services
// have to be offered anew.
func (p *Process) Restart() {
	p.t.Helper()
	if p.cmd != nil {
		p.t.Fatalf("restart %s: it was not killed", p.Name)
	}
	p.start("")
}

// end closes the node and waits for the process.
func (p *Process) end() {
	if p.cmd == nil {
		return
	}
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v: %s", p.Name, err, p.stderr)
	}
	p.cmd = nil
}
