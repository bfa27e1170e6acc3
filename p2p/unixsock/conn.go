package unixsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
)

const (
	// maxStreams bounds the streams of one connection that its other end has
	// opened. More are reset.
	maxStreams = 1 << 14

	// maxUnaccepted bounds those that nobody has accepted, each of which holds a
	// descriptor. The other end waits with further ones.
	maxUnaccepted = 16

	// answerTimeout bounds how long an Ask waits. Who needs longer to find out
	// what to say answers first.
	answerTimeout = 10 * time.Second

	// stallTimeout is how long an end may leave what it is told unread. A
	// process that is stopped for longer loses the connection.
	stallTimeout = 20 * time.Second
)

var (
	// errHungUp says that the process at the other end is gone, or has closed
	// the connection without a word.
	errHungUp = errors.New("the other end hung up")

	errWouldWait = errors.New("the other end does not read")

	// ErrRefused says that an Ask got an answer and no stream.
	ErrRefused = errors.New("stream refused")
)

// A Conn is a connection to a peer on this machine. It is a control socket, on
// which the ends tell each other of streams, and a socket for each stream. Its
// methods may be called from several goroutines at once.
type Conn struct {
	// Set before the Conn is used and never changed.
	transport *Transport
	control   *net.UnixConn
	peer      party
	dialed    bool
	addr      multiaddr.Multiaddr
	scope     network.ConnManagementScope

	recv *receiver

	wmu   sync.Mutex // one frame at a time
	send  *sender
	wbuf  []byte
	late  []byte      // frames that go with the next one, or when flush is due
	flush *time.Timer // nil until there were any

	accepts chan *Stream  // streams without a name
	served  chan struct{} // closed by Serve
	handler func(*Stream) // set by Serve

	done chan struct{} // closed when the connection has ended

	mu      sync.Mutex // guards the fields below
	streams map[uint64]*Stream
	remote  int    // of those, opened by the other end
	next    uint64 // the next stream that this end opens
	reason  error  // why this end closes it
	err     error  // why the connection has ended
}

var (
	_ transport.CapableConn = (*Conn)(nil)
	_ network.ConnStat      = (*Conn)(nil)
)

func (t *Transport) newConn(control *net.UnixConn, p party, dialed bool, addr multiaddr.Multiaddr, scope network.ConnManagementScope) (*Conn, error) {
	raw, err := control.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{
		transport: t, control: control, peer: p, dialed: dialed, addr: addr, scope: scope,
		send:    newSender(raw),
		recv:    newReceiver(raw),
		accepts: make(chan *Stream, maxUnaccepted), served: make(chan struct{}), done: make(chan struct{}),
		streams: map[uint64]*Stream{},
	}
	if dialed {
		c.next = 1 // the two ends count in odd and even numbers
	}
	go c.receive()
	return c, nil
}

// Serve has handler called with each stream that the other end opens under a
// name, one at a time; handler must not block. Before Serve they wait. It is
// called once.
func (c *Conn) Serve(handler func(*Stream)) {
	c.handler = handler
	close(c.served)
}

// User returns the user that the process at the other end ran as when it
// connected or listened, as the kernel says.
func (c *Conn) User() uint32 { return c.peer.user }

// SameOwner tells whether the process at the other end is of this user, and in
// sight: in the same PID namespace. Such a process could take any socket of this
// one's without asking.
func (c *Conn) SameOwner() bool { return c.peer.user == ownUser() && c.peer.pid > 0 }

// Done returns a channel that is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Dialed tells whether this end made the connection.
func (c *Conn) Dialed() bool { return c.dialed }

// NumStreams returns how many streams are open on the connection.
func (c *Conn) NumStreams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// OpenStream opens a stream without a name, for AcceptStream.
func (c *Conn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	return c.open(ctx, "")
}

// OpenNamed opens a stream for the handler at the other end. It does not wait for
// the other end, which resets the stream if it has no use for it.
func (c *Conn) OpenNamed(ctx context.Context, name string) (*Stream, error) {
	if name == "" || len(name) > MaxName {
		return nil, fmt.Errorf("name of a stream has %d bytes, not 1 to %d", len(name), MaxName)
	}
	return c.open(ctx, name)
}

func (c *Conn) open(ctx context.Context, name string) (*Stream, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	defer closeFD(theirs)
	s := &Stream{conn: c, name: name, file: socketFile(ours)}
	if err := c.add(s); err != nil {
		_ = s.file.Close()
		return nil, fmt.Errorf("open stream: %w", err)
	}
	if err := c.tell(frame{kind: frameOpen, socket: true, stream: s.id, payload: []byte(name)}, theirs); err != nil {
		s.fail(err)
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return s, nil
}

// Ask opens a stream with a question, and waits for the answer, 10 seconds at most. The other end
// says with it what socket the stream has: see [Stream.Answer]. If it refuses
// the stream, the error is ErrRefused and the answer is there all the same; the
// stream is closed.
func (c *Conn) Ask(ctx context.Context, name string, question []byte) (*Stream, []byte, error) {
	if name == "" || len(name) > MaxName || len(question) > MaxQuestion {
		return nil, nil, fmt.Errorf("ask: name of %d bytes, not 1 to %d, or question of %d bytes; at most %d", len(name), MaxName, len(question), MaxQuestion)
	}
	s := &Stream{conn: c, name: name, answers: make(chan []byte, 1)}
	s.answer = s.answers
	if err := s.sendAsk(question); err != nil {
		return nil, nil, fmt.Errorf("ask: %w", err)
	}
	return s.awaitAnswer(ctx)
}

// add puts a stream that this end opens among the others.
func (c *Conn) add(s *Stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if len(c.streams)-c.remote >= maxStreams {
		return fmt.Errorf("%w: %d streams to one peer", network.ErrResourceLimitExceeded, maxStreams)
	}
	s.id = c.next
	c.next += 2
	c.streams[s.id] = s
	return nil
}

// addRemote puts in a stream that the other end opens, unless there are too many.
func (c *Conn) addRemote(s *Stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case c.isOwn(s.id) || c.streams[s.id] != nil:
		return fmt.Errorf("%w: stream %d is opened twice or not by who may", errProtocol, s.id)
	case c.remote >= maxStreams:
		return errTooMany
	}
	c.remote++
	c.streams[s.id] = s
	return nil
}

var errTooMany = errors.New("too many streams")

// isOwn tells whether a stream is one that this end opens.
func (c *Conn) isOwn(stream uint64) bool { return stream%2 == 1 == c.dialed }

// remove takes a stream out, of which nothing more has to be heard.
func (c *Conn) remove(s *Stream) (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.id] != s {
		return false
	}
	delete(c.streams, s.id)
	if !c.isOwn(s.id) {
		c.remote--
	}
	return true
}

func (c *Conn) stream(id uint64) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// tell sends a frame, with a socket unless fd is -1. What it can't send because
// this process or the machine is out of descriptors fails alone; anything else
// ends the connection.
func (c *Conn) tell(f frame, fd int) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.putLocked(f)
	return c.sendLocked(fd, true)
}

// tryTell is tell that does not wait: for the other end to read, or for another
// that waits. The error is then errWouldWait, and nothing was sent.
func (c *Conn) tryTell(f frame, fd int) error {
	if !c.wmu.TryLock() {
		return errWouldWait
	}
	defer c.wmu.Unlock()
	c.putLocked(f)
	return c.sendLocked(fd, false)
}

// tellSoon sends a frame, if that takes waiting then after it returns. What is
// wrong the connection says as it ends.
func (c *Conn) tellSoon(f frame) {
	if c.tryTell(f, -1) == errWouldWait {
		go func() { _ = c.tell(f, -1) }()
	}
}

// putLocked puts a frame into wbuf, behind the late ones. The stack need not hold
// what it takes while the frame is sent: see [Stream.sendAsk].
//
//go:noinline
func (c *Conn) putLocked(f frame) { c.wbuf = f.append(append(c.wbuf[:0], c.late...)) }

// tellLate is tell for a frame that nobody waits for: it goes with the next one,
// and so costs neither end a system call and a wake-up of its own where there is
// much to tell.
func (c *Conn) tellLate(f frame) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if len(c.late) >= maxLate {
		c.flushLocked()
	}
	first := len(c.late) == 0
	c.late = f.append(c.late)
	switch {
	case c.flush == nil:
		c.flush = time.AfterFunc(lateness, c.flushLate)
	case first:
		c.flush.Reset(lateness)
	}
}

const (
	lateness = time.Millisecond
	maxLate  = 16 * frameHead // bytes
)

func (c *Conn) flushLate() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.flushLocked()
}

func (c *Conn) flushLocked() {
	if len(c.late) == 0 {
		return
	}
	c.wbuf = append(c.wbuf[:0], c.late...)
	_ = c.sendLocked(-1, true) // or the connection ends
}

// sendLocked sends what is in wbuf, which has the late frames at its beginning.
func (c *Conn) sendLocked(fd int, wait bool) error {
	err := c.send.send(c.wbuf, fd, false)
	if err == errWouldWait && !wait {
		return err
	}
	if err == errWouldWait {
		_ = c.control.SetWriteDeadline(time.Now().Add(stallTimeout))
		err = c.send.send(c.wbuf, fd, true)
		_ = c.control.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		c.late = c.late[:0]
		return nil
	case fd >= 0 && isScarce(err):
		return err
	}
	c.finish(fmt.Errorf("%w: %w", errHungUp, err))
	return c.why()
}

// isScarce tells whether the kernel would not pass a socket for want of room.
func isScarce(err error) bool {
	return errors.Is(err, syscall.ETOOMANYREFS) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// receive takes in frames until the connection ends.
func (c *Conn) receive() {
	r := c.recv
	defer r.setEnded()
	var err error
	for err == nil {
		if err = r.fill(); err == nil {
			err = c.takeAll(r)
		}
	}
	r.close()
	if !errors.Is(err, errHungUp) && !errors.Is(err, errProtocol) {
		err = fmt.Errorf("%w: %w", errHungUp, err)
	}
	c.finish(err)
}

// takeAll takes in the frames that have arrived whole.
func (c *Conn) takeAll(r *receiver) error {
	rest := r.buf[:r.have]
	for {
		f, more, ok, err := cutFrame(rest)
		if err != nil {
			return err
		}
		if !ok {
			r.have = copy(r.buf[:], rest)
			r.setIdle()
			return nil
		}
		rest = more
		fd := -1
		if f.socket {
			if fd, ok = r.socket(); !ok {
				return fmt.Errorf("%w: a socket is missing", errProtocol)
			}
		}
		if err := c.take(f, fd); err != nil {
			return err
		}
	}
}

// catchUp waits until all is taken in that the other end has said up to now.
func (c *Conn) catchUp() { c.recv.progress.await(c.recv.pending) }

// take takes in a frame. fd is its socket, or -1 if it has none or there was no
// descriptor left for it.
func (c *Conn) take(f frame, fd int) error {
	switch f.kind {
	case frameOpen:
		if fd < 0 {
			c.tellSoon(frame{kind: frameReset, stream: f.stream, code: uint32(network.StreamResourceLimitExceeded)})
			return nil
		}
		return c.takeStream(&Stream{conn: c, id: f.stream, name: string(f.payload), file: socketFile(fd)})
	case frameAsk:
		name, question := f.asked()
		return c.takeStream(&Stream{conn: c, id: f.stream, name: name, question: append([]byte{}, question...), asked: true})
	case frameAnswer:
		s := c.stream(f.stream)
		if s != nil && c.isOwn(s.id) {
			s.takeAnswer(f, fd)
		} else if fd >= 0 { // it was given up in the meantime
			closeFD(fd)
		}
	case frameEnd:
		if s := c.stream(f.stream); s != nil {
			s.setEnded()
		}
	case frameReset:
		if s := c.stream(f.stream); s != nil {
			s.fail(&network.StreamError{ErrorCode: network.StreamErrorCode(f.code), Remote: true})
		}
	case frameClose:
		return &network.ConnError{ErrorCode: network.ConnErrorCode(f.code), Remote: true}
	}
	return nil
}

func (c *Conn) takeStream(s *Stream) error {
	err := c.addRemote(s)
	if err != nil && s.file != nil {
		_ = s.file.Close()
	}
	if err == errTooMany {
		c.tellSoon(frame{kind: frameReset, stream: s.id, code: uint32(network.StreamResourceLimitExceeded)})
		return nil
	}
	if err != nil {
		return err
	}
	if s.name == "" {
		select {
		case c.accepts <- s:
		case <-c.done:
		}
		return nil
	}
	select {
	case <-c.served:
		c.handler(s)
	case <-c.done:
	}
	return nil
}

// AcceptStream waits for the next stream without a name.
func (c *Conn) AcceptStream() (network.MuxedStream, error) {
	select {
	case s := <-c.accepts:
		return s, nil
	case <-c.done:
		return nil, c.why()
	}
}

// Close ends the connection. What the other end has not read of the streams that
// were closed before, it still can; the others break.
func (c *Conn) Close() error { return c.CloseWithError(network.ConnNoError) }

// CloseWithError is Close with a code that the other end is told.
func (c *Conn) CloseWithError(code network.ConnErrorCode) error {
	if c.IsClosed() {
		return nil
	}
	reason := &network.ConnError{ErrorCode: code}
	c.mu.Lock()
	if c.reason == nil {
		c.reason = reason // before the other end hangs up
	}
	c.mu.Unlock()
	_ = c.tell(frame{kind: frameClose, code: uint32(code)}, -1) // whoever is gone need not be told
	c.finish(reason)
	return nil
}

// Err returns why the connection has ended, or nil if it has not.
func (c *Conn) Err() error { return c.why() }

// IsClosed tells whether the connection has ended.
func (c *Conn) IsClosed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *Conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// finish ends the connection for a reason, once.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.reason != nil {
		err = c.reason
	}
	c.err = err
	_ = c.control.Close() // before a stream's socket, whose other end would wait to hear why
	streams := c.streams
	c.streams, c.remote = nil, 0
	c.mu.Unlock()
	close(c.done)
	for _, s := range streams {
		s.lose(err)
	}
	c.scope.Done()
}

// As finds a *Conn, and nothing else.
func (c *Conn) As(target any) bool {
	if t, ok := target.(**Conn); ok {
		*t = c
		return true
	}
	return false
}

// LocalPeer returns this end's peer.
func (c *Conn) LocalPeer() peer.ID { return c.transport.id }

// RemotePeer returns the peer at the other end, whose key is proven.
func (c *Conn) RemotePeer() peer.ID { return c.peer.id }

// RemotePublicKey returns that key.
func (c *Conn) RemotePublicKey() crypto.PubKey { return c.peer.key }

// ConnState says that the transport is unix.
func (c *Conn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "unix"}
}

// LocalMultiaddr and RemoteMultiaddr return the same: where the sockets are.
func (c *Conn) LocalMultiaddr() multiaddr.Multiaddr { return c.addr }

// RemoteMultiaddr is LocalMultiaddr.
func (c *Conn) RemoteMultiaddr() multiaddr.Multiaddr { return c.addr }

// Scope returns what the connection is accounted to.
func (c *Conn) Scope() network.ConnScope { return c.scope }

// Transport returns the transport that made the connection.
func (c *Conn) Transport() transport.Transport { return c.transport }

// Stat returns which end made the connection.
func (c *Conn) Stat() network.ConnStats {
	dir := network.DirInbound
	if c.dialed {
		dir = network.DirOutbound
	}
	return network.ConnStats{Stats: network.Stats{Direction: dir}}
}

// socketFile makes a descriptor of a socket that does not block into a file whose
// deadlines work. That is less than a net.UnixConn, which asks for addresses.
func socketFile(fd int) *os.File { return os.NewFile(uintptr(fd), "stream") }
