package p2p

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// bulkTLS is go-libp2p's TLS with fewer system calls for those who send much:
// crypto/tls writes each record of 16 KiB by itself and reads little more than
// one at a time. The bytes on the wire are the same.
type bulkTLS struct{ *libp2ptls.Transport }

func (t bulkTLS) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	raw := &bulkConn{Conn: insecure}
	c, err := t.Transport.SecureInbound(ctx, raw, p)
	return raw.secured(c, err)
}

func (t bulkTLS) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	raw := &bulkConn{Conn: insecure}
	c, err := t.Transport.SecureOutbound(ctx, raw, p)
	return raw.secured(c, err)
}

// bulkSecure gathers the records of one Write, and answers yamux's pings late.
type bulkSecure struct {
	sec.SecureConn
	raw *bulkConn
	mu  sync.Mutex

	pong atomic.Bool // one waits
}

func (c *bulkConn) secured(s sec.SecureConn, err error) (sec.SecureConn, error) {
	if err != nil {
		return nil, err
	}
	return &bulkSecure{SecureConn: s, raw: c}, nil
}

// oneRecord is what crypto/tls puts into one record, RFC 8446 section 5.1.
const oneRecord = 16 << 10

// pongDelay is what a ping seems to take longer. A yamux stream gets a larger window
// when half of the one that it has was read within four round trips, as measured when
// the connection was new and twice a minute since. That is too little where what was
// lost is waited for, or a round trip has become longer, or a machine is busy. With
// this a window may last for 0.4 seconds and four round trips. A longer delay gained
// little, and streams beside one of bulk wait for what its window lets into the queue.
const pongDelay = 50 * time.Millisecond

// isPong tells whether a frame of yamux's, of which a Write is one, answers a ping.
func isPong(p []byte) bool {
	const length, ping, ack = 12, 2, 2
	return len(p) == length && p[0] == 0 && p[1] == ping && p[3]&ack != 0
}

// pongLater writes an answer after pongDelay. One waits at a time.
func (s *bulkSecure) pongLater(p []byte) bool {
	if s.pong.Swap(true) {
		return false
	}
	pong := bytes.Clone(p)
	time.AfterFunc(pongDelay, func() {
		s.pong.Store(false)
		_, _ = s.SecureConn.Write(pong) // what fails does so for yamux too
	})
	return true
}

func (s *bulkSecure) Write(p []byte) (int, error) {
	if isPong(p) && s.pongLater(p) {
		return len(p), nil
	}
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

	mu   sync.Mutex // guards the fields below
	held bool
	out  *[]byte
	used int
}

func (c *bulkConn) Read(p []byte) (int, error) {
	if c.in == nil && !c.bulk {
		n, err := c.Conn.Read(p)
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
	c.bulk = n >= smallRead
	if n == 0 {
		bulkBuffers.Put(b)
		return 0, err
	}
	c.in, c.from, c.to = b, 0, n // an error will come again
	return n, nil
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
