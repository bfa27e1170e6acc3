//go:build linux || darwin

package unixsock

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestSocketIsMadeAgain(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(file string) error
		left int // files besides the new socket's
	}{
		{"removed", os.Remove, 0},
		{"renamed", func(file string) error { return os.Rename(file, file+"x") }, 1},
		{"moved away", func(file string) error { return os.Rename(file, filepath.Dir(file)+".moved") }, 0},
		{"replaced by a file", func(file string) error {
			return errors.Join(os.WriteFile(file+"x", nil, 0o600), os.Rename(file+"x", file))
		}, 1},
		{"replaced by a link", func(file string) error {
			return errors.Join(os.Symlink("x", file+"x"), os.Rename(file+"x", file))
		}, 1},
		{"replaced by a directory", func(file string) error {
			return errors.Join(os.Remove(file), os.Mkdir(file, 0o700))
		}, 1},
		{"replaced by a dead socket", func(file string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: file[:len(file)-1], Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return errors.Join(os.Rename(file[:len(file)-1], file), l.Close())
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			path := shortDir(t)
			t.Cleanup(func() { os.Remove(path + ".moved") })
			a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
			defer a.Close()
			defer b.Close()
			s := listenInDirectory(t, a, 1)
			waitForPeer(t, b, 1)
			first := socketFiles(t, path)[0]
			if err := tt.do(filepath.Join(path, first)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is made again", func() bool { return s.Remade() == 1 })
			if err := s.Err(); err != nil {
				t.Errorf("Err() = %v", err)
			}
			waitForSocket(t, b, s)
			checkReached(t, b, s)
			a.Close()
			checkFiles(t, path, tt.left)
		})
	}
}

func TestSocketThatCannotBeMadeAgain(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := shortDir(t)
	d := openTestDirectory(t, path, "one", Options{})
	defer d.Close()
	s := listenInDirectory(t, d, 1)
	makeNamed(t, d, 2, true)
	waitForPeer(t, d, 2) // and so there are no more events of s
	closed, err := openHandle(path, false)
	if err != nil {
		t.Fatal(err)
	}
	closed.close()
	s.mend(closed)
	checkDirectoryError(t, "Err()", s.Err(), os.ErrClosed, path)
	makeNamed(t, d, 3, true) // any event
	eventually(t, "it is well again", func() bool { return s.Err() == nil })
}

func TestDirectoryIsLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(path string) error
	}{
		{"removed", func(path string) error {
			err := os.RemoveAll(path)
			for errors.Is(err, syscall.ENOTEMPTY) { // sockets are made again meanwhile
				err = os.RemoveAll(path)
			}
			return err
		}},
		{"moved", func(path string) error { return os.Rename(path, path+".moved") }},
		{"moved, and another in its place", func(path string) error {
			err := errors.Join(os.Rename(path, path+".moved"), os.Mkdir(path, 0o700))
			if errors.Is(err, os.ErrExist) { // who lost the directory was faster
				return nil
			}
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			path := filepath.Join(shortDir(t), "d")
			a, b, idle := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
			defer a.Close()
			defer b.Close()
			defer idle.Close()
			sa := listenInDirectory(t, a, 1)
			sb := listenInDirectory(t, b, 2)
			waitForPeer(t, a, 2)
			waitForPeer(t, b, 1)
			if err := tt.lose(path); err != nil {
				t.Fatal(err)
			}
			eventually(t, "sockets are made again", func() bool { return sa.Remade() > 0 && sb.Remade() > 0 })
			eventually(t, "they are not in what was being removed", func() bool {
				there, err := filepath.Glob(filepath.Join(path, "[^.]*"))
				return err == nil && len(there) == 2
			})
			for _, d := range []*Directory{a, b, idle} {
				eventually(t, "the directory is well", func() bool { return d.Err() == nil })
			}
			waitForSocket(t, a, sb)
			waitForSocket(t, b, sa)
			waitForSocket(t, idle, sa)
			checkReached(t, a, sb)
			checkReached(t, b, sa)
			checkReached(t, idle, sa)
			checkFiles(t, path, 2)
			if moved, err := os.ReadDir(path + ".moved"); err == nil && len(moved) > 1 {
				t.Errorf("the old directory holds %v, want no sockets", moved)
			}
		})
	}
}

// Nothing is in it, so its removal is no file's.
func TestEmptyDirectoryIsRemoved(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(shortDir(t), "d")
	idle := openTestDirectory(t, path, "one", Options{})
	defer idle.Close()
	err := os.RemoveAll(path)
	for errors.Is(err, syscall.ENOTEMPTY) {
		err = os.RemoveAll(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is made again", func() bool { _, err := os.Lstat(filepath.Join(path, keepName)); return err == nil })
	other := openTestDirectory(t, path, "one", Options{})
	defer other.Close()
	listenInDirectory(t, other, 1)
	waitForPeer(t, idle, 1)
}

func TestDirectoryBecomesUnsafe(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(shortDir(t), "d")
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	defer a.Close()
	defer b.Close()
	s := listenInDirectory(t, a, 1)
	waitForPeer(t, b, 1)
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	waitInDirectory(t, b, "peer is gone", func() bool { return !b.Has(s.id) })
	checkDirectoryError(t, "Err()", b.Err(), ErrUnsafeDirectory, path)
	eventually(t, "the socket is gone", func() bool { return errors.Is(s.Err(), ErrUnsafeDirectory) })
	checkFiles(t, path, 0)
	_, err := b.Listen(numberedPeer(t, 2))
	checkDirectoryError(t, "Listen", err, ErrUnsafeDirectory)
	_, err = b.Dial(directoryContext(t), s.id)
	checkDirectoryError(t, "Dial", err, ErrNotHere)
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	waitForPeer(t, b, 1)
	checkReached(t, b, s)
}

// A watcher with more events than the system keeps says only that there were.
func TestDirectoryLooksAnew(t *testing.T) {
	path := shortDir(t)
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	s := listenInDirectory(t, a, 1)
	waitForPeer(t, b, 1)
	b.mu.Lock()
	b.entries = newEntries()
	b.entries.put(numberedPeer(t, 2), entry{name: "gone"})
	b.mu.Unlock()
	b.follow(change{what: everyFile})
	if got := b.Peers(); len(got) != 1 || got[0] != s.id {
		t.Errorf("Peers() = %v, want %v", got, s.id)
	}
}

func TestDirectoryWithoutFileDescriptors(t *testing.T) {
	path := shortDir(t)
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	s := listenInDirectory(t, a, 1)
	waitForPeer(t, b, 1)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	none := old
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, listenErr := b.Listen(numberedPeer(t, 2))
	_, dialErr := b.Dial(directoryContext(t), s.id)
	c, openErr := OpenDirectory(path, []byte("one"), Options{})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if openErr == nil {
		c.Close()
	}
	checkDirectoryError(t, "Listen", listenErr, syscall.EMFILE, path)
	checkDirectoryError(t, "OpenDirectory", openErr, syscall.EMFILE, path)
	checkDirectoryError(t, "Dial", dialErr, syscall.EMFILE, path)
	if errors.Is(dialErr, ErrNotHere) {
		t.Errorf("Dial = %v, which says that the peer is not there", dialErr)
	}
	listenInDirectory(t, b, 2)
	checkReached(t, b, s)
}
