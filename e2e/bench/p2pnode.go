package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const p2pnodePackage = "github.com/p2pnode/p2pnode/cmd/p2pnode"

// p2pnodeWay is the way through a forward between two nodes of this project,
// run by its command: alice exposes the server, bob listens for the client.
type p2pnodeWay struct{}

func (p2pnodeWay) name() string { return "p2pnode" }

func (p2pnodeWay) start(ctx context.Context, s *site, server string) (string, error) {
	command, err := buildP2pnode(ctx, s)
	if err != nil {
		return "", err
	}
	alice, bob := filepath.Join(s.dir, "a"), filepath.Join(s.dir, "b")
	if err := startNode(ctx, s, "alice", exec.Command(command, "up", "--dir", alice, "--name", "alice", "--json")); err != nil {
		return "", err
	}
	invite, err := s.output(ctx, command, "invite", "--dir", alice)
	if err != nil {
		return "", err
	}
	join := exec.Command(command, "join", "--dir", bob, "--name", "bob", "--json", "-")
	join.Stdin = strings.NewReader(invite)
	if err := startNode(ctx, s, "bob", join); err != nil {
		return "", err
	}
	if _, err := s.output(ctx, command, "expose", "web", server, "--dir", alice); err != nil {
		return "", err
	}
	listen, err := freeAddr()
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

// saysReady reports whether a line of a node's output is its ready event.
func saysReady(line string) bool {
	var said struct {
		Event string `json:"event"`
	}
	return json.Unmarshal([]byte(line), &said) == nil && said.Event == "ready"
}
