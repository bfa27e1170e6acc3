package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/p2pnode/p2pnode/p2p/durable"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// The protocols of durable streams, docs/protocol.md. The names are short, as each
// carrier of libp2p begins with one in both directions.
const (
	carrierProtocol = "/durable/1"
	noteProtocol    = "/durable-note/1"
)

// helloPatience is how long a carrier may take to say whose it is, and how long an
// answer is waited for.
const helloPatience = 5 * time.Second

// openRaw opens a stream of libp2p, or of the path on this machine, that begins with
// first.
func (n *Node) openRaw(ctx context.Context, c network.Conn, proto string, first []byte) (network.MuxedStream, error) {
	if u := unixConn(c); u != nil {
		raw, err := u.OpenNamed(ctx, proto)
		if err != nil {
			return nil, openError(c.RemotePeer(), err)
		}
		if _, err := raw.Write(first); err != nil {
			_ = raw.Reset() // it is broken
			return nil, openError(c.RemotePeer(), err)
		}
		return raw, nil
	}
	raw, err := c.NewStream(ctx)
	if err != nil {
		return nil, openError(c.RemotePeer(), err)
	}
	if err := raw.SetProtocol(protocol.ID(proto)); err != nil {
		_ = raw.ResetWithError(network.StreamResourceLimitExceeded)
		return nil, openError(c.RemotePeer(), err)
	}
	named := newNamer(raw, proto)
	named.send = append(named.send, first...)
	return named, nil
}

// openDurable opens a stream that outlives the connection that it begins on.
func (n *Node) openDurable(ctx context.Context, c network.Conn, proto string) (*Stream, error) {
	if len(proto) == 0 || len(proto) > durable.MaxProtocol {
		return nil, openError(c.RemotePeer(), fmt.Errorf("the protocol's name has %d bytes, not 1 to %d", len(proto), durable.MaxProtocol))
	}
	d, err := n.durables.add(c.RemotePeer(), newStreamID(), proto, true)
	if err != nil {
		return nil, openError(c.RemotePeer(), err)
	}
	raw, err := n.openCarrier(ctx, c, durable.Hello{ID: d.id, Protocol: proto}.Append(nil))
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.end.Reset(err)
		d.forgetLocked()
		return nil, err
	}
	return d.begin(&durableCarrier{conn: c, raw: raw}), nil
}

// openCarrier returns what is to carry a new stream, and begins with a hello.
func (n *Node) openCarrier(ctx context.Context, c network.Conn, hello []byte) (network.MuxedStream, error) {
	if raw, owes := n.durables.spares.take(c); raw != nil {
		named := &namer{MuxedStream: raw, proto: carrierProtocol, send: hello}
		if owes {
			time.AfterFunc(endDelay, named.Flush) // or the peer would not hear it before something is written
		}
		return named, nil
	}
	return n.openRaw(ctx, c, carrierProtocol, hello)
}

// begin makes a Stream of an end with its first carrier. That is of no use if the end is
// over already, or has gone on with another: a hello that resumes it may be faster.
func (d *durableStream) begin(c *durableCarrier) *Stream {
	d.mu.Lock()
	late := d.gone || d.end.Epoch() != c.epoch
	if !late {
		d.useLocked(c)
	}
	d.mu.Unlock()
	if late {
		d.node.start(func() { _ = c.raw.Reset() }) // the peer does not use it any more
	} else if c.conn.IsClosed() { // before it was known that there is a stream on it
		d.node.durables.connClosed(c.conn)
	}
	return d.stream()
}

// stream makes a Stream of an end.
func (d *durableStream) stream() *Stream {
	return d.node.newStream(d, d, streamInfo{local: d.node.id, remote: d.peer, protocol: d.proto})
}

// useLocked takes a carrier into use.
func (d *durableStream) useLocked(c *durableCarrier) {
	d.carrier, d.left, d.path, d.lostAt = c, nil, pathTo(c.conn.RemoteMultiaddr()), ""
	d.node.carries(c.conn, 1)
	d.weighAgainLocked()
	_ = c.raw.SetReadDeadline(d.readDeadline)
	_ = c.raw.SetWriteDeadline(d.writeDeadline)
	if d.expiry != nil {
		d.expiry.Stop()
		d.expiry = nil
	}
	d.changedLocked()
}

// receiveNext takes in what a carrier is to carry next once a stream has left it, which
// may take its time.
func (n *Node) receiveNext(c *durableCarrier, left *durableStream) {
	raw := c.raw
	h, all, err := durable.ReadNext(raw)
	if all {
		left.peerHasAll(c)
		h, err = durable.ReadHello(raw)
	}
	switch {
	case err == io.EOF:
		left.peerHasAll(c)
		_ = raw.Close() // the peer has no more use for it
	case err != nil || h.Resume: // for which the peer is to open one
		_ = raw.Reset() // it may be so already
		left.leftBroken(c.conn, c.epoch)
	default:
		left.peerHasAll(c)
		n.acceptDurable(c.conn, raw, h)
	}
}

// receiveCarrier takes in a stream that is to carry one, be it a new one or not.
func (n *Node) receiveCarrier(c network.Conn, raw network.MuxedStream) {
	_ = raw.SetReadDeadline(time.Now().Add(helloPatience))
	h, err := durable.ReadHello(raw)
	if err == nil {
		err = raw.SetReadDeadline(time.Time{})
	}
	if err != nil {
		n.log.Debug("carrier of a stream refused", "peer", c.RemotePeer(), "err", err)
		_ = raw.Reset() // nobody waits for it
		return
	}
	if !h.Resume {
		n.acceptDurable(c, raw, h)
		return
	}
	carrier := &durableCarrier{epoch: h.Epoch, conn: c, raw: raw}
	if d := n.durables.find(c.RemotePeer(), h.ID); d != nil {
		d.resume(carrier, h)
		return
	}
	code, known := n.durables.whyEnded(c.RemotePeer(), h.ID)
	if !known && h.Protocol != "" && h.Age < time.Since(n.began) {
		if code = n.acceptLate(carrier, h); code == durable.CodeUnknown {
			return
		}
	}
	_ = answerHello(raw, durable.Answer{Gone: true, Code: code}) // or it asks again
	_ = raw.Close()                                              // it is the peer's turn
}

// acceptLate takes in a stream whose first carrier was lost before this node has heard of
// it. It returns why it doesn't, CodeUnknown if it does.
func (n *Node) acceptLate(c *durableCarrier, h durable.Hello) uint32 {
	n.mu.Lock()
	l := n.listeners[h.Protocol]
	n.mu.Unlock()
	if l == nil {
		return durable.CodeNoListener
	}
	d, err := n.durables.add(c.conn.RemotePeer(), h.ID, h.Protocol, false)
	if errors.Is(err, errSameID) { // its first carrier came just now
		_ = c.raw.Reset() // the peer asks again
		return durable.CodeUnknown
	}
	if err != nil {
		n.log.Warn("stream refused", "proto", h.Protocol, "peer", c.conn.RemotePeer(), "err", err)
		return durable.CodeBusy
	}
	d.resume(c, h)
	l.offer(d.stream())
	return durable.CodeUnknown
}

func answerHello(raw network.MuxedStream, a durable.Answer) error {
	_ = raw.SetWriteDeadline(time.Now().Add(helloPatience))
	_, err := raw.Write(a.Append(nil))
	return errors.Join(err, raw.SetWriteDeadline(time.Time{}))
}

// acceptDurable takes in a new stream.
func (n *Node) acceptDurable(c network.Conn, raw network.MuxedStream, h durable.Hello) {
	n.mu.Lock()
	l := n.listeners[h.Protocol]
	n.mu.Unlock()
	var code uint32 = durable.CodeNoListener
	if l != nil {
		d, err := n.durables.add(c.RemotePeer(), h.ID, h.Protocol, false)
		if err == nil {
			l.offer(d.begin(&durableCarrier{conn: c, raw: raw}))
			return
		}
		if errors.Is(err, errSameID) { // what resumes it was here before, and may have ended it
			_ = raw.Reset() // the peer does not use it any more
			return
		}
		code = durable.CodeBusy
		n.log.Warn("stream refused", "proto", h.Protocol, "peer", c.RemotePeer(), "err", err)
	}
	_ = raw.SetWriteDeadline(time.Now().Add(helloPatience))
	if _, err := raw.Write(durable.AppendReset(nil, code)); err != nil {
		_ = raw.Reset() // the peer will see that
		return
	}
	_ = raw.Close() // the peer has closed it by itself, at most
}

// stopLocked has nobody use the carrier that there is, nor still be inside the one that
// was lost: what comes of it would be taken for the next one's. It lets go of the lock
// meanwhile.
func (d *durableStream) stopLocked() {
	c := d.carrier
	if c != nil {
		c.stopped = true
	}
	for d.reading || d.sending {
		if c != nil && d.carrier == c {
			_ = c.raw.SetDeadline(time.Unix(1, 0)) // frees who is inside, as does the reset of a lost one
		}
		_ = d.waitLocked(time.Time{}) // it has no deadline
	}
}

// resume goes on with a carrier that the peer has opened.
func (d *durableStream) resume(c *durableCarrier, h durable.Hello) {
	d.mu.Lock()
	if h.Epoch <= d.end.Epoch() {
		d.mu.Unlock()
		_ = c.raw.Reset() // a later one is there
		return
	}
	before := d.carrier
	d.stopLocked()
	a, use, err := d.end.Resume(h, time.Now())
	if err != nil {
		d.failLocked(err, durable.CodeProtocol)
	}
	if err != nil || !use || a.Gone || d.gone {
		a = durable.Answer{Gone: true, Code: durable.CodeOf(d.end.Err())}
		d.mu.Unlock()
		_ = answerHello(c.raw, a) // if it does not arrive, the peer asks again
		_ = c.raw.Close()
		return
	}
	d.switchLocked(before, c)
	d.sending = true // nothing goes before the answer
	d.mu.Unlock()
	err = answerHello(c.raw, a)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sending = false; err != nil {
		d.lostLocked(c)
	}
	d.pumpLocked()
	d.changedLocked()
}

// switchLocked has a carrier take the place of the one that there is, if any. Before is
// the one that there was when it was asked for.
func (d *durableStream) switchLocked(before, c *durableCarrier) {
	ds := d.node.durables
	if before != nil && !before.conn.IsClosed() && (better(c.conn, before.conn) || c.single() && !before.single()) {
		d.moves++
		ds.moves.Add(1)
	} else {
		d.resumes++
		ds.resumes.Add(1)
	}
	d.countReplayedLocked()
	old := d.carrier
	d.dropCarrierLocked()
	if old != nil {
		d.node.start(func() { _ = old.raw.Reset() }) // its end is known
	}
	d.useLocked(c)
	d.acknowledgeLocked() // what came over the one before
	ds.bell.ring()
}

// moveTo asks the peer to go on over a connection. A carrier that there is goes on
// until the peer has answered.
func (d *durableStream) moveTo(ctx context.Context, conn network.Conn) error {
	err := d.moveBy(ctx, conn, nil, func(ctx context.Context, hello []byte) (network.MuxedStream, error) {
		return d.node.openRaw(ctx, conn, carrierProtocol, hello)
	})
	if errors.Is(err, errElsewhere) {
		return nil
	}
	return err
}

// moveBy does so with a carrier that open begins with a hello, and from the one that is
// given alone, unless that is nil.
func (d *durableStream) moveBy(ctx context.Context, conn network.Conn, from *durableCarrier, open openCarrier) error {
	d.mu.Lock()
	if d.gone || d.moving || from != nil && (d.carrier != from || from.stopped) {
		d.mu.Unlock()
		return errElsewhere
	}
	d.moving = true
	before, h := d.carrier, d.end.Hello()
	if !d.end.Heard() {
		h.Protocol, h.Age = d.proto, time.Since(d.began)
	}
	d.mu.Unlock()
	raw, a, err := d.ask(ctx, conn, h, open)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.moving = false
		return err
	}
	d.stopLocked()   // which lets go of the lock
	d.moving = false // or it would be moved once more meanwhile, and this carrier be of no use
	use, err := d.end.Resumed(h.Epoch, a, time.Now())
	switch {
	case d.gone:
		// the end of it was told
	case err != nil && d.end.Err() == nil:
		d.failLocked(err, durable.CodeProtocol)
	case err != nil || d.end.Done():
		d.finishLocked()
	case use:
		d.switchLocked(before, &durableCarrier{epoch: h.Epoch, conn: conn, raw: raw})
		d.pumpLocked()
		return nil
	}
	go func() { _ = raw.Reset() }() // it is of no use
	return nil
}

// errElsewhere says that a stream moves already, or is over.
var errElsewhere = errors.New("the stream has gone elsewhere")

// An openCarrier opens a stream that begins with a hello.
type openCarrier func(ctx context.Context, hello []byte) (network.MuxedStream, error)

// ask opens a carrier with a hello, and waits for the answer.
func (d *durableStream) ask(ctx context.Context, conn network.Conn, h durable.Hello, open openCarrier) (network.MuxedStream, durable.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, helloPatience)
	defer cancel()
	raw, err := open(ctx, h.Append(nil))
	if err != nil {
		return nil, durable.Answer{}, err
	}
	stop := endWith(ctx, raw)
	if named, ok := raw.(*namer); ok {
		named.Flush()
	}
	a, err := durable.ReadAnswer(raw)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		go func() { _ = raw.Reset() }() // it may be what does not answer
		return nil, durable.Answer{}, fmt.Errorf("resume a stream over %v: %w", conn.RemoteMultiaddr(), orCause(ctx, err))
	}
	return raw, a, nil
}

// receiveDurable takes in what a peer opens for durable streams over libp2p.
func (n *Node) receiveDurable(s network.Stream) { n.receiveCarrier(s.Conn(), s) }

// receiveUnixCarrier does so on the path on this machine.
func (n *Node) receiveUnixCarrier(raw *unixsock.Stream) bool {
	serve := map[string]func(network.Conn, network.MuxedStream){carrierProtocol: n.receiveCarrier, noteProtocol: n.receiveNotes}[raw.Name()]
	if serve == nil {
		return false
	}
	c := n.connOfUnix(raw.Conn())
	if c == nil || !n.start(func() { serve(c, raw) }) {
		_ = raw.Reset() // the connection is closed
	}
	return true
}

// connOfUnix returns the swarm's connection that is over a socket, or nil.
func (n *Node) connOfUnix(u *unixsock.Conn) network.Conn {
	for _, c := range n.kit.swarm.ConnsToPeer(u.RemotePeer()) {
		if unixConn(c) == u {
			return c
		}
	}
	return nil
}

// plainKey is under which a context says that a stream is to be plain.
type plainKey struct{}

// Plain returns a context with which Dial and Ask open a stream that ends with its
// connection, as those do on the path on this machine and to the node itself.
func Plain(ctx context.Context) context.Context { return context.WithValue(ctx, plainKey{}, true) }

// lasts tells whether a stream that is opened on a connection is to outlive it.
func (n *Node) lasts(ctx context.Context, c network.Conn) bool {
	return ctx.Value(plainKey{}) == nil && unixConn(c) == nil && n.knowsDurable(c.RemotePeer())
}

// knowsDurable tells whether a peer speaks the protocol. Before it has named its
// protocols it is taken to.
func (n *Node) knowsDurable(id peer.ID) bool {
	all, err := n.kit.host.Peerstore().GetProtocols(id)
	if err != nil || len(all) == 0 {
		return true
	}
	known, err := n.kit.host.Peerstore().SupportsProtocols(id, carrierProtocol)
	return err == nil && len(known) > 0
}
