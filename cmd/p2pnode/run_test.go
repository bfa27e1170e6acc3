package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// brokenPipe is a standard output that nobody reads.
type brokenPipe struct{}

var errNobody = errors.New("nobody reads it")

func (brokenPipe) Write([]byte) (int, error) { return 0, errNobody }

func TestAnswerThatCannotBeWritten(t *testing.T) {
	var stderr bytes.Buffer
	e := &env{stdout: brokenPipe{}, stderr: &stderr}
	if got := e.run(t.Context(), []string{"version"}); got != exitFailed {
		t.Errorf("version exits with %d, want %d", got, exitFailed)
	}
	if want := "p2pnode: nobody reads it\n"; stderr.String() != want {
		t.Errorf("standard error = %q, want %q", &stderr, want)
	}
}

// A node that can't say that it is ready ends, and lets go of its directory.
func TestNodeThatCannotSayItIsReady(t *testing.T) {
	dir, err := os.MkdirTemp("", "r")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	args := []string{"up", "--dir", dir, "--name", "alice", "--listen", "/ip4/127.0.0.1/tcp/0"}
	getenv := func(string) string { return "" }
	e := &env{stdout: brokenPipe{}, stderr: io.Discard, getenv: getenv}
	if got := e.run(t.Context(), args); got != exitFailed {
		t.Errorf("up exits with %d, want %d", got, exitFailed)
	}
	for _, file := range []string{"control.sock", "owner.json"} {
		if _, err := os.Lstat(filepath.Join(dir, file)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was left: %v", file, err)
		}
	}
	var stdout, stderr bytes.Buffer
	e = &env{stdout: &stdout, stderr: &stderr, getenv: getenv}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the directory is free if it gets as far as to notice that
	if got := e.run(ctx, args); got != exitDone && !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("up again exits with %d: %s", got, &stderr)
	}
}

func TestDirectory(t *testing.T) {
	config, err := os.UserConfigDir()
	if err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct{ name, flag, variable, want string }{
		{"flag", "/a", "/b", "/a"},
		{"variable", "", "/b", "/b"},
		{"neither", "", "", filepath.Join(config, "p2pnode")},
		{"not clean", "/a/../c/", "", "/c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &env{dir: tt.flag, getenv: func(key string) string {
				if key == dirVariable {
					return tt.variable
				}
				return ""
			}}
			got, err := e.directory()
			if err != nil || got != tt.want {
				t.Errorf("directory() = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestExitStatusAndReport(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{"no command", []string{"frob"}, exitUsage, "p2pnode: there is no command \"frob\"; see p2pnode --help\n"},
		{"near a command", []string{"staus"}, exitUsage, "p2pnode: there is no command \"staus\"; did you mean status?\n"},
		{"no flag", []string{"status", "--frob"}, exitUsage, "p2pnode: unknown flag: --frob; see p2pnode status --help\n"},
		{"no node", []string{"status", "--dir", "/none"}, exitFailed, "p2pnode: directory /none: no node is running\n" +
			"  start one with \"p2pnode up\" or \"p2pnode join\", or name its directory with --dir\n"},
		{"in JSON", []string{"--json", "status", "--dir", "/none"}, exitFailed, `{"v":1,"code":"not-running","error":"directory /none: no node is running",` +
			`"hint":"start one with \"p2pnode up\" or \"p2pnode join\", or name its directory with --dir"}` + "\n"},
		{"asked wrongly in JSON", []string{"--json", "frob"}, exitUsage, `{"v":1,"code":"bad-request","error":"there is no command \"frob\"; see p2pnode --help"}` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			e := &env{stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
			if got := e.run(t.Context(), tt.args); got != tt.status {
				t.Errorf("exits with %d, want %d", got, tt.status)
			}
			if stdout.Len() > 0 || stderr.String() != tt.stderr {
				t.Errorf("standard output = %q, standard error = %q, want %q", &stdout, &stderr, tt.stderr)
			}
		})
	}
}
