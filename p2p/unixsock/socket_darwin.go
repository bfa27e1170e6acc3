package unixsock

import "golang.org/x/sys/unix"

func recvmsg(fd int, p, oob []byte) (n, oobn, flags int, err error) {
	n, oobn, flags, _, err = unix.Recvmsg(fd, p, oob, 0)
	return n, oobn, flags, err
}

// newPair is called under the lock that keeps others from forking meanwhile.
func newPair() ([2]int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fds, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			closeFD(fds[0])
			closeFD(fds[1])
			return fds, err
		}
	}
	return fds, nil
}

func closeOnExec(fd int) { unix.CloseOnExec(fd) }
