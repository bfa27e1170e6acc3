package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A shell over ssh, through a forward between two members behind NATs, goes on while the
// machine of whoever uses it gets another address, moves to another network, and loses
// its network for a while.
func TestSSHOutlivesItsPath(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	needs(t, "ssh", "ssh-keygen")
	l := lab.New(t)
	home, other := l.Router("home", lab.NAT{Kind: lab.PortRestricted}), l.Router("other", lab.NAT{Kind: lab.Symmetric})
	alice := labNode(t, l.Host("alice"))
	desk := home.Host("desk")
	far := l.Router("far", lab.NAT{Kind: lab.PortRestricted}).Host("carol")
	server, key := startSSHD(t, far)
	bob, carol := labNode(t, desk), labNode(t, far)
	alice.up("--no-local")
	invite := alice.invite()
	carol.join(invite, "--no-local")
	bob.join(invite, "--no-local")
	carol.run("expose", "ssh", server)
	forward := bob.forward("carol/ssh")

	cmd := desk.Command(t.Context(), "ssh", "-F", "none", "-i", key, "-p", port(forward),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "127.0.0.1",
		"n=0; while read line; do n=$((n+1)); echo $n $line; done; echo bye")
	shell := startShell(t, cmd)
	for _, fault := range []struct {
		name   string
		happen func()
	}{
		{"nothing", func() {}},
		{"another address", desk.ChangeAddress},
		{"another network", func() { desk.MoveTo(other) }},
		{"back", func() { desk.MoveTo(home) }},
		{"another public address", home.ChangeAddress},
		{"no network for 5 s", func() { desk.Down(); <-time.After(5 * time.Second); desk.Up() }},
	} {
		shell.say(t, "before "+fault.name)
		fault.happen()
		began := time.Now()
		shell.say(t, "after "+fault.name)
		t.Logf("%s: the shell answered after %v", fault.name, time.Since(began).Round(time.Millisecond))
	}
	shell.end(t)
}

// A shell is one whose lines are counted at the other end.
type shell struct {
	in    io.WriteCloser
	lines chan string
	said  int
	cmd   *exec.Cmd
}

func startShell(t *testing.T, cmd *exec.Cmd) *shell {
	t.Helper()
	s := &shell{lines: make(chan string), cmd: cmd}
	var err error
	if s.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	go func() {
		defer close(s.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			select {
			case s.lines <- scan.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	return s
}

// say writes a line and waits until it comes back, with its number.
func (s *shell) say(t *testing.T, line string) {
	t.Helper()
	s.said++
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		t.Fatalf("say %q: %v", line, err)
	}
	s.want(t, fmt.Sprint(s.said, " ", line))
}

func (s *shell) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got, ok := <-s.lines:
		if !ok {
			t.Fatalf("the shell has ended, want %q", want)
		}
		if got != want {
			t.Fatalf("the shell says %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the shell says nothing for %v, want %q", patience, want)
	}
}

// end ends the shell, which says so.
func (s *shell) end(t *testing.T) {
	t.Helper()
	s.in.Close()
	s.want(t, "bye")
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("ssh: %v", err)
	}
}
