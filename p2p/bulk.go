package p2p

import (
	"cmp"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// bulkTLS is go-libp2p's TLS with fewer system calls for those who send much:
// crypto/tls writes each record of 16 KiB by itself and reads little more than
// one at a time. The bytes on the wire are the same.
type bulkTLS struct {
	*libp2ptls.Transport                      // for what this node dials
	listens              *libp2ptls.Transport // for what comes in, with more muxers; nil for the same
}

func (t bulkTLS) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	raw := &bulkConn{Conn: insecure}
	c, err := cmp.Or(t.listens, t.Transport).SecureInbound(ctx, raw, p)
	return raw.secured(c, err)
}

func (t bulkTLS) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	raw := &bulkConn{Conn: insecure}
	c, err := t.Transport.SecureOutbound(ctx, raw, p)
	return raw.secured(c, err)
}

// bulkSecure gathers the records of one Write.
type bulkSecure struct {
	sec.SecureConn
	raw *bulkConn
	mu  sync.Mutex
}

func (c *bulkConn) secured(s sec.SecureConn, err error) (sec.SecureConn, error) {
	if err != nil {
		return nil, err
	}
	return &bulkSecure{SecureConn: s, raw: c}, nil
}

// oneRecord is what crypto/tls puts into one record, RFC 8446 section 5.1.
const oneRecord = 16 << 10

func (s *bulkSecure) Write(p []byte) (int, error) {
	if len(p) <= oneRecord {
		return s.SecureConn.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.hold()
	n, err := s.SecureConn.Write(p)
	if flushErr := s.raw.release(); err == nil {
		err = flushErr
	}
	return n, err
}

const (
	// bulkBuffer holds the records of the largest frame that newMuxer allows.
	bulkBuffer = maxFrame + maxFrame/8

	// smallRead is what a read brings when the sender has paused.
	smallRead = 16 << 10
)

var bulkBuffers = sync.Pool{New: func() any { b := make([]byte, bulkBuffer); return &b }}

// bulkConn is the connection under TLS. Buffers are held only while much is
// being sent or received.
type bulkConn struct {
	net.Conn

	// Used by Read alone, which TLS calls once at a time.
	bulk     bool    // the last read filled what it was given
	in       *[]byte // nil without unread bytes
	from, to int

	ended atomic.Bool // the other end has closed the connection

	mu   sync.Mutex // guards the fields below
	held bool
	out  *[]byte
	used int
}

func (c *bulkConn) Read(p []byte) (int, error) {
	if c.in == nil && !c.bulk {
		n, err := c.Conn.Read(p)
		c.noteEnd(err)
		c.bulk = n == len(p) && n >= smallRead/4
		return n, err
	}
	if c.in == nil {
		if n, err := c.fill(); n == 0 {
			return 0, err
		}
	}
	n := copy(p, (*c.in)[c.from:c.to])
	if c.from += n; c.from == c.to {
		bulkBuffers.Put(c.in)
		c.in = nil
	}
	return n, nil
}

// fill reads as much as there is into a buffer.
func (c *bulkConn) fill() (int, error) {
	b := bulkBuffers.Get().(*[]byte)
	n, err := c.Conn.Read(*b)
	c.noteEnd(err)
	c.bulk = n >= smallRead
	if n == 0 {
		bulkBuffers.Put(b)
		return 0, err
	}
	c.in, c.from, c.to = b, 0, n // an error will come again
	return n, nil
}

func (c *bulkConn) noteEnd(err error) {
	if err == io.EOF {
		c.ended.Store(true)
	}
}

// unread returns how many bytes are in that Read has not yet passed on.
func (c *bulkConn) unread() int {
	if c.in == nil {
		return 0
	}
	return c.to - c.from
}

func (c *bulkConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.out, c.used = true, bulkBuffers.Get().(*[]byte), 0
}

func (c *bulkConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flushLocked()
	bulkBuffers.Put(c.out)
	c.held, c.out = false, nil
	return err
}

func (c *bulkConn) flushLocked() error {
	if c.used == 0 {
		return nil
	}
	_, err := c.Conn.Write((*c.out)[:c.used])
	c.used = 0
	return err
}

func (c *bulkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.held {
		return c.Conn.Write(p)
	}
	if c.used+len(p) > len(*c.out) {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > len(*c.out) {
		return c.Conn.Write(p)
	}
	c.used += copy((*c.out)[c.used:], p)
	return len(p), nil
}
