//go:build linux || darwin

package unixsock

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// makeNamed makes a socket of a peer that no Directory has, and returns its
// name.
func makeNamed(t testing.TB, d *Directory, n byte, living bool) string {
	t.Helper()
	name, err := d.names.encode(numberedPeer(t, n))
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.handle.bind(name, false)
	if err != nil {
		t.Fatal(err)
	}
	if living {
		t.Cleanup(func() { b.listener.Close() })
	} else {
		b.listener.Close()
	}
	return name
}

func setAge(t testing.TB, path string, age time.Duration) {
	t.Helper()
	then := time.Now().Add(-age)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestDialRemovesTheDeadAlone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		living []bool // sockets of the peer, oldest first
		left   []int  // which of them are there after a Dial
		dials  bool
	}{
		{"one dead", []bool{false}, nil, false},
		{"one living", []bool{true}, []int{0}, true},
		{"the newest lives", []bool{false, true}, []int{0, 1}, true},
		{"the oldest lives", []bool{true, false, false}, []int{0}, true},
		{"all live", []bool{true, true}, []int{0, 1}, true},
		{"all dead", []bool{false, false, false}, nil, false},
		{"more than are kept in mind", slices.Repeat([]bool{false}, maxSockets+1), []int{0}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			path := shortDir(t)
			maker := openTestDirectory(t, path, "one", Options{})
			defer maker.Close()
			var made, want []string
			for i, living := range tt.living {
				name := makeNamed(t, maker, 1, living)
				setAge(t, filepath.Join(path, name), time.Duration(len(tt.living)-i)*time.Hour)
				made = append(made, name)
			}
			for _, i := range tt.left {
				want = append(want, made[i])
			}
			d := openTestDirectory(t, path, "one", Options{})
			defer d.Close()
			c, err := d.Dial(directoryContext(t), numberedPeer(t, 1))
			if err == nil {
				c.Close()
			}
			if tt.dials && err != nil || !tt.dials && !errors.Is(err, ErrNotHere) {
				t.Errorf("Dial = %v, want success: %v", err, tt.dials)
			}
			if d.Has(numberedPeer(t, 1)) != tt.dials {
				t.Errorf("Has = %v, want %v", !tt.dials, tt.dials)
			}
			slices.Sort(want)
			if got := socketFiles(t, path); !slices.Equal(got, want) {
				t.Errorf("the directory holds %q, want %q", got, want)
			}
		})
	}
}

// What has a right name but is no socket is let be, and nothing is done with
// what it leads to.
func TestNamesOfOtherFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path, living, dead string) error
	}{
		{"file", func(path, _, _ string) error { return os.WriteFile(path, nil, 0o600) }},
		{"directory", func(path, _, _ string) error { return os.Mkdir(path, 0o700) }},
		{"pipe", func(path, _, _ string) error { return syscall.Mkfifo(path, 0o600) }},
		{"link to a living socket", func(path, living, _ string) error { return os.Symlink(living, path) }},
		{"link to a dead socket", func(path, _, dead string) error { return os.Symlink(dead, path) }},
		{"link to nothing", func(path, _, _ string) error { return os.Symlink("nothing", path) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			path, elsewhere := shortDir(t), shortDir(t)
			d, e := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, elsewhere, "one", Options{})
			defer d.Close()
			defer e.Close()
			living, dead := makeNamed(t, e, 2, true), makeNamed(t, e, 2, false)
			name, err := d.names.encode(numberedPeer(t, 1))
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(path, name)
			if err := tt.make(file, filepath.Join(elsewhere, living), filepath.Join(elsewhere, dead)); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(file)
			if err != nil {
				t.Fatal(err)
			}
			late := openTestDirectory(t, path, "one", Options{})
			defer late.Close()
			for _, d := range []*Directory{d, late} {
				d.look(d.handle, name)
				if d.Has(numberedPeer(t, 1)) {
					t.Error("Has() = true")
				}
				if c, err := d.connect(d.handle, name); err == nil {
					t.Error("connect = nil, want an error")
					c.Close()
				}
			}
			after, err := os.Lstat(file)
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v", err)
			}
			checkFiles(t, elsewhere, 2)
		})
	}
}

func TestListenRemovesWhatWasLeftOfThePeer(t *testing.T) {
	path := shortDir(t)
	maker := openTestDirectory(t, path, "one", Options{})
	makeNamed(t, maker, 1, false)
	makeNamed(t, maker, 1, false)
	living := makeNamed(t, maker, 1, true)
	others := makeNamed(t, maker, 2, false) // is nobody's affair until it is dialed
	d := openTestDirectory(t, path, "one", Options{})
	listenInDirectory(t, d, 1)
	got := socketFiles(t, path)
	if len(got) != 3 || !slices.Contains(got, living) || !slices.Contains(got, others) {
		t.Errorf("the directory holds %q, want the new socket, %q and %q", got, living, others)
	}
}

func TestAbandonedTemporaries(t *testing.T) {
	for _, tt := range []struct {
		name         string
		age          time.Duration
		living, left bool
	}{
		{"old and dead", 2 * abandoned, false, false},
		{"new and dead", 0, false, true},
		{"old and living", 2 * abandoned, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := shortDir(t)
			h, err := openHandle(path, false)
			if err != nil {
				t.Fatal(err)
			}
			defer h.close()
			b, err := h.bind(temporaryName(), false)
			if err != nil {
				t.Fatal(err)
			}
			defer b.listener.Close()
			if !tt.living {
				b.listener.Close()
			}
			setAge(t, filepath.Join(path, b.name), tt.age)
			openTestDirectory(t, path, "one", Options{})
			if got := b.there(); got != tt.left {
				t.Errorf("it is there: %v, want %v", got, tt.left)
			}
		})
	}
}

// Between the refusal and the removal another file may get the name.
func TestRemoveStaleOfAnotherFile(t *testing.T) {
	path := shortDir(t)
	d := openTestDirectory(t, path, "one", Options{})
	dead := makeNamed(t, d, 1, false)
	target, err := d.handle.open(dead)
	if err != nil {
		t.Fatal(err)
	}
	defer target.close()
	if _, err := target.connect(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("connect = %v, want %v", err, syscall.ECONNREFUSED)
	}
	for _, replace := range []func(file string) error{
		func(file string) error { return os.WriteFile(file, nil, 0o600) },
		func(file string) error { return os.Symlink("x", file) },
		func(file string) error {
			l, err := net.Listen("unix", file)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		},
	} {
		file := filepath.Join(path, dead)
		if err := errors.Join(os.Remove(file), replace(file)); err != nil {
			t.Fatal(err)
		}
		if d.handle.removeStale(dead, target.file) {
			t.Error("another file was removed")
		}
	}
}

// Where another kernel may have a socket, one that refuses may live.
func TestNothingIsRemovedWhereOtherMachinesAre(t *testing.T) {
	path := shortDir(t)
	maker, d := openTestDirectory(t, path, "one", Options{}), openTestDirectory(t, path, "one", Options{})
	d.handle.kind.foreign = true
	makeNamed(t, maker, 1, false)
	waitForPeer(t, d, 1)
	_, err := d.Dial(directoryContext(t), numberedPeer(t, 1))
	checkDirectoryError(t, "Dial", err, ErrNotHere)
	if d.Has(numberedPeer(t, 1)) {
		t.Error("a socket that refused is still one")
	}
	checkFiles(t, path, 1)
}
