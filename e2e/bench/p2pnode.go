package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const p2pnodePackage = "github.com/p2pnode/p2pnode/cmd/p2pnode"

// p2pnodeWay is the way through a forward between two nodes of this project,
// run by its command: alice exposes the server, bob listens for the client.
type p2pnodeWay struct {
	overTCP
	called string
	local  bool // the nodes may use the path on this machine
}

func (w p2pnodeWay) name() string { return w.called }

func (w p2pnodeWay) start(ctx context.Context, s *site, server string) (string, error) {
	if !w.local && s.apart() {
		return "", skip("the same as p2pnode, whose nodes are on two machines")
	}
	var flags []string
	if !w.local || s.apart() { // namespaces of the network have their files in common
		flags = []string{"--no-local"}
	}
	command, err := buildP2pnode(ctx, s)
	if err != nil {
		return "", err
	}
	alice, bob := filepath.Join(s.dir, "a"), filepath.Join(s.dir, "b")
	up := s.far.command(command, append([]string{"up", "--dir", alice, "--name", "alice", "--json"}, flags...)...)
	if err := startNode(ctx, s, "alice", up); err != nil {
		return "", err
	}
	invite, err := s.output(ctx, command, "invite", "--dir", alice)
	if err != nil {
		return "", err
	}
	join := s.near.command(command, append([]string{"join", "--dir", bob, "--name", "bob", "--json", "-"}, flags...)...)
	join.Stdin = strings.NewReader(invite)
	if err := startNode(ctx, s, "bob", join); err != nil {
		return "", err
	}
	if _, err := s.output(ctx, command, "expose", "web", server, "--dir", alice); err != nil {
		return "", err
	}
	s.path = func(ctx context.Context) (string, error) {
		out, err := s.output(ctx, command, "peers", "--json", "--dir", bob)
		if err != nil {
			return "", err
		}
		return pathIn(out, "alice")
	}
	listen, err := s.near.freeAddr()
	if err != nil {
		return "", err
	}
	_, err = s.output(ctx, command, "forward", listen, "alice/web", "--dir", bob)
	return listen, err
}

// buildP2pnode builds the command from the tree that the present folder is in.
func buildP2pnode(ctx context.Context, s *site) (string, error) {
	file := filepath.Join(s.dir, "p2pnode")
	if runtime.GOOS == "windows" {
		file += ".exe"
	}
	if _, err := s.output(ctx, "go", "build", "-o", file, p2pnodePackage); err != nil {
		return "", skip("./cmd/p2pnode can't be built: " + err.Error())
	}
	return file, nil
}

// startNode starts a node and waits until it says that it is ready.
func startNode(ctx context.Context, s *site, name string, cmd *exec.Cmd) error {
	p, err := s.start(name, cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		line, err := p.line(ctx)
		if err != nil {
			return err
		}
		if saysReady(line) {
			return nil
		}
	}
}

// pathIn returns the path to a member, from what "p2pnode peers --json" printed.
func pathIn(out, name string) (string, error) {
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var m struct{ Name, Path string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return "", fmt.Errorf("peers: no %s in %q", name, out)
		} else if err != nil {
			return "", fmt.Errorf("peers: %w", err)
		}
		if m.Name == name {
			return m.Path, nil
		}
	}
}

// saysReady reports whether a line of a node's output is its ready event.
func saysReady(line string) bool {
	var said struct {
		Event string `json:"event"`
	}
	return json.Unmarshal([]byte(line), &said) == nil && said.Event == "ready"
}
