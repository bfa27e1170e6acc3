package kernel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Handle is a socket that this process has and neither reads nor writes: it is
// for another to use. It costs none of what package net does for its own.
type Handle struct {
	unix bool // of a unix socket

	mu sync.Mutex // guards fd, which is -1 once it is closed
	fd int
}

// Connect connects to a socket on this machine: a unix socket by its path, or a TCP
// port of a loopback address. It does not wait: what is not connected yet has to be
// made of use with Conn. The error is ErrNotNow, and nothing has been connected, if
// the queue of a unix socket is full.
func Connect(path string, addr netip.AddrPort) (h *Handle, connected bool, err error) {
	var to unix.Sockaddr
	domain := unix.AF_UNIX
	switch {
	case path != "":
		to = &unix.SockaddrUnix{Name: path}
	case addr.Addr().Is4():
		domain, to = unix.AF_INET, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	default:
		domain, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, false, os.NewSyscallError("socket", err)
	}
	if domain != unix.AF_UNIX {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // as package net has it
	}
	err = unix.Connect(fd, to)
	if err == unix.EINPROGRESS || err == unix.EINTR {
		// The kernel has most likely shaken hands meanwhile, and then says so.
		err = unix.Connect(fd, to)
	}
	switch err {
	case nil, unix.EISCONN:
		return &Handle{unix: path != "", fd: fd}, true, nil
	case unix.EALREADY, unix.EINPROGRESS, unix.EINTR:
		return &Handle{unix: path != "", fd: fd}, false, nil
	case unix.EAGAIN:
		err = ErrNotNow
	default:
		err = os.NewSyscallError("connect", err)
	}
	_ = unix.Close(fd)
	return nil, false, err
}

// isConnected tells what has become of a connect(2), or false as long as nothing has.
func isConnected(fd int) (bool, error) {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := retry(func() (int, error) { return unix.Poll(ready, 0) })
	if err != nil {
		return false, os.NewSyscallError("poll", err)
	}
	if n == 0 {
		return false, nil
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = syscall.Errno(errno)
	}
	return err == nil, os.NewSyscallError("connect", err)
}

// Conn waits until the socket is connected and makes a connection of package net of
// it. The Handle is closed.
func (h *Handle) Conn(ctx context.Context) (net.Conn, error) {
	h.mu.Lock()
	fd := h.fd
	h.fd = -1
	h.mu.Unlock()
	if fd < 0 {
		return nil, os.ErrClosed
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var connected bool
	var failed error
	if err := raw.Write(func(fd uintptr) bool {
		connected, failed = isConnected(int(fd))
		return connected || failed != nil
	}); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return net.FileConn(f)
}

// IsUnix tells whether it is a unix socket.
func (h *Handle) IsUnix() bool { return h.unix }

// Control calls f with the descriptor.
func (h *Handle) Control(f func(fd uintptr)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return os.ErrClosed
	}
	f(uintptr(h.fd))
	return nil
}

// Read and Write are for who uses the socket.
func (h *Handle) Read(func(fd uintptr) bool) error { return errors.ErrUnsupported }

// Write is as Read.
func (h *Handle) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }

// Close lets go of the socket.
func (h *Handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil
	}
	err := unix.Close(h.fd)
	h.fd = -1
	return os.NewSyscallError("close", err)
}
