package p2p

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-yamux/v5"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// A durableStream is an end of a stream that outlives its connection: see package
// durable, of which it moves the bytes. It is what a [Stream] is over on the paths
// that may break.
//
// Who reads or writes a carrier does so without the lock, marked by reading and
// sending; nobody else does meanwhile, and the carrier is not replaced.
type durableStream struct {
	// Set when it is made and never changed.
	node   *Node
	peer   peer.ID
	id     durable.ID
	proto  string
	opener bool
	began  time.Time

	mu      sync.Mutex // guards the fields below; taken before that of notes
	end     *durable.End
	carrier *durableCarrier // nil while there is none
	left    network.Conn    // where the last was, once all has gone over it; nil else
	path    Path            // of the last carrier
	wake    chan struct{}   // closed when something changes; nil unless somebody waits

	reading  bool // somebody reads the carrier
	sending  bool // somebody writes to it
	flushing bool // somebody has the turn to
	writing  bool // somebody has the turn to add to what is to be written
	moving   bool // another carrier is being asked for
	closed   bool // by Close
	gone     bool // it is forgotten

	readDeadline, writeDeadline time.Time

	resetBy *durable.ResetError // the peer gave it up, behind what is under way
	code    uint32              // with which this end gave it up; CodeUnknown if not
	expiry  *time.Timer         // until the time limit, while there is no carrier
	watched bool                // see durables.watch

	// Whether it is bulk, or goes to and fro; see weighLocked.
	trips     uint64 // how often something came after something had gone out, since weighedAt
	asked     bool   // something has gone out since
	weighed   uint64
	weighedAt time.Time
	leaving   bool // a connection of its own is being made
	setbacks  int

	// See [StreamInfo].
	moves, resumes, stalls int
	stalling               bool // of stalls, the last goes on
	stalledAt              time.Time
	replayed               uint64 // of what the end says, what the node has counted

	// When the peer was last told that there is no carrier, and on which connection.
	lostTold time.Time
	lostAt   string
}

// A durableCarrier is a stream of a connection that carries a durable stream for a while.
type durableCarrier struct {
	epoch   uint64
	conn    network.Conn
	raw     network.MuxedStream
	stopped bool   // is not to be used any more
	notes   *notes // of the connection, once there was need of them

	// What was read and not yet looked at: headers, and the data behind them.
	ahead  [96]byte
	lo, hi int
}

var _ network.MuxedStream = (*durableStream)(nil)

// connLocked returns the connection that the stream is on, or has left once all had gone
// over it; nil if there is none.
func (d *durableStream) connLocked() network.Conn {
	if d.carrier == nil {
		return d.left
	}
	return d.carrier.conn
}

// changedLocked wakes all who wait.
func (d *durableStream) changedLocked() {
	if d.wake != nil {
		close(d.wake)
		d.wake = nil
	}
}

// waitLocked waits for a change. It lets go of the lock meanwhile.
func (d *durableStream) waitLocked(deadline time.Time) error {
	var timeout <-chan time.Time
	if !deadline.IsZero() {
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		t := time.NewTimer(left)
		defer t.Stop()
		timeout = t.C
	}
	if d.wake == nil {
		d.wake = make(chan struct{})
	}
	wake := d.wake
	d.mu.Unlock()
	defer d.mu.Lock()
	select {
	case <-wake:
	case <-timeout: // which the next call tells
	}
	return nil
}

// Read is as [Stream.Read] says.
func (d *durableStream) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readLocked(p, func() error {
		if d.closed {
			return net.ErrClosed
		}
		return nil
	})
}

// readLocked reads unless stop returns an error.
func (d *durableStream) readLocked(p []byte, stop func() error) (int, error) {
	for {
		if err := stop(); err != nil {
			return 0, err
		}
		n, err := d.takeLocked(p)
		if n > 0 {
			d.tookLocked()
			return n, nil
		}
		switch {
		case err != nil:
			d.failLocked(err, durable.CodeProtocol)
			return 0, d.errLocked()
		case d.end.Finished():
			d.acknowledgeLocked()
			d.finishLocked()
			return 0, io.EOF
		case d.end.Err() != nil:
			d.finishLocked()
			return 0, d.errLocked()
		case passed(d.readDeadline):
			return 0, os.ErrDeadlineExceeded
		}
		c := d.carrier
		if c == nil || c.stopped || d.reading {
			if err := d.waitLocked(d.readDeadline); err != nil {
				return 0, err
			}
			continue
		}
		if n := d.fillLocked(c, p); n > 0 {
			d.tookLocked()
			return n, nil
		}
	}
}

// tookLocked goes on after bytes were read.
func (d *durableStream) tookLocked() {
	if d.asked {
		d.trips++
		d.asked = false
	}
	d.acknowledgeLocked()
	d.weighLocked()
}

// takeLocked takes what was read ahead.
func (d *durableStream) takeLocked(p []byte) (int, error) {
	c := d.carrier
	if c == nil || c.lo == c.hi || d.end.Finished() {
		return 0, nil
	}
	used, n, err := d.end.Take(c.ahead[c.lo:c.hi], p)
	if c.lo += used; c.lo == c.hi {
		c.lo, c.hi = 0, 0
	}
	return n, err
}

// fillLocked reads from a carrier, into p where there are data to come, and returns
// how many bytes of p are new.
func (d *durableStream) fillLocked(c *durableCarrier, p []byte) int {
	direct := d.end.Direct(len(p))
	into := p[:direct]
	if direct == 0 {
		c.hi, c.lo = copy(c.ahead[:], c.ahead[c.lo:c.hi]), 0
		into = c.ahead[c.hi:]
	}
	d.reading = true
	d.mu.Unlock()
	n, err := c.raw.Read(into)
	d.mu.Lock()
	d.reading = false
	d.changedLocked()
	switch {
	case d.carrier != c: // it was lost meanwhile, and what it brought comes again
	case n > 0 && direct > 0:
		return d.end.Took(n)
	case n > 0:
		c.hi += n
	case err != nil:
		d.readFailedLocked(c, err)
	}
	return 0
}

func (d *durableStream) readFailedLocked(c *durableCarrier, err error) {
	switch {
	case d.carrier != c || c.stopped:
	case timedOut(err):
		if !passed(d.readDeadline) {
			_ = c.raw.SetReadDeadline(d.readDeadline) // it was another's
		}
	case err == io.EOF && d.end.Finished():
		c.stopped = true
		d.end.Drained()
		d.finishLocked()
	case errors.Is(err, ErrNoListener):
		d.failLocked(fmt.Errorf("%w for %s", ErrNoListener, d.proto), durable.CodeReset)
	default:
		d.lostLocked(c)
	}
}

// acknowledgeLocked has the peer told how far this end has read.
func (d *durableStream) acknowledgeLocked() {
	if due, urgent := d.end.AckDue(); due && d.carrier != nil {
		c := d.carrier
		if c.notes == nil {
			c.notes = d.node.durables.notes(c.conn)
		}
		switch {
		case urgent:
			c.notes.ack(d, 0)
		case d.end.Finished():
			c.notes.ack(d, endDelay)
		default:
			c.notes.ack(d, ackDelay)
		}
	}
}

// Write is as [Stream.Write] says: bytes are under way once they are kept.
func (d *durableStream) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.turnLocked(func() (int, error) {
		total := 0
		for {
			if err := d.writeErrLocked(); err != nil {
				return total, err
			}
			n := d.end.Append(p[total:], time.Now())
			total += n
			if n == 0 && total < len(p) {
				if err := d.waitLocked(d.writeDeadline); err != nil {
					return total, err
				}
				continue
			}
			if err := d.flushLocked(false); err != nil || total == len(p) {
				return total, err
			}
		}
	})
}

// fill writes what one Read of r gives, n bytes at most, read into where it is kept for
// the peer. It waits for room before.
func (d *durableStream) fill(r io.Reader, n int) (got int, rerr, werr error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	got, werr = d.turnLocked(func() (int, error) {
		for {
			if err := d.writeErrLocked(); err != nil {
				return 0, err
			}
			b := d.end.Reserve(n, time.Now())
			if b == nil {
				if err := d.waitLocked(d.writeDeadline); err != nil {
					return 0, err
				}
				continue
			}
			d.mu.Unlock()
			k, err := r.Read(b[:min(len(b), n)])
			d.mu.Lock()
			d.end.Commit(k)
			rerr = err
			return k, d.flushLocked(false)
		}
	})
	return got, rerr, werr
}

// turnLocked runs f with the turn to write.
func (d *durableStream) turnLocked(f func() (int, error)) (int, error) {
	for d.writing {
		if err := d.waitLocked(d.writeDeadline); err != nil {
			return 0, err
		}
	}
	d.writing = true
	n, err := f()
	d.writing = false
	d.changedLocked()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		d.pumpLocked()
	}
	return n, err
}

// writeErrLocked returns why nothing can be written.
func (d *durableStream) writeErrLocked() error {
	switch {
	case d.end.Err() != nil:
		return d.errLocked()
	case d.resetBy != nil:
		return network.ErrReset
	case d.closed || d.end.Closed():
		return net.ErrClosed
	case passed(d.writeDeadline):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// flushLocked gives the carrier what it has not been given, for as long as the deadline
// for writing allows, unless it is to be patient.
func (d *durableStream) flushLocked(patient bool) error {
	var deadline time.Time
	for d.flushing || d.sending { // the latter is an answer
		if !patient {
			deadline = d.writeDeadline
			if d.closed {
				return net.ErrClosed
			}
		}
		if err := d.waitLocked(deadline); err != nil {
			return err
		}
	}
	d.flushing = true
	defer func() {
		d.flushing = false
		d.changedLocked()
	}()
	for {
		c := d.carrier
		if c == nil || c.stopped {
			return nil
		}
		if d.closed && !patient {
			return net.ErrClosed
		}
		b := d.end.Next(time.Now())
		if len(b) == 0 {
			d.finishLocked()
			return nil
		}
		d.watchLocked()
		d.sending = true
		d.mu.Unlock()
		n, err := c.raw.Write(b)
		d.mu.Lock()
		d.sending = false
		d.end.Sent(c.epoch, n)
		switch {
		case err == nil:
			d.asked = true
			d.weighLocked()
		case d.carrier != c || c.stopped:
			d.changedLocked()
		case !timedOut(err):
			d.lostLocked(c)
		case patient:
			_ = c.raw.SetWriteDeadline(time.Time{})
		case passed(d.writeDeadline):
			return os.ErrDeadlineExceeded
		default:
			_ = c.raw.SetWriteDeadline(d.writeDeadline) // it was another's
		}
	}
}

// pumpLocked has what is left written by and by.
func (d *durableStream) pumpLocked() {
	d.node.start(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		_ = d.flushLocked(true) // which has no deadline
	})
}

// announce has the peer hear of the stream if nothing was written yet.
func (d *durableStream) announce() {
	d.mu.Lock()
	c := d.carrier
	d.mu.Unlock()
	if c == nil {
		return
	}
	if named, ok := c.raw.(*namer); ok {
		named.Flush()
	}
}

// CloseWrite ends the direction to the peer.
func (d *durableStream) CloseWrite() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end.Err() != nil {
		return d.errLocked()
	}
	d.end.CloseWrite()
	d.pumpLocked()
	return nil
}

// CloseRead does nothing: Close does.
func (d *durableStream) CloseRead() error { return nil }

// finishLocked ends what there is to end once this end has sent all and has got all.
func (d *durableStream) finishLocked() {
	c := d.carrier
	switch {
	case d.gone:
	case d.end.Done() || d.end.Err() != nil:
		d.forgetLocked()
		if c != nil && !d.leaveCarrierLocked(c) {
			d.left = c.conn
			d.dropCarrierLocked()
			d.node.start(func() { _ = c.raw.Close() }) // the peer may have closed it
		}
	case c == nil || c.stopped || !d.end.Finished() || !d.end.Flushed() || d.moving:
	case c.lasts():
		// An acknowledgement will say that the peer has all. By then it may use the
		// carrier for another stream.
		if !d.opener {
			d.leaveCarrierLocked(c)
		}
	default:
		// The end of the carrier says that this end has all; the peer's will say
		// that it has.
		c.stopped = true
		d.node.start(func() { d.awaitEnd(c) })
	}
}

// awaitEnd waits until the peer says by the end of the carrier that it has all.
func (d *durableStream) awaitEnd(c *durableCarrier) {
	err := c.raw.CloseWrite()
	if err == nil {
		_ = c.raw.SetReadDeadline(time.Time{})
		_, err = c.raw.Read(make([]byte, 1))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.carrier != c {
		return
	}
	c.stopped = false
	if err == io.EOF {
		d.end.Drained()
	}
	if !d.end.Done() {
		d.lostLocked(c)
		return
	}
	d.finishLocked()
}

// Close ends the stream for reading and writing. What was written goes on to be sent.
func (d *durableStream) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.readDeadline, d.writeDeadline = time.Time{}, time.Time{}
	if c := d.carrier; c != nil && !c.stopped {
		_ = c.raw.SetDeadline(time.Unix(1, 0)) // frees who is inside
	}
	d.end.CloseWrite()
	d.changedLocked()
	d.finishLocked()
	if !d.gone && !d.node.start(d.wait) {
		d.forgetLocked() // the connection closes anyway
	}
	return nil
}

// wait waits until the peer has all that was written before Close, and throws away
// what still comes. Who does not stop sending is told to.
func (d *durableStream) wait() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.flushLocked(true) // which has no deadline
	over := func() error {
		if d.gone {
			return net.ErrClosed
		}
		return nil
	}
	for d.reading {
		_ = d.waitLocked(time.Time{}) // it has no deadline
	}
	lost := 0
	for over() == nil {
		d.readDeadline = time.Now().Add(lingerTimeout)
		if d.carrier != nil {
			_ = d.carrier.raw.SetReadDeadline(d.readDeadline)
		}
		b := discards.Get().(*[]byte)
		n, err := d.readLocked(*b, over)
		discards.Put(b)
		lost += n
		switch {
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return // what is left to end ends by itself
		case lost > lingerBytes, n == 0 && d.end.Told():
			d.failLocked(net.ErrClosed, durable.CodeReset)
		}
	}
}

var discards = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// Reset gives the stream up.
func (d *durableStream) Reset() error { return d.ResetWithError(durable.CodeReset) }

// ResetWithError gives the stream up, and tells the peer a code.
func (d *durableStream) ResetWithError(code network.StreamErrorCode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failLocked(network.ErrReset, uint32(code))
	return nil
}

// codeLocked returns the code for why this end has given the stream up, CodeUnknown if
// it has not.
func (d *durableStream) codeLocked() uint32 {
	switch {
	case d.code != durable.CodeUnknown:
		return d.code
	case errors.Is(d.end.Err(), durable.ErrTimeLimit):
		return durable.CodeTimeLimit
	}
	return durable.CodeUnknown
}

// failLocked ends the stream for a reason, and tells the peer.
func (d *durableStream) failLocked(why error, code uint32) {
	if d.gone || d.end.Done() {
		return
	}
	d.code = code
	inOrder := d.carrier != nil && !d.carrier.stopped && !d.sending && !d.end.Pending()
	d.end.Reset(why)
	c := d.carrier
	if c != nil {
		d.node.durables.notes(c.conn).send(durable.Message{Kind: durable.MessageReset, ID: d.id, Value: uint64(code)})
	} else if best := d.node.bestConn(d.peer); best != nil {
		d.node.durables.notes(best).send(durable.Message{Kind: durable.MessageReset, ID: d.id, Value: uint64(code)})
	}
	d.forgetLocked()
	d.dropCarrierLocked()
	if c == nil {
		return
	}
	_ = c.raw.SetDeadline(time.Now().Add(resetPatience))
	if !d.node.start(func() { endCarrier(c, inOrder, code) }) {
		_ = c.raw.Reset() // the connection closes anyway
	}
}

// resetPatience is how long the end of a stream may take to get out in order.
const resetPatience = time.Second

func endCarrier(c *durableCarrier, inOrder bool, code uint32) {
	if inOrder {
		if _, err := c.raw.Write(durable.AppendReset(nil, code)); err == nil && c.raw.Close() == nil {
			return
		}
	}
	_ = c.raw.Reset() // the peer was told
}

// peerReset takes in that the peer has given the stream up.
func (d *durableStream) peerReset(code uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resetBy = (&durable.ResetError{Code: code}); d.carrier == nil {
		d.end.PeerReset(code)
		d.overLocked()
		return
	}
	d.changedLocked()
	if d.sending {
		_ = d.carrier.raw.SetWriteDeadline(time.Unix(1, 0))
		d.carrier.stopped = true
		d.lostLocked(d.carrier)
	}
}

// lostLocked takes in that a carrier has broken.
func (d *durableStream) lostLocked(c *durableCarrier) {
	if d.carrier != c {
		return
	}
	if c.single() && !c.conn.IsClosed() {
		d.setbacks = min(d.setbacks+1, maxSetbacks)
	}
	if c.stopped = true; d.resetBy != nil {
		d.end.PeerReset(d.resetBy.Code)
	}
	d.dropCarrierLocked()
	d.node.start(func() { _ = c.raw.Reset() }) // it is broken already
	d.strayLocked(c.epoch)
}

// strayLocked has a carrier looked for in place of the one of an epoch.
func (d *durableStream) strayLocked(epoch uint64) {
	d.end.Lost(epoch, time.Now())
	if d.overLocked() {
		return
	}
	if at := d.end.Deadline(); !at.IsZero() && d.expiry == nil {
		d.expiry = time.AfterFunc(time.Until(at), d.expire)
	}
	d.node.durables.move(d.peer)
}

// overLocked forgets a stream that has ended, and tells whether it has.
func (d *durableStream) overLocked() bool {
	if d.end.Err() == nil {
		return false
	}
	d.forgetLocked()
	return true
}

func (d *durableStream) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end.Expire(time.Now())
	d.overLocked()
}

// dropCarrierLocked leaves the stream without a carrier.
func (d *durableStream) dropCarrierLocked() {
	if d.carrier != nil {
		d.node.carries(d.carrier.conn, -1)
		d.carrier.stopped = true
		d.carrier = nil
		d.node.durables.bell.ring()
	}
	d.changedLocked()
}

// forgetLocked ends the node's knowledge of the stream.
func (d *durableStream) forgetLocked() {
	if d.gone {
		return
	}
	d.gone = true
	if d.expiry != nil {
		d.expiry.Stop()
	}
	d.changedLocked()
	d.node.durables.forget(d)
	d.node.streamClosed(d.peer, nil)
}

// errLocked puts why the stream is over into this package's words.
func (d *durableStream) errLocked() error {
	err := d.end.Err()
	var reset *durable.ResetError
	switch {
	case !errors.As(err, &reset):
		return err
	case reset.Code == durable.CodeNoListener:
		return fmt.Errorf("%w for %s", ErrNoListener, d.proto)
	case reset.Code == durable.CodeUnknown:
		return durable.ErrUnknown
	case reset.Code == durable.CodeTimeLimit:
		return durable.ErrTimeLimit
	case reset.Code == durable.CodeBusy:
		return fmt.Errorf("%w at the peer", network.ErrResourceLimitExceeded)
	case reset.Code == durable.CodeClosed:
		return errPeerClosed
	}
	return network.ErrReset
}

var errPeerClosed = fmt.Errorf("%w: the peer's node was closed", ErrReset)

// SetDeadline sets both deadlines.
func (d *durableStream) SetDeadline(t time.Time) error {
	return errors.Join(d.SetReadDeadline(t), d.SetWriteDeadline(t))
}

// SetReadDeadline is as [Stream.SetReadDeadline].
func (d *durableStream) SetReadDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readDeadline = t
	if c := d.carrier; c != nil && !c.stopped {
		_ = c.raw.SetReadDeadline(t)
	}
	d.changedLocked()
	return nil
}

// SetWriteDeadline is as [Stream.SetWriteDeadline].
func (d *durableStream) SetWriteDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writeDeadline = t
	if c := d.carrier; c != nil && !c.stopped {
		_ = c.raw.SetWriteDeadline(t)
	}
	d.changedLocked()
	return nil
}

func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, yamux.ErrTimeout)
}
