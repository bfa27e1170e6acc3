//go:build unix

package forward

import (
	"errors"
	"os"
	"syscall"
)

// Only the owner may connect to a unix socket.
const socketMode = 0o600

// makePrivate sets the mode before there is a file, so that there is no moment
// at which others may connect. Linux gives the file the mode of the socket; where
// a socket has none, keepPrivate follows.
func makePrivate(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
}

// keepPrivate sets the mode of the file and returns what tells it from others.
func keepPrivate(path string) (os.FileInfo, error) {
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
