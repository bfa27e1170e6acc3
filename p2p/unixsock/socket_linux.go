package unixsock

import (
	"golang.org/x/sys/unix"
)

const recvFlags = unix.MSG_CMSG_CLOEXEC

func newPair() ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func closeOnExec(int) {} // recvFlags say so
