package overlaytest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
)

// childArgument makes a test's binary a node.
const childArgument = "overlaytest-node"

// maxLine bounds an order and an answer, of which an invite is the longest.
const maxLine = 64 << 10

// prepared tells that Main was called, so that this binary can be a node.
var prepared bool

// Main runs the tests of m, a [*testing.M] or what runs one, and makes the
// binary fit for [Processes]. It exits.
func Main(m interface{ Run() int }) {
	if len(os.Args) == 2 && os.Args[1] == childArgument {
		if err := runChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	prepared = true
	os.Exit(m.Run())
}

// An order is what the test has a process do.
type order struct {
	Do      string `json:"do,omitempty"` // start, invite or listen; to a dial socket nothing
	Name    string `json:"name,omitempty"`
	Dir     string `json:"dir,omitempty"`
	Invite  string `json:"invite,omitempty"`
	Local   string `json:"local,omitempty"`
	Socket  string `json:"socket,omitempty"` // where dials are taken, or where streams go
	Service string `json:"service,omitempty"`
	Target  string `json:"target,omitempty"`
}

type answer struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

// A child is the node in a process.
type child struct {
	mesh *overlay.Mesh
	wg   sync.WaitGroup
	open []io.Closer
}

// runChild carries out orders until they end.
func runChild(in io.Reader, out io.Writer) error {
	c := &child{}
	defer c.close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		text, err := c.carryOut(o)
		if err := answers.Encode(answerOf(text, err)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func answerOf(text string, err error) answer {
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Text: text}
}

func (c *child) carryOut(o order) (string, error) {
	switch o.Do {
	case "start":
		return "", c.start(o)
	case "invite":
		inv, err := c.mesh.Invite(overlay.InviteOptions{})
		if err != nil {
			return "", err
		}
		return inv.Text(), nil
	case "listen":
		return "", c.listen(o.Service, o.Socket)
	}
	return "", fmt.Errorf("there is no order %q", o.Do)
}

func (c *child) start(o order) (err error) {
	config := overlay.Config{LocalDir: o.Local, LocalOnly: true}
	if o.Local == "" {
		config = Network()
	}
	config.Name, config.Dir = o.Name, o.Dir
	if o.Invite == "" {
		c.mesh, err = overlay.Open(context.Background(), config)
	} else {
		c.mesh, err = overlay.Join(context.Background(), o.Invite, config)
	}
	if err != nil {
		return err
	}
	_ = os.Remove(o.Socket) // of a process before this one
	l, err := net.Listen("unix", o.Socket)
	if err != nil {
		return err
	}
	c.open = append(c.open, l)
	c.serve(l, c.dial)
	return nil
}

// serve handles each connection in a goroutine of its own.
func (c *child) serve(l net.Listener, handle func(net.Conn)) {
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { handle(conn) })
		}
	})
}

// dial ties a connection to the stream that it asks for.
func (c *child) dial(conn net.Conn) {
	line, err := readLine(conn)
	if err != nil {
		conn.Close()
		return
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		conn.Close()
		return
	}
	stream, err := c.mesh.Dial(context.Background(), o.Target)
	if encErr := json.NewEncoder(conn).Encode(answerOf("", err)); err != nil || encErr != nil {
		conn.Close()
		if err == nil {
			stream.Reset()
		}
		return
	}
	_ = forward.Join(context.Background(), conn, stream) // both ends see how it ended
}

// listen offers a service whose streams go to a socket of the test.
func (c *child) listen(service, socket string) error {
	l, err := c.mesh.Listen(service)
	if err != nil {
		return err
	}
	c.open = append(c.open, l)
	c.serve(l, func(stream net.Conn) {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			stream.(*overlay.Conn).Reset()
			return
		}
		_ = forward.Join(context.Background(), conn, stream)
	})
	return nil
}

func (c *child) close() {
	for _, o := range c.open {
		o.Close()
	}
	if c.mesh != nil {
		c.mesh.Close() // ends the streams
	}
	c.wg.Wait()
}

// readLine reads a line and not a byte more, which would be the stream's.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	var b [1]byte
	for len(line) < maxLine {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return line, nil
		}
		line = append(line, b[0])
	}
	return nil, errors.New("line too long")
}
