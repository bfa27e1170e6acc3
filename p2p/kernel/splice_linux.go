package kernel

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Splice moves bytes from one socket to another until the first one has no more,
// without a copy through this process, and counts those that have arrived.
// Package net does that too, but it holds a pipe, which is two descriptors, while
// it waits, it tells how much it moved only when it is over, and it does not do it
// between unix sockets. The error is [ErrNoSplice] if it can't be done.
func Splice(to, from syscall.RawConn, moved *atomic.Uint64) error {
	s := splicer{moved: moved}
	fill, drain := s.fill, s.drain
	for {
		if err := from.Read(fill); err != nil {
			return err
		}
		if s.err != nil || s.held == 0 {
			return s.err
		}
		err := to.Write(drain)
		s.release()
		if err != nil {
			return err
		}
		if s.err != nil {
			return s.err
		}
	}
}

// A splicer is the state of one direction. Its pipe is there only while bytes
// are on their way.
type splicer struct {
	moved *atomic.Uint64
	pipe  *pipe
	held  int // bytes in the pipe
	err   error
}

// fill moves what the socket has into a pipe. It is called whenever there may be
// something, and returns false to wait.
func (s *splicer) fill(fd uintptr) (done bool) {
	if s.pipe, s.err = newPipe(); s.err != nil {
		s.err = ErrNoSplice
		return true
	}
	s.held, s.err = spliceOnce(int(fd), s.pipe.w, pipeSize)
	if s.held > 0 {
		return true
	}
	s.release()
	if s.err == unix.EINVAL {
		s.err = ErrNoSplice
	}
	return s.err != unix.EAGAIN
}

// drain moves what is in the pipe out to a socket. It is called whenever there
// may be room, and returns false to wait.
func (s *splicer) drain(fd uintptr) (done bool) {
	for s.held > 0 {
		n, err := spliceOnce(s.pipe.r, int(fd), s.held)
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			s.err = os.NewSyscallError("splice", err)
			return true
		}
		s.held -= n
		s.moved.Add(uint64(n))
	}
	return true
}

// release lets go of the pipe, which may still hold bytes that nobody wants.
func (s *splicer) release() {
	s.pipe.release(s.held)
	s.pipe = nil // so that the pool may drop it
}

// spliceOnce does not block, so the Go scheduler need not be told of it.
func spliceOnce(from, to, n int) (int, error) {
	for {
		moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK)
		switch errno {
		case 0:
			return int(moved), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Larger pipes were no faster, and less steady. Of this size, a user without
// privilege may have 256 at once by default; the kernel makes later ones smaller.
const pipeSize = 256 << 10

var pipePool sync.Pool

// A pipe is what the kernel moves bytes through.
type pipe struct {
	r, w    int
	cleanup runtime.Cleanup // closes a pipe that the pool has dropped
}

func newPipe() (*pipe, error) {
	if p, ok := pipePool.Get().(*pipe); ok {
		return p, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	// A smaller pipe does as well, in more steps.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	p := &pipe{r: fds[0], w: fds[1]}
	p.cleanup = runtime.AddCleanup(p, closeFDs, fds)
	return p, nil
}

// release gives the pipe back to the pool, or closes it if it still holds bytes.
func (p *pipe) release(held int) {
	if held == 0 {
		pipePool.Put(p)
		return
	}
	p.cleanup.Stop()
	closeFDs([2]int{p.r, p.w})
}

func closeFDs(fds [2]int) {
	_ = unix.Close(fds[0])
	_ = unix.Close(fds[1])
}
