package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// A process on this machine that has not answered by then is there, but stuck.
const probeTimeout = time.Second

// listenOn listens on a local address.
func listenOn(a Address, c Config) (net.Listener, error) {
	if err := c.checkSocket(a); err != nil {
		return nil, err
	}
	var ln net.Listener
	var err error
	if a.path != "" {
		ln, err = listenUnix(a.path, c)
	} else {
		network, address := a.endpoint()
		ln, err = a.listenConfig().Listen(context.Background(), network, address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", a, reason(err))
	}
	return ln, nil
}

// checkSocket refuses what only a unix socket has.
func (c Config) checkSocket(a Address) error {
	if a.path == "" && (c.Mode != 0 || c.Owner != "") {
		return fmt.Errorf("listen on %v: only a unix socket has a mode and an owner", a)
	}
	return nil
}

// listenConfig has no keep-alives on loopback, where this kernel knows of both ends.
func (a Address) listenConfig() *net.ListenConfig {
	if a.near() != (near{}) {
		return &net.ListenConfig{KeepAlive: -1}
	}
	return &net.ListenConfig{}
}

// reason strips what package net says around a cause: the address, which the
// caller names as the user wrote it, and the system call.
func reason(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	if call := (*os.SyscallError)(nil); errors.As(err, &call) {
		err = call.Err
	}
	return err
}

// A unixListener removes its file when closed, unless another has taken its
// place in the meantime; package net would remove that one.
type unixListener struct {
	*net.UnixListener
	path string
	file os.FileInfo
	once sync.Once
}

func listenUnix(path string, c Config) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: makePrivate}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	u := &unixListener{UnixListener: ln.(*net.UnixListener), path: path}
	u.SetUnlinkOnClose(false)
	if u.file, err = os.Lstat(path); err == nil {
		err = setMode(path, c)
	}
	if err != nil {
		return nil, errors.Join(reasonOfPath(err), u.Close())
	}
	return u, nil
}

func (u *unixListener) Close() error {
	u.once.Do(func() {
		if file, err := os.Lstat(u.path); err == nil && os.SameFile(file, u.file) {
			_ = os.Remove(u.path) // a file that stays is found to be stale next time
		}
	})
	return u.UnixListener.Close()
}

// removeStale makes room for a socket: it removes one that nobody listens on.
// Any other file it leaves, and returns an error.
func removeStale(path string) error {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return reasonOfPath(err)
	case file.Mode().Type() != os.ModeSocket:
		return errors.New("the file is there and is not a socket")
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		_ = conn.Close()
		return errors.New("another process listens on it")
	}
	if !isRefused(err) {
		return fmt.Errorf("the socket is there, and does not tell if it is in use: %w", reason(err))
	}
	return reasonOfPath(os.Remove(path))
}

// reasonOfPath strips the path, which the caller names.
func reasonOfPath(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
