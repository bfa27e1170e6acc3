package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asNobody runs f as a user whom a directory's mode can keep out, which it
// cannot root. The thread ends with the goroutine, for it stays locked.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			const nobody = 65534
			_ = syscall.Setfsuid(nobody) // and if it failed, the test does
		}
		f()
	}()
	<-done
}

func TestStoreWithoutPermission(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string) // a directory of mode 0755
	}{
		{"directory cannot be written", func(*testing.T, string) {}},
		{"state file cannot be read", func(t *testing.T, dir string) { openTestStore(t, dir).Close() }},
		{"state file cannot be written", func(t *testing.T, dir string) {
			openTestStore(t, dir).Close()
			if err := os.Chmod(filepath.Join(dir, stateFile), 0o444); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			tt.make(t, dir)
			if err := os.Chmod(dir, 0o555); err != nil { // as 0755 is to others
				t.Fatal(err)
			}
			asNobody(func() {
				_, err := openStore(dir)
				if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrStateCorrupt) || !strings.Contains(err.Error(), dir) {
					t.Errorf("openStore = %v, want %v for %s", err, fs.ErrPermission, dir)
				}
			})
		})
	}
}

// Opening a pipe would wait for somebody to write.
func TestStoreFileIsAPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, stateFile), 0o600); err != nil {
		t.Fatal(err)
	}
	checkNoFile(t, dir)
}
