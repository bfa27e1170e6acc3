package kernel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Moved returns how many bytes were sent on a TCP connection, and how many have
// come. Of another socket it knows nothing. After a reset it may be one byte short.
func Moved(socket syscall.RawConn) (sent, received uint64) {
	_ = socket.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
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
