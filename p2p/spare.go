package p2p

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/p2pnode/p2pnode/p2p/durable"
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

	mu      sync.Mutex // guards the fields below
	of      map[network.Conn][]spare
	timer   *time.Timer // until some are to be closed; nil while there are none
	telling *time.Timer // until the peer is told on some that owe it; nil else
	closed  bool
}

type spare struct {
	raw   network.MuxedStream
	since time.Time
	owes  bool // the peer has yet to hear that this end has all of the last stream
}

// take returns one of a connection, nil if there is none: the one that was used last,
// so that those too many get old. It tells whether the peer is still to hear that this end
// has all of the stream before, which the next hello says.
func (s *spares) take(c network.Conn) (raw network.MuxedStream, owes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.of[c]
	if len(all) == 0 {
		return nil, false
	}
	last := all[len(all)-1]
	s.setLocked(c, all[:len(all)-1])
	return last.raw, last.owes
}

// keep takes one in, unless there are enough. If the peer has yet to hear that this end
// has all of the stream before, it is told unless another begins soon, which says so.
func (s *spares) keep(c network.Conn, raw network.MuxedStream, owes bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || c.IsClosed() || len(s.of[c]) >= maxSpares {
		return false
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(spareFor, s.age)
	}
	if owes && s.telling == nil {
		s.telling = time.AfterFunc(endDelay, s.tell)
	}
	s.setLocked(c, append(s.of[c], spare{raw, time.Now(), owes}))
	return true
}

// tell has peers told on those that owe it for a while. They are taken out meanwhile.
func (s *spares) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.telling = nil
	if s.closed {
		return
	}
	now, more := time.Now(), false
	for c, all := range s.of {
		var stay []spare
		for _, one := range all {
			if !one.owes || now.Sub(one.since) < endDelay {
				more = more || one.owes
				stay = append(stay, one)
				continue
			}
			s.start(func() { s.tellOn(c, one.raw) }) // else the connection closes anyway
		}
		s.setLocked(c, stay)
	}
	if more {
		s.telling = time.AfterFunc(endDelay, s.tell)
	}
}

func (s *spares) tellOn(c network.Conn, raw network.MuxedStream) {
	_ = raw.SetWriteDeadline(time.Now().Add(helloPatience))
	_, err := raw.Write(durable.AppendAll(nil))
	_ = raw.SetWriteDeadline(time.Time{})
	switch {
	case err != nil:
		_ = raw.Reset() // then the peer asks
	case !s.keep(c, raw, false):
		_ = raw.Close() // there are enough
	}
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

// giveUp ends those of some connections, which are to be closed, and tells whether a peer
// is still to hear of that. It waits for a moment at most.
func (s *spares) giveUp(conns []network.Conn) bool {
	var owing sync.WaitGroup
	owed := false
	s.mu.Lock()
	for _, c := range conns {
		for _, one := range s.of[c] {
			if one.owes {
				owed = true
				owing.Go(func() { _ = one.raw.Close() }) // if it can't, the peer asks
			}
		}
		delete(s.of, c)
	}
	s.mu.Unlock()
	if !owed {
		return false
	}
	done := make(chan struct{})
	go func() { owing.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(goodbye):
	}
	return true
}

// close forgets all: the connections are closed.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.of = true, nil
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.telling != nil {
		s.telling.Stop()
	}
}

// lasts tells whether a carrier may carry another stream once it has carried one.
func (c *durableCarrier) lasts() bool { return !c.single() && unixConn(c.conn) == nil }

// leaveCarrierLocked leaves a carrier that both ends have given all to the next stream.
// It returns false if that can't be.
func (d *durableStream) leaveCarrierLocked(c *durableCarrier) bool {
	if !c.lasts() || c.stopped || d.end.Err() != nil || !d.end.Through() || d.moving || d.reading || d.sending || c.lo != c.hi {
		return false
	}
	raw := c.raw
	if named, ok := raw.(*namer); ok {
		raw = named.MuxedStream
	}
	ds := d.node.durables
	_ = raw.SetDeadline(time.Time{})
	switch {
	case d.opener:
		owes, _ := d.end.AckDue()
		if !ds.spares.keep(c.conn, raw, owes) {
			return false
		}
		d.end.Ack() // by the next stream on it, or else by spares
	case !d.opener && !d.node.start(func() { d.node.receiveNext(c, d) }):
		return false
	}
	d.left = c.conn
	d.dropCarrierLocked()
	if c.conn.IsClosed() { // before it was known that the stream still asks for it
		d.node.start(func() { ds.connClosed(c.conn) })
	}
	return true
}

// peerHasAll takes in that the peer is through with a carrier that the stream has left:
// it has all.
func (d *durableStream) peerHasAll(c *durableCarrier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone || d.carrier != nil || d.left != c.conn || d.end.Epoch() != c.epoch {
		return
	}
	d.end.Drained()
	d.finishLocked()
}

// leftBroken takes in that the carrier of an epoch which the stream has left is broken.
// If the peer has yet to say that it has all, it may have gone on with another, and be
// done.
func (d *durableStream) leftBroken(c network.Conn, epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone || d.carrier != nil || d.left != c || d.end.Epoch() != epoch {
		return
	}
	d.left = nil
	d.strayLocked(epoch)
}
