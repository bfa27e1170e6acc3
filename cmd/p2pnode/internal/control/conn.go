package control

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"sync"
	"syscall"
)

// Protocol is what a connection is upgraded to that carries a stream, and
// PathHeader where the answer tells by which path the stream goes.
const (
	Protocol   = "p2pnode-stream"
	PathHeader = "P2pnode-Path"
)

// ErrBroken says that a stream broke before its end.
var ErrBroken = errors.New("the stream broke before its end")

// A Conn is a stream between a command and its node. Its bytes go in chunks,
// as in RFC 9112 section 7.1 and without trailers, each way until a last chunk.
// A unix socket by itself would make a stream that broke, and a command that
// was killed, look like an end.
type Conn struct {
	net.Conn
	Path string // by which the stream goes to the member; set by Client.Dial

	chunksIn io.Reader

	mu        sync.Mutex // guards writing
	out       *bufio.Writer
	chunksOut io.WriteCloser
}

// NewConn makes a Conn of a connection that was upgraded, and of what has been
// read from it since.
func NewConn(c net.Conn, r *bufio.Reader) *Conn {
	out := bufio.NewWriter(c)
	return &Conn{
		Conn:     c,
		chunksIn: httputil.NewChunkedReader(r), out: out, chunksOut: httputil.NewChunkedWriter(out),
	}
}

// Read returns io.EOF where the other end has called CloseWrite, and ErrBroken
// where it has gone without.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.chunksIn.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		err = ErrBroken
	}
	return n, err
}

// Write sends p at once.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.chunksOut.Write(p)
	if err != nil {
		return n, err
	}
	return n, c.out.Flush()
}

// CloseWrite tells the other end that no more will be written. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.chunksOut.Close(); err != nil {
		return err
	}
	return c.out.Flush()
}

// Reset gives the stream up: unless CloseWrite was called, the other end reads
// ErrBroken. It is Close by the name that package forward knows.
func (c *Conn) Reset() error { return c.Close() }
