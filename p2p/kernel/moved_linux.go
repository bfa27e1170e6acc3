package kernel

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Moved returns how many bytes were sent on a TCP connection, and how many have
// come. Of another socket it knows nothing. After a reset it may be one byte short.
func Moved(socket syscall.RawConn) (sent, received uint64) {
	_ = socket.Control(func(fd uintptr) {
		info, errno := tcpInfo(fd)
		if errno != 0 {
			return
		}
		sent, received = info.Bytes_sent-info.Bytes_retrans, info.Bytes_received
		switch info.State {
		case unix.BPF_TCP_CLOSE_WAIT, unix.BPF_TCP_LAST_ACK, unix.BPF_TCP_CLOSING, unix.BPF_TCP_TIME_WAIT, unix.BPF_TCP_CLOSE:
			received -= min(received, 1) // the FIN
		}
	})
	return sent, received
}

// Gone tells whether a TCP connection is no more, in either direction, or the socket
// is closed. As long as it is open, another socket is never gone.
func Gone(socket syscall.RawConn) (gone bool) {
	err := socket.Control(func(fd uintptr) {
		info, errno := tcpInfo(fd) // fails for a unix socket
		gone = errno == 0 && info.State == unix.BPF_TCP_CLOSE
	})
	return gone || err != nil
}

// tcpInfo is asked for with each connection, and unix.GetsockoptTCPInfo allocates.
func tcpInfo(fd uintptr) (info unix.TCPInfo, errno syscall.Errno) {
	size := uint32(unsafe.Sizeof(info))
	_, _, errno = unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info, errno
}
