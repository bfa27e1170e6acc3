//go:build !linux

package kernel

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// Socket would return the socket that c is; here none is made use of.
func Socket(any) syscall.RawConn { return nil }

// Waiting knows nothing here.
func Waiting(syscall.RawConn) int { return 0 }

// FilesShort knows nothing here.
func FilesShort(syscall.RawConn, int) bool { return false }

// Splice can't be done here.
func Splice(_, _ syscall.RawConn, _ *atomic.Uint64) error { return ErrNoSplice }

// A Handle is a socket for another process to use; here there is none.
type Handle struct{ syscall.RawConn }

// Connect can't connect here.
func Connect(string, netip.AddrPort) (h *Handle, connected bool, err error) {
	return nil, false, ErrNotNow
}

// Conn is never called: there is no Handle.
func (*Handle) Conn(context.Context) (net.Conn, error) { return nil, ErrNotNow }

// Close does nothing.
func (*Handle) Close() error { return nil }

// Moved knows nothing here.
func Moved(syscall.RawConn) (sent, received uint64) { return 0, 0 }

// Gone would tell whether a connection is no more; here nothing tells.
func Gone(syscall.RawConn) bool { return false }

// IsUnix is never called: there is no Handle.
func (*Handle) IsUnix() bool { return false }

// Abort leaves the connection to end when its last descriptor is closed.
func Abort(syscall.RawConn) {}
