//go:build unix

package p2p

import (
	"os"

	"golang.org/x/sys/unix"
)

// setMaxSegment bounds the segments of a TCP connection that is about to be made.
func setMaxSegment(fd uintptr, n int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, n))
}
