package forward

import (
	"errors"
	"os"
	"syscall"
)

// Here the folder says who may open what is in it.
func makePrivate(_, _ string, _ syscall.RawConn) error { return nil }

// keepPrivate returns what tells the file from others.
func keepPrivate(path string) (os.FileInfo, error) { return os.Lstat(path) }

// wsaeConnRefused has no name in package syscall.
const wsaeConnRefused = syscall.Errno(10061)

func isRefused(err error) bool { return errors.Is(err, wsaeConnRefused) }
