package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// nobody is a user that owns nothing.
const nobody = 65534

// asNobody runs f on a thread that has another user's rights, and is given up
// after.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	done := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread() // and no UnlockOSThread: the thread ends with this
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody)
		if errno == 0 {
			f()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Fatal(errno)
	}
}

// Neither the socket nor the directory lets other users in.
func TestOtherUsersAreKeptOut(t *testing.T) {
	open := shortDir(t)
	if err := os.Chmod(open, 0o755); err != nil { // as one that a user has made
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, dir string }{
		{"by the directory", filepath.Join(open, "own")},
		{"by the socket", open},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Listen(tt.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var dialErr, openErr error
			asNobody(t, func() {
				var c net.Conn
				if c, dialErr = net.Dial("unix", l.Addr().String()); dialErr == nil {
					c.Close()
				}
				_, openErr = Open(tt.dir)
			})
			if !errors.Is(dialErr, os.ErrPermission) {
				t.Errorf("Dial = %v, want %v", dialErr, os.ErrPermission)
			}
			if !errors.Is(openErr, os.ErrPermission) || errors.Is(openErr, ErrNotRunning) {
				t.Errorf("Open = %v, want %v", openErr, os.ErrPermission)
			}
		})
	}
}
