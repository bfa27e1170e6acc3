//go:build linux || darwin

package unixsock

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// thisUser does not change: Go programs that change users start anew.
var thisUser = uint32(os.Getuid())

func ownUser() uint32 { return thisUser }

// socketPair returns two unix sockets that are connected to each other.
func socketPair() (ours, theirs int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := newPair()
	if err != nil {
		return -1, -1, os.NewSyscallError("socketpair", err)
	}
	return fds[0], fds[1], nil
}

func closeFD(fd int) { _ = unix.Close(fd) }

// shutdownFD ends one side of a socket or both.
func shutdownFD(fd, how int) error { return os.NewSyscallError("shutdown", unix.Shutdown(fd, how)) }

const (
	shutRead  = unix.SHUT_RD
	shutWrite = unix.SHUT_WR
)

// A sender writes frames to a control socket. One goroutine uses it at a time.
type sender struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // trySend, bound once

	// What is being sent, and what came of it.
	rest, rights []byte
	wait         bool
	err          error
}

func newSender(raw syscall.RawConn) *sender {
	s := &sender{raw: raw}
	s.try = s.trySend
	return s
}

// send writes a frame, and a socket with it unless fd is -1. It waits only when
// the other end does not read.
func (s *sender) send(b []byte, fd int, wait bool) error {
	s.rest, s.rights, s.wait, s.err = b, nil, wait, nil
	if fd >= 0 {
		s.rights = unix.UnixRights(fd)
	}
	err := s.raw.Write(s.try)
	s.rest = nil
	switch {
	case err != nil:
		return err
	case s.err == unix.EAGAIN:
		return errWouldWait
	}
	return os.NewSyscallError("sendmsg", s.err)
}

// trySend is called at once, and then whenever there may be room. It returns false
// to wait.
func (s *sender) trySend(fd uintptr) (done bool) {
	for len(s.rest) > 0 {
		var n int
		n, s.err = unix.SendmsgN(int(fd), s.rest, s.rights, nil, unix.MSG_NOSIGNAL)
		switch {
		case s.err == unix.EINTR:
			continue
		case s.err == unix.EAGAIN && s.wait:
			return false
		case s.err != nil:
			return true
		}
		s.rest, s.rights, s.wait = s.rest[n:], nil, true // the rest has to follow
	}
	return true
}

// A receiver reads frames, and the sockets that come with them.
type receiver struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool // tryRead, bound once
	buf  [frameHead + maxPayload]byte
	have int // bytes in buf
	oob  [oobSize]byte

	n, oobn, flags int
	err            error

	// sockets came with frames that are not taken yet, in their order. -1 is for one
	// for which there was no descriptor.
	sockets []int

	progress
}

// oobSize has room for two descriptors, of which one is expected.
const oobSize = 24

func newReceiver(raw syscall.RawConn) *receiver {
	r := &receiver{raw: raw}
	r.try = r.tryRead
	r.begin()
	return r
}

// tryRead is called at once, and then whenever there may be something. It
// returns false to wait.
func (r *receiver) tryRead(fd uintptr) (done bool) {
	r.setBusy()
	for {
		r.n, r.oobn, r.flags, r.err = recvmsg(int(fd), r.buf[r.have:], r.oob[:])
		switch r.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			r.setIdle()
			return false
		}
		return true
	}
}

// pending tells whether the other end has sent, or done, what was not read.
func (r *receiver) pending() (yes bool) {
	err := r.raw.Control(func(fd uintptr) {
		err := ignoreEINTR(func() error {
			_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return err
		})
		yes = err != unix.EAGAIN
	})
	return err == nil && yes
}

// fill reads more. It takes in what sockets there are: the kernel ends a read
// behind bytes that a socket came with, so there is at most one.
func (r *receiver) fill() error {
	if err := r.raw.Read(r.try); err != nil {
		return err
	}
	if r.err != nil {
		return os.NewSyscallError("recvmsg", r.err)
	}
	if got := r.takeRights(r.oob[:r.oobn]); !got && r.flags&unix.MSG_CTRUNC != 0 {
		r.sockets = append(r.sockets, -1)
	}
	if len(r.sockets) > maxAhead {
		return fmt.Errorf("%w: %d sockets that belong to nothing", errProtocol, len(r.sockets))
	}
	if r.n == 0 {
		return errHungUp
	}
	r.have += r.n
	return nil
}

// maxAhead bounds the sockets whose frames have not arrived whole.
const maxAhead = 2

// takeRights takes in the socket of one read, if there is one.
func (r *receiver) takeRights(oob []byte) (got bool) {
	if len(oob) == 0 {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if got {
				closeFD(fd) // nobody sends two
				continue
			}
			closeOnExec(fd)
			r.sockets = append(r.sockets, fd)
			got = true
		}
	}
	return got
}

// socket takes the socket of the next frame that has one. ok is false if there is
// none.
func (r *receiver) socket() (fd int, ok bool) {
	if len(r.sockets) == 0 {
		return -1, false
	}
	fd = r.sockets[0]
	r.sockets = append(r.sockets[:0], r.sockets[1:]...)
	return fd, true
}

// close closes the sockets that nothing has taken.
func (r *receiver) close() {
	for _, fd := range r.sockets {
		if fd >= 0 {
			closeFD(fd)
		}
	}
}

// isUnix tells whether a socket is a unix socket.
func isUnix(socket syscall.RawConn) (yes bool) {
	if s, ok := socket.(interface{ IsUnix() bool }); ok { // it knows
		return s.IsUnix()
	}
	_ = socket.Control(func(fd uintptr) {
		addr, err := unix.Getsockname(int(fd))
		_, is := addr.(*unix.SockaddrUnix)
		yes = err == nil && is
	})
	return yes
}

// isStream tells whether a descriptor is a stream socket that does not block.
func isStream(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if kind != unix.SOCK_STREAM {
		return fmt.Errorf("%w: a socket of kind %d", errProtocol, kind)
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}
