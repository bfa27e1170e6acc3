package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

const (
	demoSize    = 1 << 20 // bytes that each pair exchanges
	demoService = "demo"
	demoTimeout = 60 * time.Second
)

// demoNames are the nodes; the others are told of the first only.
var demoNames = []string{"alice", "bob", "carol", "dave", "erin"}

// demoCommand shows the whole on one machine, with the same commands that a
// user would type.
func demoCommand(e *env) *cobra.Command {
	var network bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: five nodes on this machine, streams between all of them",
		Long: `Start five nodes on this machine, each a process of its own that is told of the
first only. They join by an invite and find the others through the DHT; then every
one sends 1 MiB to every other, and the hashes are compared. No port is opened, and
nothing is left.`,
		Example: `  p2pnode demo
  p2pnode demo --no-local`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), demoTimeout, fmt.Errorf("not done after %v", demoTimeout))
			defer cancel()
			return e.demo(ctx, network)
		},
	}
	cmd.Flags().BoolVar(&network, "no-local", false, "have the nodes meet by the network, at ports of this machine")
	return cmd
}

func (e *env) demo(ctx context.Context, network bool) (err error) {
	dir, err := os.MkdirTemp("", "p2pnode-demo-")
	if err != nil {
		return err
	}
	d := &demo{dir: dir, network: network || !unixsock.Supported, log: e.stderr}
	defer func() { err = errors.Join(err, d.close(ctx)) }()
	if err := d.start(ctx); err != nil {
		return orCause(ctx, err)
	}
	view := newDemoView(e.stderr)
	results := d.exchangeAll(ctx, view.update)
	view.end()
	return orCause(ctx, e.printDemo(results))
}

// orCause returns why ctx has ended in the place of what that broke.
func orCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// A demo is the processes and what they share.
type demo struct {
	dir     string
	network bool // is to be used
	log     io.Writer
	nodes   []*demoNode
}

// A demoNode is one process, and the server behind its service.
type demoNode struct {
	name   string
	dir    string
	cmd    *exec.Cmd
	once   sync.Once // for what interrupts the process: a second time would end it at once
	stderr bytes.Buffer
	client *control.Client
	server net.Listener
}

// run starts a node's process and waits until it is ready.
func (d *demo) run(ctx context.Context, n *demoNode, stdin io.Reader, args ...string) error {
	if d.network {
		return n.run(ctx, stdin, append(args, "--no-local")...)
	}
	return n.run(ctx, stdin, append(args, "--local-only", "--local-dir", filepath.Join(d.dir, "local"))...)
}

// start brings up the first node and then all others at once.
func (d *demo) start(ctx context.Context) error {
	begin := time.Now()
	for _, name := range demoNames {
		d.nodes = append(d.nodes, &demoNode{name: name, dir: filepath.Join(d.dir, name)})
	}
	if err := d.run(ctx, d.nodes[0], nil, "up"); err != nil {
		return err
	}
	invite, err := d.nodes[0].client.Invite(ctx, control.InviteOptions{})
	if err != nil {
		return err
	}
	var g errgroup.Group
	for _, n := range d.nodes[1:] {
		g.Go(func() error { return d.run(ctx, n, strings.NewReader(invite.Invite), "join", "-") })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(d.log, "%d nodes are ready after %v\n", len(d.nodes), time.Since(begin).Round(time.Millisecond))
	for _, n := range d.nodes {
		if err := n.serve(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *demoNode) run(ctx context.Context, stdin io.Reader, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args = append(args, "--ephemeral", "--json", "--dir", n.dir, "--name", n.name)
	n.cmd = exec.CommandContext(ctx, self, args...)
	n.cmd.Stdin, n.cmd.Stderr = stdin, &n.stderr
	n.cmd.Cancel = n.interrupt
	n.cmd.WaitDelay = 5 * time.Second // and then it is killed
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		n.cmd = nil
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	if err := waitReady(stdout); err != nil {
		_ = n.interrupt()
		_ = n.cmd.Wait() // until then its stderr is written to
		n.cmd = nil
		return fmt.Errorf("start %s: %w: %s", n.name, err, bytes.TrimSpace(n.stderr.Bytes()))
	}
	n.client, err = control.Open(n.dir)
	return err
}

func (n *demoNode) interrupt() (err error) {
	n.once.Do(func() { err = n.cmd.Process.Signal(os.Interrupt) })
	return err
}

// waitReady reads a node's output up to its ready line.
func waitReady(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var line ready
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Event == "ready" {
			return nil
		}
	}
	return errors.Join(errors.New("it ended before it was ready"), lines.Err())
}

// serve exposes a server that answers with the hash of what it gets.
func (n *demoNode) serve(ctx context.Context) (err error) {
	socket := filepath.Join(n.dir, "s")
	if n.server, err = net.Listen("unix", socket); err != nil {
		return err
	}
	go func() {
		for {
			c, err := n.server.Accept()
			if err != nil {
				return
			}
			go answerHash(c.(*net.UnixConn))
		}
	}()
	_, err = n.client.Expose(ctx, demoService, "unix:"+socket)
	return err
}

// answerHash writes a byte at once and the hash of all it reads at the end.
func answerHash(c *net.UnixConn) {
	defer c.Close()
	if _, err := c.Write([]byte{0}); err != nil {
		return
	}
	h := sha256.New()
	if _, err := io.Copy(h, c); err == nil {
		_, _ = c.Write(h.Sum(nil)) // the other end tells what is missing
	}
}

// A demoResult is what one ordered pair did.
type demoResult struct {
	Version    int     `json:"v"`
	From       string  `json:"from"`
	To         string  `json:"to"`
	Path       string  `json:"path"`
	FirstByte  float64 `json:"first_byte_ms"`
	Throughput float64 `json:"mbit_per_s"`
	RoundTrip  float64 `json:"rtt_ms"`
	Verified   bool    `json:"verified"`
	Error      string  `json:"error,omitempty"`
}

func (d *demo) exchangeAll(ctx context.Context, update func([]demoResult)) []demoResult {
	var results []demoResult
	for _, from := range d.nodes {
		for _, to := range d.nodes {
			if from == to {
				continue
			}
			r := demoResult{Version: control.Version, From: from.name, To: to.name}
			if err := exchange(ctx, from, to, &r); err != nil {
				r.Error = err.Error()
			}
			results = append(results, r)
			update(results)
		}
	}
	return results
}

// exchange sends from one node to another and compares the hashes.
func exchange(ctx context.Context, from, to *demoNode, r *demoResult) error {
	data := make([]byte, demoSize)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	begin := time.Now()
	conn, err := from.client.Dial(ctx, to.name+"/"+demoService)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return fmt.Errorf("first byte: %w", err)
	}
	r.Path, r.FirstByte = conn.Path, ms(time.Since(begin))
	begin = time.Now()
	if _, err := conn.Write(data); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := conn.CloseWrite(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	got := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("hash: %w", err)
	}
	r.Throughput = float64(demoSize) * 8 / 1e6 / time.Since(begin).Seconds()
	if want := sha256.Sum256(data); !bytes.Equal(got, want[:]) {
		return errors.New("the hashes differ")
	}
	r.Verified = true
	pong, err := from.client.Ping(ctx, to.name)
	r.RoundTrip = pong.RTT
	return err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// close ends the processes and removes all files.
func (d *demo) close(ctx context.Context) error {
	var g errgroup.Group
	for _, n := range d.nodes {
		g.Go(n.close)
	}
	err := g.Wait()
	if ctx.Err() != nil {
		err = nil // a terminal interrupts the processes too, and twice is at once
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

func (n *demoNode) close() error {
	if n.server != nil {
		n.server.Close()
	}
	if n.client != nil {
		n.client.Close()
	}
	if n.cmd == nil {
		return nil
	}
	_ = n.interrupt() // it may have ended
	if err := n.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", n.name, err, bytes.TrimSpace(n.stderr.Bytes()))
	}
	return nil
}

// printDemo answers with a table. If a pair did not do it, the demo has failed,
// and the table goes to standard error.
func (e *env) printDemo(results []demoResult) error {
	want := len(demoNames) * (len(demoNames) - 1)
	if failed := failures(results); len(failed) > 0 {
		if !e.json {
			_ = writeDemo(e.stderr, results) // the error says the most of it
		}
		return fmt.Errorf("%d of %d ordered pairs verified; %w", len(results)-len(failed), want, failed[0])
	}
	if e.json {
		return printEach(e, results)
	}
	if err := writeDemo(e.stdout, results); err != nil {
		return err
	}
	_, err := fmt.Fprintf(e.stdout, "\n%d of %d ordered pairs verified\n", want, want)
	return err
}

// failures returns an error for each pair that did not do it.
func failures(results []demoResult) (errs []error) {
	for _, r := range results {
		if !r.Verified {
			errs = append(errs, fmt.Errorf("%s to %s: %s", r.From, r.To, r.Error))
		}
	}
	return errs
}

func writeDemo(w io.Writer, results []demoResult) error {
	t := newTable(w)
	t.row("PAIR", "PATH", "FIRST BYTE", "1 MiB AT", "ROUND TRIP", "")
	for _, r := range results {
		outcome := "verified"
		if !r.Verified {
			outcome = r.Error
		}
		t.row(r.From+" to "+r.To, orDash(r.Path),
			fmt.Sprintf("%.1f ms", r.FirstByte), fmt.Sprintf("%.0f Mbit/s", r.Throughput),
			fmt.Sprintf("%.2f ms", r.RoundTrip), outcome)
	}
	return t.flush()
}
