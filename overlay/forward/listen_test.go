//go:build unix

package forward

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func listenAt(t *testing.T, path string) net.Listener {
	t.Helper()
	ln, err := listenOn(Address{path: path}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// makeStale leaves a socket on which nobody listens.
func makeStale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUnixSocketIsPrivateAndRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listenAt(t, path)
	file, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := file.Mode(), os.ModeSocket|0o600; got != want {
		t.Errorf("mode of the socket = %v, want %v", got, want)
	}
	if err := ln.Close(); err != nil {
		t.Errorf("Close() = %v, want <nil>", err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("Lstat(socket) after Close = %v, want that it does not exist", err)
	}
}

func TestUnixSocketInTheWay(t *testing.T) {
	for _, tt := range []struct {
		name string
		put  func(t *testing.T, path string)
		err  string // substring; empty means that it is replaced
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"stale socket", makeStale, ""},
		{"socket in use", func(t *testing.T, path string) { listenAt(t, path) }, "another process listens on it"},
		{"socket of another kind in use", func(t *testing.T, path string) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}, "does not tell if it is in use"},
		{"file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
		{"folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
		{"link to a stale socket", func(t *testing.T, path string) {
			makeStale(t, path+"2")
			if err := os.Symlink(path+"2", path); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			tt.put(t, path)
			before, _ := os.Lstat(path)
			ln, err := listenOn(Address{path: path}, Config{})
			checkErr(t, err, tt.err)
			if err == nil {
				ln.Close()
				return
			}
			checkErr(t, err, "listen on unix:"+path+": ")
			if after, _ := os.Lstat(path); !os.SameFile(before, after) {
				t.Errorf("the file in the way was replaced")
			}
		})
	}
}

func TestUnixSocketInMissingFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "s")
	_, err := listenOn(Address{path: path}, Config{})
	checkErr(t, err, "listen on unix:"+path+": no such file or directory")
}

// Close must not remove what another process has put in the place of its socket.
func TestCloseLeavesSuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := listenAt(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	listenAt(t, path)
	first.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the socket of the second listener is gone: %v", err)
	}
	conn.Close()
}

func TestUnixSocketOfAnother(t *testing.T) {
	group := strconv.Itoa(os.Getgid())
	for _, tt := range []struct {
		name string
		c    Config
		mode os.FileMode
		err  string // substring; empty means success
	}{
		{"nothing said", Config{}, 0o600, ""},
		{"a mode", Config{Mode: 0o660}, 0o660, ""},
		{"a group that one is in", Config{Owner: ":" + group, Mode: 0o620}, 0o620, ""},
		{"oneself", Config{Owner: strconv.Itoa(os.Getuid()) + ":" + group}, 0o600, ""},
		{"a user that is not there", Config{Owner: "nobody-of-that-name"}, 0, `owner "nobody-of-that-name": no such user: nobody-of-that-name`},
		{"a group that is not there", Config{Owner: ":nobody-of-that-name"}, 0, "no such group: nobody-of-that-name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			ln, err := listenOn(Address{path: path}, tt.c)
			checkErr(t, err, tt.err)
			file, statErr := os.Lstat(path)
			if err != nil {
				if !os.IsNotExist(statErr) {
					t.Errorf("Lstat after an error = %v, want that there is no socket", statErr)
				}
				return
			}
			defer ln.Close()
			if got := file.Mode().Perm(); got != tt.mode {
				t.Errorf("mode = %v, want %v", got, tt.mode)
			}
		})
	}
}

func TestModeIsOfUnixSockets(t *testing.T) {
	for _, listen := range []string{"0", "udp:0"} {
		for _, c := range []Config{{Mode: 0o660}, {Owner: "bob"}} {
			_, err := NewForward(dialFunc(refuse), "alice/web", mustParse(t, listen), c)
			checkErr(t, err, "only a unix socket has a mode and an owner")
		}
	}
	_, err := NewForward(dialFunc(refuse), "alice/web", Address{path: t.TempDir() + "/s"}, Config{Mode: os.ModeSetuid | 0o600})
	checkErr(t, err, "Config.Mode is more than permissions")
}
