package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestSocketIsPrivate(t *testing.T) {
	dir := filepath.Join(shortDir(t), "new")
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, want := mode(t, dir), fs.ModeDir|0o700; got != want {
		t.Errorf("mode of the directory = %v, want %v", got, want)
	}
	if got, want := mode(t, filepath.Join(dir, socketFile)), fs.ModeSocket|0o600; got != want {
		t.Errorf("mode of the socket = %v, want %v", got, want)
	}
}

func TestSocketGoesWithItsListener(t *testing.T) {
	dir := shortDir(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("ReadDir after Close = %v, %v, want nothing", files, err)
	}
}

func TestListenWhereSomethingIs(t *testing.T) {
	for _, tt := range []struct {
		name string
		put  func(t *testing.T, path string)
		want string // substring of the error; empty if it is replaced
	}{
		{"socket that a killed node left", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, ""},
		{"running node", func(t *testing.T, path string) {
			l, err := Listen(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "a node is running"},
		{"file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is there and is not a socket"},
		{"directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is there and is not a socket"},
		{"link to a file", func(t *testing.T, path string) {
			if err := os.Symlink("elsewhere", path); err != nil {
				t.Fatal(err)
			}
		}, "is there and is not a socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, socketFile)
			tt.put(t, path)
			before, _ := os.Lstat(path)
			l, err := Listen(dir)
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Listen = %v", err)
				}
				l.Close()
				return
			}
			checkErr(t, "Listen", err, tt.want)
			if tt.name == "running node" && !errors.Is(err, ErrRunning) {
				t.Errorf("Listen = %v, want %v", err, ErrRunning)
			}
			if after, _ := os.Lstat(path); !os.SameFile(before, after) {
				t.Error("what was there was replaced")
			}
		})
	}
}
