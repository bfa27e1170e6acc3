package unixsock

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvmsg is unix.Recvmsg without the address of who sent, which that makes on the
// heap. The socket does not block, and neither p nor oob is empty.
func recvmsg(fd int, p, oob []byte) (n, oobn, flags int, err error) {
	vec := unix.Iovec{Base: &p[0]}
	vec.SetLen(len(p))
	msg := unix.Msghdr{Iov: &vec, Control: &oob[0]}
	msg.SetIovlen(1)
	msg.SetControllen(len(oob))
	got, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_CMSG_CLOEXEC)
	if errno != 0 {
		return -1, 0, 0, errno
	}
	return int(got), int(msg.Controllen), int(msg.Flags), nil
}

func newPair() ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func closeOnExec(int) {} // recvmsg has said so
