package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p/kernel"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// A stream of the path on this machine is a socket of the kernel. It is opened by
// the name of its protocol, past libp2p, which would negotiate over it.

func (n *Node) openUnix(ctx context.Context, c *unixsock.Conn, proto string) (*Stream, error) {
	raw, err := c.OpenNamed(ctx, proto)
	if err != nil {
		return nil, openError(c.RemotePeer(), err)
	}
	return n.newUnix(raw, nil), nil
}

// newUnix returns a stream of this path. first is read before anything else.
func (n *Node) newUnix(raw *unixsock.Stream, first []byte) *Stream {
	p := &preface{MuxedStream: raw, proto: raw.Name(), first: first}
	p.over.Store(len(first) == 0)
	return n.newStream(raw, p, streamInfo{
		local: n.id, remote: raw.Conn().RemotePeer(), protocol: raw.Name(), path: PathUnix,
	})
}

// A preface comes before what a stream has to be read of.
type preface struct {
	network.MuxedStream
	proto   string
	first   []byte
	nothing bool // comes after it

	over atomic.Bool // what comes next is the socket's
}

func (p *preface) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		p.over.Store(len(p.first) == 0 && !p.nothing)
		return n, nil
	}
	if p.nothing {
		return 0, io.EOF
	}
	n, err := p.MuxedStream.Read(b)
	return n, fromKernel(p.proto, err)
}

func (p *preface) Write(b []byte) (int, error) {
	n, err := p.MuxedStream.Write(b)
	return n, fromKernel(p.proto, err)
}

// receiveUnix takes in a stream that a peer has opened.
func (n *Node) receiveUnix(raw *unixsock.Stream) {
	if n.receiveUnixCarrier(raw) {
		return
	}
	n.mu.Lock()
	l := n.listeners[raw.Name()]
	n.mu.Unlock()
	if l == nil {
		_ = raw.ResetWithError(network.StreamProtocolNegotiationFailed)
		return
	}
	question, _ := raw.Question()
	l.offer(n.newUnix(raw, question))
}

// Ask is Dial with bytes that are sent first. On the path on this machine it
// waits for the peer's listener to answer them, for at most 10 seconds, and the
// answer is what is read first; elsewhere it does not wait. The question has at most
// [unixsock.MaxQuestion] bytes.
func (n *Node) Ask(ctx context.Context, id peer.ID, proto string, question []byte) (*Stream, error) {
	if id == n.id {
		s, err := n.Dial(ctx, id, proto)
		if err != nil {
			return nil, err
		}
		return s, s.writeAll(question)
	}
	if u := n.liveUnix(id); u != nil {
		// The connection ends with the node, and with it what waits here.
		if s, err := n.askUnix(ctx, u, proto, question); err == nil || !u.IsClosed() {
			return s, err
		}
	}
	return n.dialWith(ctx, id, proto, func(ctx context.Context, c network.Conn) (*Stream, error) {
		if u := unixConn(c); u != nil {
			return n.askUnix(ctx, u, proto, question)
		}
		s, err := n.open(ctx, c, proto)
		if err != nil {
			return nil, err
		}
		return s, s.writeAll(question)
	})
}

func (s *Stream) writeAll(b []byte) error {
	if _, err := s.Write(b); err != nil {
		s.Reset()
		return err
	}
	return nil
}

func (n *Node) askUnix(ctx context.Context, c *unixsock.Conn, proto string, question []byte) (*Stream, error) {
	raw, answer, err := c.Ask(ctx, proto, question)
	if err != nil && !errors.Is(err, unixsock.ErrRefused) {
		if err = fromKernel(proto, err); errors.Is(err, network.ErrReset) {
			err = fmt.Errorf("%w: %v", ErrReset, err)
		}
		return nil, openError(c.RemotePeer(), err)
	}
	s := n.newUnix(raw, answer)
	if err != nil {
		p := s.rw.(*preface)
		p.nothing = true
		p.over.Store(false)
	}
	return s, nil
}

// Answer answers an Ask, once: on the path on this machine nothing else can be
// written before, nor more be read than the question. To a stream that was dialed
// it writes. An answer has at most [unixsock.MaxQuestion] bytes.
func (s *Stream) Answer(answer []byte) error {
	if raw := s.asked(); raw != nil {
		return s.opError("answer", raw.Answer(answer))
	}
	_, err := s.Write(answer)
	return err
}

// Refuse is Answer, and closes the stream.
func (s *Stream) Refuse(answer []byte) error {
	raw := s.asked()
	if raw == nil {
		_, err := s.Write(answer)
		return errors.Join(err, s.Close())
	}
	if s.closed.Swap(true) {
		return s.opError("answer", net.ErrClosed)
	}
	defer s.uncount()
	return raw.Refuse(answer)
}

// HandsOver tells whether HandOver can be called: on an Ask from a process of the
// same user, in sight of this one, which has no socket that such a process could
// not take without asking.
func (s *Stream) HandsOver() bool {
	raw := s.asked()
	return raw != nil && raw.Conn().SameOwner()
}

// HandOver answers an Ask with a socket that this node has connected to something
// else. From then on the peer has that instead of the Stream, which only says when
// it has ended: ended is called once, with nil if the peer closed it, else with
// why it broke, be it this node's Reset or Abort. The caller closes its own
// descriptor of the socket then, and sees to it that the connection breaks.
func (s *Stream) HandOver(answer []byte, socket syscall.RawConn, ended func(error)) error {
	raw := s.asked()
	if raw == nil {
		return s.opError("hand over", errNotAsked)
	}
	if err := raw.HandOver(answer, socket); err != nil {
		return s.opError("hand over", err)
	}
	raw.OnEnd(ended)
	return nil
}

var errNotAsked = errors.New("the stream was not asked for")

// asked returns the stream below this one if it is to be answered.
func (s *Stream) asked() *unixsock.Stream {
	raw, ok := s.raw.(*unixsock.Stream)
	if !ok {
		return nil
	}
	if _, asked := raw.Question(); !asked {
		return nil
	}
	return raw
}

// SyscallConn returns the socket that the stream is, on the path on this machine,
// for the kernel to move bytes from it or to it. What has no more bytes has not
// ended unless [Stream.Ended] says so. Elsewhere the error is
// [errors.ErrUnsupported].
func (s *Stream) SyscallConn() (syscall.RawConn, error) {
	raw, ok := s.raw.(*unixsock.Stream)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	if !s.rw.(*preface).over.Load() { // not asked under rmu: a Read may wait while others write
		return nil, errors.ErrUnsupported
	}
	return raw.SyscallConn()
}

// IsStreamSocket returns true: what SyscallConn returns was looked at when it came.
func (s *Stream) IsStreamSocket() bool { return true }

// Ended waits, after the socket of SyscallConn had no more bytes, until it is
// known whether the peer has ended the stream. It returns nil if so, else why the
// stream broke.
func (s *Stream) Ended() error {
	raw, ok := s.raw.(*unixsock.Stream)
	if !ok {
		return nil
	}
	return s.opError("read", raw.Ended())
}

// WriteTo writes to w what the stream has, until it ends: to a socket within the
// kernel where the stream is one itself.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	var moved atomic.Uint64
	from, to := kernel.Socket(s), kernel.Socket(w)
	if from == nil || to == nil {
		return io.Copy(w, onlyReader{s})
	}
	err := kernel.Splice(to, from, &moved)
	s.Moved(moved.Load(), 0)
	if errors.Is(err, kernel.ErrNoSplice) {
		n, err := io.Copy(w, onlyReader{s})
		return int64(moved.Load()) + n, err
	}
	if err == nil {
		err = s.Ended()
	}
	return int64(moved.Load()), err
}

// ReadFrom writes to the stream what r has: from a socket within the kernel where
// the stream is one itself, else with as few copies as can be.
func (s *Stream) ReadFrom(r io.Reader) (int64, error) {
	var moved atomic.Uint64
	from, to := kernel.Socket(r), kernel.Socket(s)
	if from == nil {
		return io.Copy(onlyWriter{s}, r)
	}
	if to == nil {
		return s.readSocket(r, from)
	}
	err := kernel.Splice(to, from, &moved)
	s.Moved(0, moved.Load())
	if errors.Is(err, kernel.ErrNoSplice) {
		n, err := io.Copy(onlyWriter{s}, r)
		return int64(moved.Load()) + n, err
	}
	return int64(moved.Load()), err
}

const (
	minFill = 16 << 10     // for how much Fill is worth its while
	maxFill = 256<<10 - 64 // what memory of the largest size has room for
)

// readSocket writes what a socket has, by Fill where it has much.
func (s *Stream) readSocket(r io.Reader, from syscall.RawConn) (int64, error) {
	var total int64
	_, fills := s.raw.(*durableStream)
	for {
		if n := kernel.Waiting(from); fills && n >= minFill {
			k, err := s.Fill(r, min(n, maxFill))
			if total += int64(k); err != nil {
				return total, endOrError(err)
			}
			continue
		}
		b := discards.Get().(*[]byte)
		k, rerr := r.Read(*b)
		n, werr := s.Write((*b)[:k])
		discards.Put(b)
		total += int64(n)
		if err := cmp.Or(werr, rerr); err != nil {
			return total, endOrError(err)
		}
	}
}

func endOrError(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// Moved counts bytes that came in and went out by the socket of SyscallConn.
func (s *Stream) Moved(in, out uint64) {
	s.node.bytesIn.Add(in)
	s.node.bytesOut.Add(out)
}

// fromKernel puts what a stream of this path broke with into this package's
// words.
func fromKernel(proto string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var code *network.StreamError
	if !errors.As(err, &code) {
		return err
	}
	switch {
	case code.Remote && code.ErrorCode == network.StreamProtocolNegotiationFailed:
		return fmt.Errorf("%w for %s", ErrNoListener, proto)
	case code.Remote && code.ErrorCode == network.StreamResourceLimitExceeded:
		return fmt.Errorf("%w at the peer, in streams or open files", network.ErrResourceLimitExceeded)
	case code.ErrorCode == network.StreamResourceLimitExceeded && code.TransportError != nil:
		return fmt.Errorf("%w: %w", network.ErrResourceLimitExceeded, code.TransportError)
	}
	return err
}

// judged lets a connection over a unix socket be used that the gate has admitted,
// and tells who dialed one that it has not.
func (n *Node) judged(c *unixsock.Conn, err error) {
	if err != nil {
		n.local.added(c, err)
		return
	}
	c.Serve(n.receiveUnix)
}
