package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// socketFile is the node's socket, in its directory.
const socketFile = "control.sock"

// socketMode lets the node's owner connect, and nobody else.
const socketMode = 0o600

// maxSocketPath is what every system takes: macOS the least, with 104 bytes
// and a final zero.
const maxSocketPath = 103

var (
	// ErrNotRunning says that no node runs on a directory.
	ErrNotRunning = errors.New("no node is running")

	// ErrRunning says that one does.
	ErrRunning = errors.New("a node is running")
)

// SocketPath returns where the node of a directory is reached.
func SocketPath(dir string) (string, error) {
	path := filepath.Join(dir, socketFile)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("socket path %s has %d bytes; systems take %d: choose a shorter directory", path, len(path), maxSocketPath)
	}
	return path, nil
}

// Listen makes the socket of a directory, for its owner alone. A socket that a
// killed node left is replaced. The error is [ErrRunning] if one answers;
// another kind of file is left alone, and an error too.
func Listen(dir string) (net.Listener, error) {
	path, err := SocketPath(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: makePrivate}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil { // where makePrivate does not do it
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is not a socket", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("directory %s: %w", filepath.Dir(path), ErrRunning)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
