package forward

import (
	"io"
	"net"
	"sync/atomic"
)

// A readFunc reads once, into a buffer of the given size that it takes from the
// pool. The caller gives the buffer back; it is nil if there was an error.
type readFunc func(size bufferSize) (buf *buffer, n int, err error)

// copyBuffered moves bytes until read meets the end, and returns nil, or until
// an error.
func copyBuffered(dst io.Writer, read readFunc, moved *atomic.Uint64) error {
	var size bufferSize
	for {
		buf, n, err := read(size)
		if err != nil {
			return endOrError(err)
		}
		size = size.after(n)
		n, err = dst.Write(buf.bytes[:n])
		buf.release()
		moved.Add(uint64(n))
		if err != nil {
			return err
		}
	}
}

// endOrError tells an end from an error. An error that has io.EOF inside is not
// an end: streams return such a one when the connection below them is lost.
func endOrError(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// readConn reads from a connection that may be anything. It must hold a buffer
// while it waits.
func readConn(c net.Conn) readFunc {
	var held error // came together with bytes that had to be passed on first
	return func(size bufferSize) (buf *buffer, n int, err error) {
		if held != nil {
			return nil, 0, held
		}
		buf = newBuffer(size)
		for n == 0 && err == nil {
			n, err = c.Read(buf.bytes)
		}
		if n == 0 {
			buf.release()
			return nil, 0, err
		}
		held = err
		return buf, n, nil
	}
}
