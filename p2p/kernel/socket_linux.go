package kernel

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket returns the socket that c is, if c is a stream socket and nothing above
// it. Otherwise it returns nil.
func Socket(c any) syscall.RawConn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	switch c := c.(type) {
	case *net.TCPConn:
		return raw
	case interface{ IsStreamSocket() bool }:
		if c.IsStreamSocket() { // it looked before
			return raw
		}
	}
	kind := 0
	err = raw.Control(func(fd uintptr) {
		kind, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	})
	if err != nil || kind != unix.SOCK_STREAM {
		return nil
	}
	return raw
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

// Waiting returns how many bytes a socket has to be read now, zero if that is not known.
func Waiting(socket syscall.RawConn) (n int) {
	_ = socket.Control(func(fd uintptr) {
		if got, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ); err == nil {
			n = got
		}
	})
	return n
}
