//go:build linux || darwin

package unixsock

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"
)

// directoryPatience bounds what a test waits for. It passes only when a test fails.
const directoryPatience = 30 * time.Second

func directoryContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), directoryPatience)
	t.Cleanup(cancel)
	return ctx
}

// shortDir returns a new directory with a path that is short enough for
// sockets everywhere.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "us")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openTestDirectory(t testing.TB, path, secret string, o Options) *Directory {
	t.Helper()
	d, err := OpenDirectory(path, []byte(secret), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func listenInDirectory(t testing.TB, d *Directory, n byte) *Socket {
	t.Helper()
	s, err := d.Listen(numberedPeer(t, n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// waitInDirectory waits until ok, looking at each change.
func waitInDirectory(t testing.TB, d *Directory, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(directoryPatience)
	for {
		changed := d.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s: not after %v; the directory says %v", what, directoryPatience, d.Err())
		}
	}
}

// eventually waits for what makes no event that a test can wait for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(directoryPatience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, directoryPatience)
		}
	}
}

func waitForPeer(t testing.TB, d *Directory, n byte) {
	t.Helper()
	id := numberedPeer(t, n)
	waitInDirectory(t, d, "peer is there", func() bool { return d.Has(id) })
}

// waitForSocket waits until d knows the file that s has now.
func waitForSocket(t testing.TB, d *Directory, s *Socket) {
	t.Helper()
	waitInDirectory(t, d, "socket is there", func() bool {
		s.mu.Lock()
		name := s.bound.name
		s.mu.Unlock()
		d.mu.Lock()
		defer d.mu.Unlock()
		_, known := d.entries.owner[name]
		return known
	})
}

// checkReached dials a peer and sees that the socket gets the connection.
func checkReached(t testing.TB, d *Directory, s *Socket) {
	t.Helper()
	c, err := d.Dial(directoryContext(t), s.id)
	if err != nil {
		t.Errorf("Dial = %v", err)
		return
	}
	defer c.Close()
	if _, err := c.Write([]byte{42}); err != nil {
		t.Errorf("Write = %v", err)
	}
	for { // connections that only saw whether it lives come too
		a, err := s.Accept()
		if err != nil {
			t.Errorf("Accept = %v", err)
			return
		}
		var b [1]byte
		n, _ := a.Read(b[:])
		a.Close()
		if n == 1 && b[0] == 42 {
			return
		}
	}
}

func checkDirectoryError(t testing.TB, call string, err, want error, says ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", call, err, want)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s = %q, which does not say %q", call, err, s)
		}
	}
}

// socketFiles returns the names of what is in a directory but for the file by
// which its removal is noticed.
func socketFiles(t testing.TB, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if e.Name() != keepName {
			list = append(list, e.Name())
		}
	}
	return list
}

func checkFiles(t testing.TB, path string, want int) {
	t.Helper()
	if got := socketFiles(t, path); len(got) != want {
		t.Errorf("the directory holds %q, want %d files", got, want)
	}
}

func TestDirectoriesOfOneMeshFindEachOther(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(shortDir(t), "d")
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	defer a.Close()
	defer b.Close()
	sa := listenInDirectory(t, a, 1)
	waitForPeer(t, b, 1)
	sb := listenInDirectory(t, b, 2)
	waitForPeer(t, a, 2)
	late := openTestDirectory(t, path, "one", Options{})
	defer late.Close()

	want := []peer.ID{numberedPeer(t, 1), numberedPeer(t, 2)}
	slices.Sort(want)
	if got := late.Peers(); !slices.Equal(got, want) {
		t.Errorf("Peers() = %v, want %v", got, want)
	}
	if got := a.Peers(); !slices.Equal(got, []peer.ID{numberedPeer(t, 2)}) {
		t.Errorf("Peers() = %v, want the other alone", got)
	}
	if a.Has(numberedPeer(t, 1)) {
		t.Error("Has() = true for the socket of its own")
	}
	checkReached(t, a, sb)
	checkReached(t, b, sa)
	checkReached(t, late, sa)

	if err := sa.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	for _, d := range []*Directory{b, late} {
		waitInDirectory(t, d, "peer is gone", func() bool { return !d.Has(numberedPeer(t, 1)) })
		if err := d.Err(); err != nil {
			t.Errorf("Err() = %v", err)
		}
	}
	_, err := b.Dial(directoryContext(t), numberedPeer(t, 1))
	checkDirectoryError(t, "Dial", err, ErrNotHere, path)
	checkFiles(t, path, 1)
}

func TestDirectoriesOfTwoMeshesDoNot(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(shortDir(t), "d")
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "two", Options{})
	defer a.Close()
	defer b.Close()
	listenInDirectory(t, a, 1)
	// b hears of its own mesh's socket only after it heard of that one.
	c := openTestDirectory(t, path, "two", Options{})
	defer c.Close()
	listenInDirectory(t, c, 2)
	waitForPeer(t, b, 2)
	if got := b.Peers(); len(got) != 1 {
		t.Errorf("Peers() = %v, want one", got)
	}
	_, err := b.Dial(directoryContext(t), numberedPeer(t, 1))
	checkDirectoryError(t, "Dial", err, ErrNotHere)
}

func TestDirectoryIsMadeForTheUserAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), "d")
	d := openTestDirectory(t, path, "one", Options{})
	listenInDirectory(t, d, 1)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory = %v, %v, want 0700", info.Mode(), err)
	}
	for _, name := range socketFiles(t, path) {
		info, err := os.Lstat(filepath.Join(path, name))
		if err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("mode of the socket = %v, %v, want 0600", info.Mode(), err)
		}
	}
	if got, want := d.Users(), []uint32{uint32(os.Geteuid())}; !slices.Equal(got, want) {
		t.Errorf("Users() = %v, want %v", got, want)
	}
}

func TestOpenDirectoryRefuses(t *testing.T) {
	uid := os.Geteuid()
	mkdir := func(mode fs.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		private bool // it is what UserDirectory returns
		users   []uint32
		want    error // nil if it is to be opened
		says    string
	}{
		{"not there", nil, false, nil, nil, ""},
		{"not there and to be shared", nil, false, []uint32{uint32(uid) + 1}, fs.ErrNotExist, ""},
		{"for the user", mkdir(0o700), true, nil, nil, ""},
		{"seen by others", mkdir(0o755), false, nil, nil, ""},
		{"the user's own, seen by others", mkdir(0o755), true, nil, ErrUnsafeDirectory, "chmod 0700"},
		{"the user's own, shared", mkdir(fs.ModeSticky | 0o777), true, nil, ErrUnsafeDirectory, "chmod 0700"},
		{"for everybody to write", mkdir(0o777), false, nil, ErrUnsafeDirectory, "chmod +t"},
		{"for a group to write", mkdir(0o770), false, nil, ErrUnsafeDirectory, "chmod +t"},
		{"for everybody to write, but sticky", mkdir(fs.ModeSticky | 0o777), false, []uint32{uint32(uid) + 1}, nil, ""},
		{"a link", func(t *testing.T, path string) {
			if err := errors.Join(os.Mkdir(path+"2", 0o700), os.Symlink(path+"2", path)); err != nil {
				t.Fatal(err)
			}
		}, false, nil, ErrUnsafeDirectory, "symbolic link"},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false, nil, syscall.ENOTDIR, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			base := shortDir(t)
			path := filepath.Join(base, "p2pnode")
			if tt.private {
				t.Setenv("XDG_RUNTIME_DIR", base)
			}
			if tt.prepare != nil {
				tt.prepare(t, path)
			}
			d, err := OpenDirectory(path, []byte("one"), Options{Users: tt.users})
			if err == nil {
				d.Close()
			}
			checkDirectoryError(t, "OpenDirectory", err, tt.want)
			if tt.want != nil {
				checkDirectoryError(t, "OpenDirectory", err, tt.want, path, tt.says)
			}
		})
	}
	if _, err := OpenDirectory(filepath.Join(shortDir(t), "not", "there"), []byte("one"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenDirectory below one that is not there = %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := OpenDirectory(shortDir(t), nil, Options{}); err == nil {
		t.Error("OpenDirectory without a secret = nil, want an error")
	}
}

func TestUserDirectory(t *testing.T) {
	run := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", run)
	if got, err := UserDirectory(); err != nil || got != filepath.Join(run, "p2pnode") {
		t.Errorf("UserDirectory() = %q, %v, want it in %s", got, err, run)
	}
	t.Setenv("TMPDIR", run)
	for _, other := range []string{"", "run"} {
		t.Setenv("XDG_RUNTIME_DIR", other)
		got, err := UserDirectory()
		if err != nil || !filepath.IsAbs(got) || !strings.HasPrefix(filepath.Base(got), "p2pnode") {
			t.Errorf("UserDirectory() with XDG_RUNTIME_DIR=%q = %q, %v", other, got, err)
		}
		if dir := filepath.Dir(got); dir != run && !strings.HasPrefix(dir, "/run/user/") {
			t.Errorf("UserDirectory() with XDG_RUNTIME_DIR=%q = %q, want it in %s", other, got, run)
		}
	}
}

func TestDirectoryListensOnce(t *testing.T) {
	path := shortDir(t)
	d := openTestDirectory(t, path, "one", Options{})
	s := listenInDirectory(t, d, 1)
	if _, err := d.Listen(numberedPeer(t, 2)); err == nil {
		t.Error("Listen a second time = nil, want an error")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v, want %v", err, net.ErrClosed)
	}
	listenInDirectory(t, d, 2)
	checkFiles(t, path, 1)
	if _, err := d.Listen("no peer"); err == nil {
		t.Error("Listen for what is no peer = nil, want an error")
	}
}

func TestDirectoryAfterClose(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := shortDir(t)
	d, other := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	defer other.Close()
	s := listenInDirectory(t, d, 1)
	listenInDirectory(t, other, 2)
	waitForPeer(t, d, 2)
	accepted := make(chan error)
	go func() {
		_, err := s.Accept()
		accepted <- err
	}()
	go d.Close()
	if err := d.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	checkDirectoryError(t, "Accept", <-accepted, net.ErrClosed)
	_, err := d.Listen(numberedPeer(t, 1))
	checkDirectoryError(t, "Listen", err, net.ErrClosed)
	_, err = d.Dial(directoryContext(t), numberedPeer(t, 2))
	checkDirectoryError(t, "Dial", err, net.ErrClosed)
	if err := d.Close(); err != nil {
		t.Errorf("Close() again = %v", err)
	}
	waitInDirectory(t, other, "it is gone", func() bool { return len(other.Peers()) == 0 })
	checkFiles(t, path, 1)
}

func TestDirectoryWithALongPath(t *testing.T) {
	path := filepath.Join(shortDir(t), strings.Repeat("long", 50))
	if !fits(path) {
		_, err := openTestDirectory(t, path, "one", Options{}).Listen(numberedPeer(t, 1))
		if err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("Listen = %v, want that the path is too long", err)
		}
		return
	}
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	s := listenInDirectory(t, a, 1)
	waitForPeer(t, b, 1)
	checkReached(t, b, s)
}

func TestPathAddress(t *testing.T) {
	name := temporaryName()
	longest := "/" + strings.Repeat("d", sunPath-nameLen-2)
	if got, err := pathAddress(longest, name); err != nil || len(got) != sunPath {
		t.Errorf("pathAddress of %d bytes = %q, %v", len(longest), got, err)
	}
	_, err := pathAddress(longest+"d", name)
	if err == nil || !strings.Contains(err.Error(), "too long") || !strings.Contains(err.Error(), "at most") {
		t.Errorf("pathAddress of %d bytes = %v, want how long it may be", len(longest)+1, err)
	}
}

// Thousands of names that are nobody's don't hide the peers, and one too many is told.
func TestCrowdedDirectory(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := shortDir(t)
	for range maxNames {
		if err := os.Symlink("x", filepath.Join(path, temporaryName())); err != nil {
			t.Fatal(err)
		}
	}
	d := openTestDirectory(t, path, "one", Options{})
	defer d.Close()
	checkDirectoryError(t, "Err()", d.Err(), ErrCrowded, path)
	other := openTestDirectory(t, path, "one", Options{})
	defer other.Close()
	listenInDirectory(t, other, 1)
	waitForPeer(t, d, 1) // by event
	for _, name := range socketFiles(t, path)[:10] {
		if isTemporaryName(name) {
			os.Remove(filepath.Join(path, name))
		}
	}
	eventually(t, "there is room again", func() bool { return d.Err() == nil })
}

func TestDialWaitsForALivingSocket(t *testing.T) {
	path := shortDir(t)
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	s := listenInDirectory(t, a, 1)
	waitForPeer(t, b, 1)
	// A queue as short as can be, and full.
	if err := withListener(s, func(fd int) error { return syscall.Listen(fd, 0) }); err != nil {
		t.Fatal(err)
	}
	full := func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		c, err := b.Dial(ctx, s.id)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return false
		}
		checkDirectoryError(t, "Dial", err, context.DeadlineExceeded, "full")
		return true
	}
	for !full() {
	}
	if !b.Has(s.id) {
		t.Error("a socket with a full queue counts as dead")
	}
	checkFiles(t, path, 1)
	dialed := make(chan error)
	go func() {
		c, err := b.Dial(directoryContext(t), s.id)
		if err == nil {
			c.Close()
		}
		dialed <- err
	}()
	c, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := <-dialed; err != nil {
		t.Errorf("Dial once there was room = %v", err)
	}
}

func withListener(s *Socket, f func(fd int) error) error {
	raw, err := s.bound.listener.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	return errors.Join(raw.Control(func(fd uintptr) { ferr = f(int(fd)) }), ferr)
}

func TestPeerUser(t *testing.T) {
	path := shortDir(t)
	a, b := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	s := listenInDirectory(t, a, 1)
	waitForPeer(t, b, 1)
	near, err := b.Dial(directoryContext(t), s.id)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.UnixConn{near, far} {
		uid, pid, err := PeerUser(c)
		if err != nil || uid != uint32(os.Geteuid()) || pid != int32(os.Getpid()) {
			t.Errorf("PeerUser() = %d, %d, %v, want %d, %d", uid, pid, err, os.Geteuid(), os.Getpid())
		}
	}
	far.Close()
	if _, _, err := PeerUser(far); err == nil {
		t.Error("PeerUser of a closed connection = nil, want an error")
	}
}

// What is there only for when the system has no watcher left.
func TestPollerSeesWhatChanges(t *testing.T) {
	path := shortDir(t)
	h, err := openHandle(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	closing := make(chan struct{})
	p := newPoller(h, closing)
	if _, err := p.next(time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("next(now) = %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if changes, err := p.next(time.Time{}); err != nil || len(changes) != 2 || changes[1].what != everyFile {
		t.Errorf("next() = %v, %v, want that anything may have changed", changes, err)
	}
	close(closing)
	if _, err := p.next(time.Time{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("next() when closing = %v, want %v", err, os.ErrClosed)
	}
}

// BenchmarkChanged is the time from the renaming of a socket to the change
// being told.
func BenchmarkChanged(b *testing.B) {
	path := shortDir(b)
	from, to := openTestDirectory(b, path, "one", Options{}), openTestDirectory(b, path, "one", Options{})
	s := listenInDirectory(b, from, 1)
	waitForPeer(b, to, 1)
	s.Close()
	waitInDirectory(b, to, "peer is gone", func() bool { return !to.Has(s.id) })
	h := from.handle
	id := numberedPeer(b, 1)
	for b.Loop() {
		b.StopTimer()
		name, err := from.names.encode(id)
		if err != nil {
			b.Fatal(err)
		}
		bound, err := h.bind("waits", false)
		if err != nil {
			b.Fatal(err)
		}
		changed := to.Changed()
		b.StartTimer()
		if err := os.Rename(filepath.Join(path, "waits"), filepath.Join(path, name)); err != nil {
			b.Fatal(err)
		}
		<-changed
		b.StopTimer()
		changed = to.Changed()
		bound.listener.Close()
		os.Remove(filepath.Join(path, name))
		<-changed
		b.StartTimer()
	}
}
