package kernel

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Abort breaks a TCP connection off at once, whoever else has a descriptor of
// it: its other end sees a reset. Another socket it leaves as it is. See
// connect(2) on AF_UNSPEC.
func Abort(socket syscall.RawConn) {
	_ = socket.Control(func(fd uintptr) {
		if domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain == unix.AF_UNIX {
			_ = unix.Shutdown(int(fd), unix.SHUT_RDWR)
			return
		}
		var none unix.RawSockaddr // of family AF_UNSPEC
		_, _, _ = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&none)), unix.SizeofSockaddrInet4)
	})
}
