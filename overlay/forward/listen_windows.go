package forward

import (
	"errors"
	"syscall"
)

// Here the folder says who may open what is in it.
func makePrivate(_, _ string, _ syscall.RawConn) error { return nil }

func setMode(path string, c Config) error {
	if c.Mode != 0 || c.Owner != "" {
		return errors.New("on this system the folder says who may open a socket, and not a mode or an owner")
	}
	return nil
}

// wsaeConnRefused has no name in package syscall.
const wsaeConnRefused = syscall.Errno(10061)

func isRefused(err error) bool { return errors.Is(err, wsaeConnRefused) }
