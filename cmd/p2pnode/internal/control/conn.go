package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"sync"
	"time"
)

// What a connection is upgraded to that carries a stream, and where the answer tells
// of it.
const (
	Protocol    = "p2pnode-stream" // in chunks, see [Conn]
	ProtocolRaw = "p2pnode-raw"    // the bytes as they are, see the package comment

	PathHeader   = "P2pnode-Path"   // by which path the stream goes
	StreamHeader = "P2pnode-Stream" // of a raw one, the ID that its [Outcome] is asked for by
)

// ErrBroken says that a stream broke before its end.
var ErrBroken = errors.New("the stream broke before its end")

// A Conn is a stream between a command and its node. Its bytes go in chunks,
// as in RFC 9112 section 7.1 and without trailers, each way until a last chunk.
// A unix socket by itself would make a stream that broke, and a command that
// was killed, look like an end. In the place of a chunk there may be a line with
// the reason why the stream breaks: brokenMark, which begins no chunk, and an
// [Error] in JSON.
type Conn struct {
	net.Conn
	Path string // by which the stream goes to the member; set by Client.Dial

	in *chunkReader

	mu        sync.Mutex // guards writing
	ended     bool       // the last chunk was written
	out       *bufio.Writer
	chunksOut io.WriteCloser
}

const (
	brokenMark = '!'

	// maxReason bounds the text of a reason. With all of it escaped it still
	// fits the buffer that a line is read through.
	maxReason = 512

	// abortTimeout is how long a reader may take to make room for the reason.
	abortTimeout = time.Second
)

// NewConn makes a Conn of a connection that was upgraded, and of what has been
// read from it since.
func NewConn(c net.Conn, r *bufio.Reader) *Conn {
	out := bufio.NewWriter(c)
	return &Conn{Conn: c, in: &chunkReader{in: r}, out: out, chunksOut: httputil.NewChunkedWriter(out)}
}

// Read returns io.EOF where the other end has called CloseWrite, and ErrBroken
// where it has gone without. If it called Abort, the error is an [*Error] too.
func (c *Conn) Read(p []byte) (int, error) { return c.in.Read(p) }

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
	c.ended = true
	if err := c.chunksOut.Close(); err != nil {
		return err
	}
	return c.out.Flush()
}

// Abort gives the stream up for a reason, which the other end reads unless
// CloseWrite was called. A Write must not be under way.
func (c *Conn) Abort(why *Error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return c.Close()
	}
	told := *why
	told.Text = told.Text[:min(len(told.Text), maxReason)]
	data, err := json.Marshal(told)
	if err == nil {
		err = c.SetWriteDeadline(time.Now().Add(abortTimeout))
	}
	if err == nil {
		fmt.Fprintf(c.out, "%c%s\r\n", brokenMark, data)
		err = c.out.Flush()
	}
	return errors.Join(err, c.Close())
}

// Reset gives the stream up: unless CloseWrite was called, the other end reads
// ErrBroken. It is Close by the name that package forward knows.
func (c *Conn) Reset() error { return c.Close() }
