//go:build unix

package control

import "syscall"

// makePrivate sets the mode before there is a file. Linux gives the file the mode
// of the socket; elsewhere there is a moment, and the directory's mode.
func makePrivate(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
}
