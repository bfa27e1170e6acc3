package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/p2pnode/p2pnode/p2p/kernel"
)

// A Stream carries bytes both ways on a socket of its own. That the other end
// has ended it, and with what code, comes on the connection's control socket:
// only then is the end of the bytes an end, and not the death of a process. Its
// methods may be called from several goroutines at once.
type Stream struct {
	conn     *Conn
	id       uint64
	name     string
	question []byte
	asked    bool          // by the other end; not answered yet, unless file or handed is set
	answer   <-chan []byte // of this end's Ask

	mu      sync.Mutex // guards the fields below
	file    *os.File   // the socket; nil while there is none
	kernel  bool       // the socket is another program's, whose ends are as the kernel says
	mute    bool       // and can't say that it was broken off
	handed  bool       // the other end has the socket
	onEnd   func(error)
	told    bool          // the other end knows that this one has ended writing
	ended   bool          // the other end has ended writing
	closed  bool          // by this end
	err     error         // why the stream broke
	answers chan []byte   // where answer comes from, once; nil before an Ask and after
	wake    chan struct{} // closed when something of these has changed; nil if nobody waits
	until   time.Time     // read deadline
}

var _ network.MuxedStream = (*Stream)(nil)

// Name returns what the stream was opened for; it is empty for those of
// OpenStream.
func (s *Stream) Name() string { return s.name }

// Conn returns the connection that the stream is of.
func (s *Stream) Conn() *Conn { return s.conn }

// Question returns what came with an Ask, and whether the stream is of one. Such
// a stream has to be answered before it carries anything.
func (s *Stream) Question() (question []byte, asked bool) { return s.question, s.asked }

// Answer gives the stream its socket and the other end the answer.
func (s *Stream) Answer(answer []byte) error {
	ours, theirs, err := socketPair()
	if err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return fmt.Errorf("answer: %w", err)
	}
	if err := s.setFile(ours, 0); err != nil {
		closeFD(ours)
		closeFD(theirs)
		return fmt.Errorf("answer: %w", err)
	}
	f := frame{kind: frameAnswer, socket: true, stream: s.id, payload: answer}
	return s.sendAnswer(f, func(send func(fd int) error) error {
		err := send(theirs)
		if err != errWouldWait {
			closeFD(theirs)
		}
		return err
	})
}

// HandOver answers with a socket that this end has connected to something else.
// From then on the other end reads and writes that one, and the Stream here only
// says when it has ended: see OnEnd. The caller keeps its own descriptor of the
// socket and closes it then.
func (s *Stream) HandOver(answer []byte, socket syscall.RawConn) error {
	s.mu.Lock()
	s.handed = true
	s.mu.Unlock()
	f := frame{kind: frameAnswer, socket: true, code: answerKernel, stream: s.id, payload: answer}
	if isUnix(socket) {
		f.code = answerMute
	}
	return s.sendAnswer(f, func(send func(fd int) error) error {
		var err error
		if cerr := socket.Control(func(fd uintptr) { err = send(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	})
}

// OnEnd has f called once, when a stream that was handed over has ended: with
// nil if the other end closed it, else with why it broke.
func (s *Stream) OnEnd(f func(error)) {
	s.mu.Lock()
	switch {
	case s.err != nil, s.closed, s.ended:
		err := s.err
		s.mu.Unlock()
		f(err)
	default:
		s.onEnd = f
		s.mu.Unlock()
	}
}

// The codes of an answer whose socket was handed over.
const (
	answerKernel = 1 // it says itself that it was broken off
	answerMute   = 2 // it does not, as a unix socket
)

// sendAnswer sends an answer with the socket that with calls it with. It does not
// wait: who answers may be the one who reads what the other end has to say, and if
// both ends did nothing but wait for the other to read, neither would.
func (s *Stream) sendAnswer(f frame, with func(send func(fd int) error) error) error {
	if len(f.payload) > MaxQuestion {
		_ = s.ResetWithError(network.StreamProtocolViolation)
		return fmt.Errorf("answer has %d bytes; at most %d", len(f.payload), MaxQuestion)
	}
	err := with(func(fd int) error { return s.conn.tryTell(f, fd) })
	if err == errWouldWait {
		go func() {
			if err := with(func(fd int) error { return s.conn.tell(f, fd) }); err != nil {
				_ = s.ResetWithError(network.StreamResourceLimitExceeded)
			}
		}()
		return nil
	}
	if err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// Refuse gives the other end the answer and no stream.
func (s *Stream) Refuse(answer []byte) error {
	f := frame{kind: frameAnswer, stream: s.id, payload: answer}
	err := s.sendAnswer(f, func(send func(fd int) error) error { return send(-1) })
	s.refused()
	return err
}

// refused ends a stream that gets no socket.
func (s *Stream) refused() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.conn.remove(s)
}

// sendAsk opens a stream with a question. It is the deepest that a goroutine gets
// that dials through a forward: so that its stack of 4 KB need not grow for each
// connection, which takes longer than to ask, what can be done before is not done
// here.
func (s *Stream) sendAsk(question []byte) error {
	if err := s.conn.add(s); err != nil {
		return err
	}
	err := s.conn.tell(frame{kind: frameAsk, stream: s.id, payload: askPayload(s.name, question)}, -1)
	if err != nil {
		s.fail(err)
	}
	return err
}

//go:noinline
func askPayload(name string, question []byte) []byte {
	b := make([]byte, 0, 1+len(name)+len(question))
	b = append(b, byte(len(name)))
	return append(append(b, name...), question...)
}

// awaitAnswer waits for the answer to an Ask.
func (s *Stream) awaitAnswer(ctx context.Context) (*Stream, []byte, error) {
	late := time.NewTimer(answerTimeout)
	defer late.Stop()
	select {
	case answer, ok := <-s.answer:
		if !ok {
			return nil, nil, fmt.Errorf("ask: %w", s.why(nil))
		}
		if _, err := s.socket(); errors.Is(err, net.ErrClosed) {
			return s, answer, ErrRefused
		} else if err != nil {
			return nil, nil, fmt.Errorf("ask: %w", err)
		}
		return s, answer, nil
	case <-late.C:
		_ = s.Reset()
		return nil, nil, fmt.Errorf("ask: no answer: %w", os.ErrDeadlineExceeded)
	case <-ctx.Done():
		_ = s.Reset()
		return nil, nil, context.Cause(ctx)
	}
}

// takeAnswer takes in the answer of the other end. fd is its socket, or -1.
func (s *Stream) takeAnswer(f frame, fd int) {
	answer := append([]byte{}, f.payload...)
	switch {
	case !f.socket:
		s.refused()
	case fd < 0: // no descriptor was left
		s.giveUp(&network.StreamError{ErrorCode: network.StreamResourceLimitExceeded, TransportError: os.NewSyscallError("recvmsg", syscall.EMFILE)})
	default:
		err := isStream(fd)
		if err == nil {
			err = s.setFile(fd, f.code)
		}
		if err != nil { // or it was given up in the meantime
			closeFD(fd)
			_ = s.ResetWithError(network.StreamProtocolViolation)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers != nil {
		s.answers <- answer
		s.answers = nil
	}
}

// setFile gives the stream its socket.
func (s *Stream) setFile(fd int, code uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closed, s.file != nil:
		return net.ErrClosed
	}
	s.file, s.kernel, s.mute = socketFile(fd), code != 0, code == answerMute
	return nil
}

// socket returns the stream's, or why there is none.
func (s *Stream) socket() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil, s.whyLocked(errNoSocket)
	}
	return s.file, nil
}

var errNoSocket = errors.New("stream has no socket")

// SyscallConn returns the socket, for the kernel to move bytes from it or to it.
// What looks like the end of its bytes is one only if Ended says so.
func (s *Stream) SyscallConn() (syscall.RawConn, error) {
	f, err := s.socket()
	if err != nil {
		return nil, err
	}
	return f.SyscallConn()
}

// Read returns io.EOF once the other end has ended the stream and all its bytes
// have been read.
func (s *Stream) Read(p []byte) (int, error) {
	f, err := s.socket()
	if err != nil {
		return 0, err
	}
	n, err := f.Read(p)
	if n > 0 || err == nil {
		return n, nil
	}
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) && !s.kernel {
		if err := s.Ended(); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	return 0, s.why(err)
}

// Ended waits, after the socket had no more bytes, until it is known whether the
// other end ended the stream. It returns nil if it did, else why the stream broke.
func (s *Stream) Ended() error {
	if s.kernel {
		if !s.mute {
			return nil
		}
		// The other end says that it breaks the connection before it does.
		s.conn.catchUp()
		if err := s.why(nil); err != nil {
			return err
		}
		if err := s.conn.why(); err != nil { // which the stream is about to hear
			return fmt.Errorf("%w: %w", network.ErrReset, err)
		}
		return nil
	}
	return s.await(func() (bool, error) { return s.ended, nil }, true)
}

// await waits until done says so, the stream has broken or, if it reads, the
// read deadline has passed.
func (s *Stream) await(done func() (bool, error), reads bool) error {
	for {
		s.mu.Lock()
		if s.err != nil || s.closed {
			defer s.mu.Unlock()
			return s.whyLocked(nil)
		}
		if ok, err := done(); ok {
			s.mu.Unlock()
			return err
		}
		if s.wake == nil {
			s.wake = make(chan struct{})
		}
		wake, until := s.wake, s.until
		s.mu.Unlock()
		if !reads {
			until = time.Now().Add(verdictTimeout)
		}
		if !sleepUntil(wake, until) {
			return os.ErrDeadlineExceeded
		}
	}
}

// verdictTimeout bounds how long a Write that failed waits to hear why. Who has
// closed its side for reading alone tells nothing.
const verdictTimeout = 5 * time.Second

// sleepUntil returns true once wake is closed, or false at a time, unless that
// is zero.
func sleepUntil(wake <-chan struct{}, until time.Time) bool {
	var timeout <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-wake:
		return true
	case <-timeout:
		return false
	}
}

func (s *Stream) wakeLocked() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// Write returns once the kernel has the bytes.
func (s *Stream) Write(p []byte) (int, error) {
	f, err := s.socket()
	if err != nil {
		return 0, err
	}
	n, err := f.Write(p)
	if err == nil {
		return n, nil
	}
	return n, s.writeError(err)
}

// writeError makes of what the socket says what the stream says. A socket breaks
// when the other end is done with it, and why it is comes by another way.
func (s *Stream) writeError(err error) error {
	if s.kernel || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return s.why(err)
	}
	gone := fmt.Errorf("%w: the other end has closed the stream", network.ErrReset)
	err = s.await(func() (bool, error) { return s.ended, gone }, false)
	if err == os.ErrDeadlineExceeded {
		return gone
	}
	return err
}

// why says why the stream is no more, or err if it still is.
func (s *Stream) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whyLocked(err)
}

// Broke returns why the stream broke, nil if it did not: who waits on the socket of
// SyscallConn is told no more than that it is closed.
func (s *Stream) Broke() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return s.whyLocked(nil)
}

func (s *Stream) whyLocked(err error) error {
	switch {
	case s.err != nil && errors.Is(s.err, network.ErrReset):
		return s.err
	case s.err != nil:
		return fmt.Errorf("%w: %w", network.ErrReset, s.err)
	case s.closed:
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return err
}

// CloseWrite tells the other end that nothing more will be written.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.told || s.closed || s.err != nil || s.file == nil {
		defer s.mu.Unlock()
		return s.whyLocked(nil)
	}
	s.told = true
	f := s.file
	s.mu.Unlock()
	if !s.kernel {
		if err := s.conn.tell(frame{kind: frameEnd, stream: s.id}, -1); err != nil {
			return s.why(err)
		}
	}
	return s.shutdown(f, shutWrite)
}

// CloseRead ends reading; the other end can write no more.
func (s *Stream) CloseRead() error {
	f, err := s.socket()
	if err != nil {
		return err
	}
	s.setEnded() // nothing has to be waited for any more
	return s.shutdown(f, shutRead)
}

func (s *Stream) shutdown(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return s.why(err)
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = shutdownFD(int(fd), how) }); err != nil {
		return s.why(err)
	}
	if errors.Is(serr, syscall.ENOTCONN) {
		serr = nil // the other end went first
	}
	return s.why(serr)
}

// Close ends the stream. What was written is still read by the other end.
func (s *Stream) Close() error {
	s.mu.Lock()
	switch {
	case s.closed || s.err != nil:
		s.mu.Unlock()
		return nil
	case s.file == nil && !s.ended: // asked for and not answered, or in the other end's hands
		s.mu.Unlock()
		return s.Reset()
	}
	s.closed = true
	tell := (!s.told || s.kernel) && !s.handed
	f := s.file
	s.wakeLocked()
	s.mu.Unlock()
	s.conn.remove(s)
	switch end := (frame{kind: frameEnd, stream: s.id}); {
	case tell && s.kernel:
		s.conn.tellLate(end)
	case tell:
		s.conn.tellSoon(end)
	}
	if f != nil {
		_ = f.Close()
	}
	return nil
}

// Reset gives the stream up, with code 0.
func (s *Stream) Reset() error { return s.ResetWithError(network.StreamNoError) }

// ResetWithError gives the stream up, with a code that the other end is told.
func (s *Stream) ResetWithError(code network.StreamErrorCode) error {
	s.mu.Lock()
	over := s.closed || s.err != nil
	s.mu.Unlock()
	if !over {
		s.giveUp(&network.StreamError{ErrorCode: code})
	}
	return nil
}

// giveUp tells the other end the code of why this one breaks the stream.
func (s *Stream) giveUp(why *network.StreamError) {
	// Before the socket is closed, so that the other end hears of it first.
	s.conn.tellSoon(frame{kind: frameReset, stream: s.id, code: uint32(why.ErrorCode)})
	s.fail(why)
}

// setEnded takes in that the other end will write no more, or has closed a
// socket that was handed over to it.
func (s *Stream) setEnded() {
	s.mu.Lock()
	s.ended = true
	s.wakeLocked()
	end := s.onEnd
	s.onEnd = nil
	handed := s.handed
	s.mu.Unlock()
	if handed {
		s.conn.remove(s)
	}
	if end != nil {
		end(nil)
	}
}

// lose takes in that the connection has ended. A stream whose other end has said
// all it had to say is still read to its end.
func (s *Stream) lose(err error) {
	s.mu.Lock()
	whole := s.ended && !s.kernel && s.file != nil
	s.mu.Unlock()
	if !whole {
		s.fail(err)
	}
}

// fail ends the stream for a reason, unless it has ended.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err != nil || s.closed {
		s.mu.Unlock()
		return
	}
	s.err = err
	s.wakeLocked()
	if s.answers != nil {
		close(s.answers)
		s.answers = nil
	}
	end := s.onEnd
	s.onEnd = nil
	f, kernel := s.file, s.kernel
	s.mu.Unlock()
	s.conn.remove(s)
	if f != nil {
		if kernel {
			abortFile(f)
		}
		_ = f.Close()
	}
	if end != nil {
		end(err)
	}
}

// abortFile breaks off a connection that another process has as well. Where that
// can't be done, the last to close it resets it.
func abortFile(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		kernel.Abort(raw)
	}
}

// SetDeadline sets the time after which Read and Write fail with
// os.ErrDeadlineExceeded; the zero time means never.
func (s *Stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline is SetDeadline for Read alone.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	s.until = t
	s.wakeLocked()
	return s.whyLocked(s.file.SetReadDeadline(t))
}

// SetWriteDeadline is SetDeadline for Write alone.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	return s.whyLocked(s.file.SetWriteDeadline(t))
}
