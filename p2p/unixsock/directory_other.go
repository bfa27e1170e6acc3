//go:build !linux && !darwin

package unixsock

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
)

// What a directory of sockets needs, other systems lack: to know whose process
// is at the other end of a connection, and whose a file is. UserDirectory and
// OpenDirectory say so; nothing below is ever called after that.
const supported = false

const pollInterval = time.Second

type (
	handle struct{}
	fileID struct{}
	file   struct {
		id     fileID
		uid    uint32
		socket bool
		made   time.Time
	}
	target struct {
		file
		close func()
	}
)

var errUnsupported = fmt.Errorf("directory of sockets on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func fits(string) bool                               { return false }
func ownerOf(string) (uint32, error)                 { return 0, errUnsupported }
func openHandle(string, bool) (*handle, error)       { return nil, errUnsupported }
func watch(*handle) (watcher, error)                 { return nil, errUnsupported }
func newPoller(_ *handle, c <-chan struct{}) watcher { return newSleeper(c) }
func (*handle) close()                               {}
func (*handle) check([]uint32, bool) error           { return errUnsupported }
func (*handle) keep() error                          { return errUnsupported }
func (*handle) list(int) ([]string, error)           { return nil, errUnsupported }
func (*handle) stat(string) (file, error)            { return file{}, errUnsupported }
func (*handle) open(string) (*target, error)         { return nil, errUnsupported }
func (*handle) unlink(string) error                  { return errUnsupported }
func (*handle) removeStale(string, file) bool        { return false }
func (*handle) bind(string, bool) (*bound, error)    { return nil, errUnsupported }
func (*target) connect() (*net.UnixConn, error)      { return nil, errUnsupported }

// PeerUser returns who had the other end of a connection when it was made. On
// this system the error is [errors.ErrUnsupported].
func PeerUser(*net.UnixConn) (uid uint32, pid int32, err error) {
	return 0, 0, fmt.Errorf("ask for the user at the other end: %w", errUnsupported)
}
