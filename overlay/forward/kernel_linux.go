package forward

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/p2pnode/p2pnode/p2p/kernel"
	"golang.org/x/sys/unix"
)

// transfer moves bytes from src to dst until src ends, and then returns nil, or
// until an error. It takes the cheapest way there is: within the kernel between
// two sockets, else without a buffer that waits if src is a socket.
func transfer(dst, src *side, moved *atomic.Uint64) error {
	if src.socket == nil {
		return copyBuffered(dst, readConn(src), moved)
	}
	if dst.socket != nil {
		if err := kernel.Splice(dst.socket, src.socket, moved); !errors.Is(err, kernel.ErrNoSplice) {
			return err
		}
	}
	if f, ok := dst.Conn.(filler); ok {
		return copyFilling(f, src, moved)
	}
	return copyBuffered(dst, readSocket(src.socket), moved)
}

// A filler is a stream that may read what it is to send into where it keeps that; see
// [github.com/p2pnode/p2pnode/p2p.Stream].Fill.
type filler interface {
	io.Writer
	Fill(r io.Reader, n int) (int, error)
}

// minFill is for how much a filler is worth asking, and maxFill how much it takes at
// once.
const (
	minFill = 16 << 10
	maxFill = 256<<10 - 64
)

// copyFilling is copyBuffered from a socket that has the stream itself read where there
// is much, which saves a copy.
func copyFilling(dst filler, src *side, moved *atomic.Uint64) error {
	read, fills := readSocket(src.socket), true
	return copyBuffered(dst, func(size bufferSize) (*buffer, int, error) {
		for fills && size > 0 { // the last read filled its buffer
			n := kernel.Waiting(src.socket)
			if n < minFill {
				size = 1 // which has room for that, and waits with none
				break
			}
			k, err := dst.Fill(src.Conn, min(n, maxFill))
			moved.Add(uint64(k))
			switch {
			case errors.Is(err, errors.ErrUnsupported):
				fills = false
			case err != nil:
				return nil, 0, err
			}
		}
		return read(size)
	}, moved)
}

// A socketReader reads from a socket, and takes a buffer only when there is
// something to read.
type socketReader struct {
	conn syscall.RawConn
	try  func(fd uintptr) bool // tryRead, bound once

	// What the last try was given and what came of it.
	size bufferSize
	buf  *buffer
	n    int
	err  error
}

func readSocket(c syscall.RawConn) readFunc {
	r := &socketReader{conn: c}
	r.try = r.tryRead
	return r.read
}

func (r *socketReader) read(size bufferSize) (*buffer, int, error) {
	r.size = size
	if err := r.conn.Read(r.try); err != nil {
		return nil, 0, err
	}
	if r.err != nil {
		return nil, 0, os.NewSyscallError("read", r.err)
	}
	if r.n == 0 {
		return nil, 0, io.EOF
	}
	return r.buf, r.n, nil
}

// tryRead is called at once, and then whenever the socket may be ready. It
// returns false to wait.
func (r *socketReader) tryRead(fd uintptr) (done bool) {
	r.buf = newBuffer(r.size)
	r.n, r.err = retry(func() (int, error) { return unix.Read(int(fd), r.buf.bytes) })
	if r.n > 0 {
		return true
	}
	r.buf.release()
	r.buf = nil // so that the pool may drop it
	return r.err != unix.EAGAIN
}

// awaitReset waits on a side that has been read to its end, until it is reset or
// times out, and returns an error then or when it is closed. If it is not a
// socket, awaitReset returns nil at once.
func awaitReset(s *side) error {
	if s.socket == nil {
		return nil
	}
	var errno int
	err := s.socket.Read(func(fd uintptr) (done bool) {
		errno, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return errno != 0
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("read", syscall.Errno(errno))
}

// retry calls a system call again for as long as signals interrupt it.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// readDatagrams returns what waits for a datagram, and takes a buffer only when
// there is one.
func readDatagrams(c *net.UDPConn) func() (*datagramBuffer, error) {
	conn, err := c.SyscallConn()
	if err != nil {
		return func() (*datagramBuffer, error) { return nil, err }
	}
	var b *datagramBuffer
	var failed error
	try := func(fd uintptr) (done bool) {
		b = newDatagramBuffer()
		b.n, failed = retry(func() (int, error) { return unix.Read(int(fd), b.bytes[:]) })
		if failed == nil {
			return true
		}
		b.release()
		b = nil
		return failed != unix.EAGAIN
	}
	return func() (*datagramBuffer, error) {
		if err := conn.Read(try); err != nil {
			return nil, err
		}
		return b, failed
	}
}
