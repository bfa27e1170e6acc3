package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unitText returns what "p2pnode systemd" prints.
func unitText(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := &env{stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	if got := e.run(t.Context(), append([]string{"systemd"}, args...)); got != exitDone {
		t.Fatalf("systemd %q exits with %d: %s", args, got, &stderr)
	}
	return stdout.String()
}

// systemd takes the units as they are.
func TestUnitsAreVerified(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this machine has no systemd-analyze")
	}
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"system", nil},
		{"system with a configuration", []string{"--config", "/etc/p2pnode/mesh.toml"}},
		{"user", []string{"--user", "--dir", "/home/bob/mesh"}},
		{"strange paths", []string{"--dir", `/home/bob's mesh/100%/$HOME/"x"`, "--config", `/a b\c`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			service, socket := filepath.Join(dir, "p2pnode.service"), filepath.Join(dir, "p2pnode.socket")
			for path, args := range map[string][]string{service: tt.args, socket: append(tt.args, "--socket")} {
				if err := os.WriteFile(path, []byte(unitText(t, args...)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", service, socket).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("systemd-analyze verify = %v: %s", err, out)
			}
		})
	}
}

// How far the system's unit is open to the rest of the machine, as systemd counts it:
// 10 is a unit that is not hardened at all.
func TestSystemUnitIsHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this machine has no systemd-analyze")
	}
	path := filepath.Join(t.TempDir(), "p2pnode.service")
	if err := os.WriteFile(path, []byte(unitText(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=30", "--no-pager", path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security = %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "Overall") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func TestUnitsSay(t *testing.T) {
	for _, tt := range []struct {
		args      []string
		has, lack string
	}{
		{nil, " up --dir /var/lib/p2pnode\n", "ExecReload"},
		{[]string{"--config", "/etc/mesh.toml"}, " up --dir /var/lib/p2pnode --config /etc/mesh.toml\nExecReload=", "--user"},
		{[]string{"--user", "--dir", "/home/bob/a b"}, ` up --dir "/home/bob/a b"` + "\n", "DynamicUser"},
		{[]string{"--socket"}, "ListenStream=/var/lib/p2pnode/control.sock\n", "Exec"},
		{[]string{"--socket", "--dir", "/a%b"}, "ListenStream=/a%%b/control.sock\n", "Exec"},
	} {
		if got := unitText(t, tt.args...); !strings.Contains(got, tt.has) || strings.Contains(got, tt.lack) {
			t.Errorf("systemd %q = %s, want %q and no %q", tt.args, got, tt.has, tt.lack)
		}
	}
	var stderr bytes.Buffer
	e := &env{stdout: io.Discard, stderr: &stderr, getenv: func(string) string { return "" }}
	if got := e.run(t.Context(), []string{"systemd", "--config", "mesh.toml"}); got != exitUsage || !strings.Contains(stderr.String(), "absolute path") {
		t.Errorf("systemd with a relative path exits with %d: %s", got, &stderr)
	}
}

// A node that systemd runs says when it is ready, and then that it answers.
func TestReadyAndWatchdog(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // a socket's path must not be long
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", dir+"/notify")
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var stderr bytes.Buffer
	e := &env{stdout: io.Discard, stderr: &stderr, getenv: func(string) string { return "1" }}
	go func() {
		ended <- e.run(ctx, []string{"up", "--dir", dir + "/a", "--name", "alice", "--local-only", "--local-dir", dir})
	}()
	defer func() {
		stop()
		if got := <-ended; got != exitDone {
			t.Errorf("up exits with %d: %s", got, &stderr)
		}
	}()
	if err := l.SetReadDeadline(time.Now().Add(scriptPatience)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		b := make([]byte, 100)
		n, err := l.Read(b)
		if got := string(b[:n]); err != nil || got != want {
			t.Fatalf("systemd is told %q, %v, want %q", got, err, want)
		}
	}
}
