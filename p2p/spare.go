package p2p

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// A stream of libp2p costs several frames, a negotiation and much memory to open and to
// close, which for a short stream is more than all else. So one that has carried a
// durable stream to its end in order is kept for the next that its opener opens on the
// same connection.

const (
	// maxSpares bounds what is kept of one connection: streams that are open at the
	// same time and have ended.
	maxSpares = 64

	// spareFor is how long one is kept. What it holds of memory is little, so this is
	// for those who come again, and not for ever.
	spareFor = 10 * time.Second
)

// spares are streams that this end has opened and that carry nothing now.
type spares struct {
	start func(func()) bool // runs what may take a while; never changed

	mu     sync.Mutex // guards the fields below
	of     map[network.Conn][]spare
	timer  *time.Timer // until some are to be closed; nil while there are none
	closed bool
}

type spare struct {
	raw   network.MuxedStream
	since time.Time
}

// take returns one of a connection, nil if there is none: the one that was used last,
// so that those too many get old.
func (s *spares) take(c network.Conn) network.MuxedStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.of[c]
	if len(all) == 0 {
		return nil
	}
	raw := all[len(all)-1].raw
	s.setLocked(c, all[:len(all)-1])
	return raw
}

// keep takes one in, unless there are enough.
func (s *spares) keep(c network.Conn, raw network.MuxedStream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || c.IsClosed() || len(s.of[c]) >= maxSpares {
		return false
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(spareFor, s.age)
	}
	s.setLocked(c, append(s.of[c], spare{raw, time.Now()}))
	return true
}

func (s *spares) setLocked(c network.Conn, all []spare) {
	if len(all) == 0 {
		delete(s.of, c)
		return
	}
	if s.of == nil {
		s.of = map[network.Conn][]spare{}
	}
	s.of[c] = all
}

// age closes those that have not been used for a while.
func (s *spares) age() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	now := time.Now()
	for c, all := range s.of {
		fresh := slices.IndexFunc(all, func(one spare) bool { return now.Sub(one.since) < spareFor })
		if fresh < 0 {
			fresh = len(all)
		}
		for _, old := range all[:fresh] {
			s.start(func() { _ = old.raw.Close() }) // which may wait for room on the connection
		}
		s.setLocked(c, slices.Clone(all[fresh:]))
	}
	if s.timer = nil; len(s.of) > 0 {
		s.timer = time.AfterFunc(spareFor/2, s.age)
	}
}

// drop forgets those of a connection that is closed.
func (s *spares) drop(c network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, c)
}

// close forgets all: the connections are closed.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.of = true, nil
	if s.timer != nil {
		s.timer.Stop()
	}
}
