package main

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
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A site is where the measured processes live.
type site struct {
	dir     string
	command string // p2pnode
	logs    string // a directory for what nodes of the laboratory say, or empty
	program string // this program, for its other roles; if empty, as it is

	mu    sync.Mutex // guards nodes
	nodes []*node
}

func newSite(ctx context.Context) (*site, error) {
	dir, err := os.MkdirTemp("", "measure-")
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, command: filepath.Join(dir, "p2pnode")}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.command, "github.com/p2pnode/p2pnode/cmd/p2pnode")
	if out, err := build.CombinedOutput(); err != nil {
		s.close()
		return nil, fmt.Errorf("build p2pnode: %w: %s", err, out)
	}
	return s, nil
}

// build makes this program with build tags the one that other roles are run by. Without
// any, it is as it is.
func (s *site) build(ctx context.Context, tags string) error {
	if tags == "" {
		return nil
	}
	s.program = filepath.Join(s.dir, "measure")
	build := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", s.program, "github.com/p2pnode/p2pnode/e2e/measure")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build with %s: %w: %s", tags, err, out)
	}
	return nil
}

// close ends all nodes, which are asked first, and then waited for.
func (s *site) close() {
	for _, n := range s.nodes {
		n.interrupt()
	}
	for _, n := range s.nodes {
		n.stop()
	}
	os.RemoveAll(s.dir)
}

// A node is a p2pnode process.
type node struct {
	site   *site
	name   string
	dir    string
	host   *lab.Host // where it runs; nil is on this machine itself
	cmd    *exec.Cmd
	stderr *bytes.Buffer // to be read when the process has ended
}

func (s *site) node(name string) *node {
	n := &node{site: s, name: name, dir: filepath.Join(s.dir, name)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
	return n
}

// forget drops a node that has ended.
func (s *site) forget(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = slices.DeleteFunc(s.nodes, func(o *node) bool { return o == n })
}

// start runs the node and returns how long it took until it was ready.
func (n *node) start(ctx context.Context, stdin string, args ...string) (time.Duration, error) {
	begin := time.Now()
	args = append(args, "--dir", n.dir, "--name", n.name, "--json")
	if n.host == nil {
		args = append(args, "--no-lan")
	}
	if n.host != nil {
		n.cmd = n.host.Command(context.WithoutCancel(ctx), n.site.command, args...)
	} else {
		n.cmd = exec.CommandContext(ctx, n.site.command, args...)
	}
	n.cmd.Stdin = strings.NewReader(stdin)
	if n.host == nil {
		ownProcess(n.cmd)
	}
	n.stderr = new(bytes.Buffer)
	n.cmd.Stderr = n.stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := n.cmd.Start(); err != nil {
		n.cmd = nil
		return 0, err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if bytes.Contains(lines.Bytes(), []byte(`"event":"ready"`)) {
			return time.Since(begin), nil
		}
	}
	err = n.cmd.Wait()
	n.cmd = nil
	return 0, fmt.Errorf("%s ended before it was ready: %w: %s", n.name, err, n.stderr)
}

func (n *node) interrupt() {
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(os.Interrupt) // it may have ended
	}
}

func (n *node) stop() {
	if n.cmd == nil {
		return
	}
	n.interrupt()
	waitOrKill(n.cmd)
	n.cmd = nil
}

func (n *node) output(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, n.site.command, append(args, "--dir", n.dir)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("p2pnode %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// forward asks the node to tie a free port to a target.
func (n *node) forward(ctx context.Context, target string) (string, error) {
	var made struct{ Listen string }
	err := n.call(ctx, http.MethodPost, "forwards", fmt.Sprintf(`{"listen":"0","target":%q}`, target), &made)
	return made.Listen, err
}

// call asks the node, without another process, and reads its answer.
func (n *node) call(ctx context.Context, method, what, body string, answer any) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(n.dir, "control.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://node/v1/"+what, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var refused struct{ Error string }
		err := json.NewDecoder(resp.Body).Decode(&refused)
		return errors.Join(fmt.Errorf("%s: %s: %s", n.name, what, refused.Error), err)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// greeter writes a byte to whoever connects.
func greeter() (net.Listener, error) { return greeterAt("tcp", "127.0.0.1:0") }

func greeterAt(network, addr string) (net.Listener, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := c.Write([]byte("!")); err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	return l, nil
}

// firstByte connects and waits for a byte.
func firstByte(ctx context.Context, addr string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}
