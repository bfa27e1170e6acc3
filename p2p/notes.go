package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// Notes are what a node tells a peer of their streams beside the carriers, over one
// connection: each end has a stream of its own for them, opened with the first.
type notes struct {
	node *Node
	conn network.Conn

	mu      sync.Mutex // guards the fields below; taken after that of a stream
	acks    map[*durableStream]struct{}
	queue   []durable.Message
	writing bool
	timer   *time.Timer // until acks are told, at due; nil if none is
	due     time.Time
	closed  bool
	idle    chan struct{} // closed when nothing is left; nil unless somebody waits

	raw network.MuxedStream // used by who is writing alone
}

const (
	// ackDelay is how long what was read may go unacknowledged where nobody waits
	// for it.
	ackDelay = 250 * time.Millisecond

	// endDelay is how long that may be once it was all. Most streams end at the other
	// end too meanwhile, which says so.
	endDelay = 25 * time.Millisecond

	// maxNotes bounds what waits to be told. What is lost of it is found out when a
	// stream is resumed.
	maxNotes = 1 << 14
)

// notes returns those for a connection.
func (ds *durables) notes(c network.Conn) *notes {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	l := ds.links[c]
	if l == nil {
		l = &notes{node: ds.node, conn: c, acks: map[*durableStream]struct{}{}, closed: c.IsClosed()}
		if !l.closed {
			ds.links[c] = l
		}
	}
	return l
}

// ack has the peer told how far a stream was read, after a while at most.
func (l *notes) ack(d *durableStream, within time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.acks[d] = struct{}{}
	if within == 0 {
		l.writeLocked()
		return
	}
	due := time.Now().Add(within)
	switch {
	case l.timer == nil:
		l.timer, l.due = time.AfterFunc(within, l.tell), due
	case due.Before(l.due):
		l.due = due
		l.timer.Reset(within)
	}
}

func (l *notes) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.writeLocked()
}

// send has the peer told something at once.
func (l *notes) send(m durable.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= maxNotes {
		return
	}
	l.queue = append(l.queue, m)
	l.writeLocked()
}

// writeLocked has somebody write what is to be told.
func (l *notes) writeLocked() {
	if l.writing || l.closed || len(l.acks) == 0 && len(l.queue) == 0 {
		return
	}
	l.writing = true
	go l.write()
}

func (l *notes) write() {
	var b []byte
	for {
		l.mu.Lock()
		acks, queue := l.acks, l.queue
		if l.closed || len(acks) == 0 && len(queue) == 0 {
			l.writing = false
			if l.idle != nil {
				close(l.idle)
				l.idle = nil
			}
			l.mu.Unlock()
			return
		}
		l.acks, l.queue = map[*durableStream]struct{}{}, nil
		l.mu.Unlock()
		b = b[:0]
		for d := range acks {
			d.mu.Lock()
			if due, _ := d.end.AckDue(); due && d.connLocked() == l.conn {
				b = durable.Message{Kind: durable.MessageAck, ID: d.id, Value: d.end.Ack()}.Append(b)
			}
			d.mu.Unlock()
		}
		for _, m := range queue {
			b = m.Append(b)
		}
		if len(b) == 0 {
			continue
		}
		l.put(b)
	}
}

// noteTries is how often notes are written to a peer that takes none and answers.
const noteTries = 4

// put writes notes. Where they can't be told the connection is of no use: streams will
// be resumed on another, and that tells all. But one on which the peer still answers is
// only slow.
func (l *notes) put(b []byte) {
	var err error
	for range noteTries {
		if err = l.try(b); err == nil || l.conn.IsClosed() {
			return
		}
		l.node.log.Debug("connection takes no notes", "peer", l.conn.RemotePeer(), "addr", l.conn.RemoteMultiaddr(), "err", err)
		if l.node.check(l.node.life, l.conn) != nil {
			return // it is closed, which ends this
		}
	}
	_ = l.conn.Close()
}

// try writes notes from the beginning: on a new stream if it could not be done on
// the last.
func (l *notes) try(b []byte) (err error) {
	defer func() {
		if err != nil && l.raw != nil {
			_ = l.raw.Reset() // it may have broken
			l.raw = nil
		}
	}()
	if l.raw == nil {
		ctx, cancel := context.WithTimeout(l.node.life, helloPatience)
		defer cancel()
		raw, err := l.node.openRaw(ctx, l.conn, noteProtocol, nil)
		if err != nil {
			return orCause(ctx, err)
		}
		l.raw = raw
	}
	if err := l.raw.SetWriteDeadline(time.Now().Add(helloPatience)); err != nil {
		return err
	}
	_, err = l.raw.Write(b)
	return err
}

// settle waits until the peer has taken in what it was told, which an answer on the
// same connection shows.
func (l *notes) settle(ctx context.Context) {
	l.mu.Lock()
	var idle chan struct{}
	if l.writing {
		if l.idle == nil {
			l.idle = make(chan struct{})
		}
		idle = l.idle
	}
	l.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			return
		}
	}
	_ = l.node.pingOn(ctx, l.conn) // if there is none, nothing more can be done
}

// close ends notes over a connection that is closed.
func (l *notes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.acks, l.queue = nil, nil
}

// receiveNotes takes in what a peer tells.
func (n *Node) receiveNotes(c network.Conn, raw network.MuxedStream) {
	var b [512]byte
	have := 0
	for {
		k, err := raw.Read(b[have:])
		have += k
		used := 0
		for {
			m, size, perr := durable.ParseMessage(b[used:have])
			if perr != nil {
				n.log.Warn("notes refused", "peer", c.RemotePeer(), "err", perr)
				_ = raw.Reset() // it was told
				return
			}
			if size == 0 {
				break
			}
			used += size
			n.takeNote(c, m)
		}
		have = copy(b[:], b[used:have])
		if k == 0 && err != nil {
			_ = raw.Close() // it has ended
			return
		}
	}
}

// takeNote takes in one note.
func (n *Node) takeNote(c network.Conn, m durable.Message) {
	d := n.durables.find(c.RemotePeer(), m.ID)
	if d == nil {
		if m.Kind == durable.MessageLost {
			code, _ := n.durables.whyEnded(c.RemotePeer(), m.ID)
			n.durables.notes(c).send(durable.Message{Kind: durable.MessageGone, ID: m.ID, Value: uint64(code)})
		}
		return
	}
	switch m.Kind {
	case durable.MessageAck:
		d.acked(m.Value)
	case durable.MessageReset:
		d.peerReset(uint32(min(m.Value, 1<<32-1)))
	case durable.MessageLost:
		d.peerLost(c, m.Value)
	case durable.MessageGone:
		d.peerGone(uint32(min(m.Value, 1<<32-1)))
	}
}

// acked takes in how far the peer has read.
func (d *durableStream) acked(offset uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.end.Acked(offset, time.Now()); err != nil {
		d.failLocked(err, durable.CodeProtocol)
	}
	d.finishLocked()
	d.changedLocked()
}

// peerLost takes in that the peer has no carrier of an epoch any more, for a stream
// that this end has opened. Where it tells that over another connection, the carrier's
// may be gone.
func (d *durableStream) peerLost(c network.Conn, epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.opener || d.gone:
	case d.carrier != nil && d.carrier.epoch == epoch:
		if d.carrier.conn != c {
			d.node.durables.inspect(d.carrier.conn, movedPatience)
		}
		d.lostLocked(d.carrier)
	case d.carrier == nil:
		d.node.durables.move(d.peer)
	}
}

// peerGone takes in that the peer does not know the stream.
func (d *durableStream) peerGone(code uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opener || d.carrier != nil {
		return // it would say so when it is asked
	}
	d.end.Gone(code)
	d.finishLocked()
	d.overLocked()
}
