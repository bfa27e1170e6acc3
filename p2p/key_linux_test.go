package p2p

import (
	"os"
	"path/filepath"
	"runtime"
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

func TestCreateKeyInAReadOnlyDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key")
	asNobody(func() {
		_, err := CreateKey(path)
		checkIs(t, "CreateKey", err, os.ErrPermission)
		checkNames(t, "CreateKey", err, path)
	})
}

func TestLoadKeyOfAnotherUser(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if _, err := CreateKey(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	asNobody(func() {
		_, err := LoadKey(path)
		checkIs(t, "LoadKey", err, os.ErrPermission)
		checkNames(t, "LoadKey", err, path)
	})
}

// Reading a pipe would wait for somebody to write.
func TestLoadKeyOfAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadKey(path)
	checkIs(t, "LoadKey", err, ErrKeyCorrupt)
}
