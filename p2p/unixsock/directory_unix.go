//go:build linux || darwin

package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const supported = true

// A handle is an open directory. What is done through it is done in that
// directory, whatever has its path meanwhile.
type handle struct {
	path string
	file *os.File
	kind placement
}

// A fileID tells files apart for as long as they are there, under whatever
// name. A file that is open, or that a socket is bound to, is there.
type fileID struct{ dev, ino uint64 }

// A file is what the directory says of one.
type file struct {
	id     fileID
	uid    uint32
	mode   uint32 // permissions, set-ID and sticky bits
	socket bool
	dir    bool
	link   bool
	made   time.Time
}

func newFile(st *unix.Stat_t) file {
	kind := uint32(st.Mode) & unix.S_IFMT
	return file{
		id:     fileID{uint64(st.Dev), uint64(st.Ino)},
		uid:    st.Uid,
		mode:   uint32(st.Mode) & 0o7777,
		socket: kind == unix.S_IFSOCK,
		dir:    kind == unix.S_IFDIR,
		link:   kind == unix.S_IFLNK,
		made:   time.Unix(st.Mtim.Unix()),
	}
}

func lstat(path string) (file, error) {
	var st unix.Stat_t
	if err := ignoreEINTR(func() error { return unix.Lstat(path, &st) }); err != nil {
		return file{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return newFile(&st), nil
}

// ownerOf returns whose a directory is.
func ownerOf(path string) (uint32, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return 0, fmt.Errorf("%s is not a directory", path)
	}
	return st.Uid, nil
}

// openHandle opens a directory, and makes it if it may and must.
func openHandle(path string, create bool) (*handle, error) {
	if create {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	var fd int
	err := ignoreEINTR(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		if f, lerr := lstat(path); lerr == nil && f.link {
			return nil, fmt.Errorf("%w: it is a symbolic link; name the directory itself", ErrUnsafeDirectory)
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	h := &handle{path: path, file: os.NewFile(uintptr(fd), path)}
	if err := h.do("place", "", func(fd int) error { h.kind = placeOf(fd); return nil }); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *handle) close() { h.file.Close() }

// do calls f with the open directory, which stays open that long. The error
// says that it was to op the name.
func (h *handle) do(op, name string, f func(fd int) error) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) {
		ferr = ignoreEINTR(func() error { return f(int(fd)) })
	}); err != nil { // of which there is only one
		return &fs.PathError{Op: op, Path: filepath.Join(h.path, name), Err: fs.ErrClosed}
	}
	if errno := syscall.Errno(0); errors.As(ferr, &errno) && ferr == error(errno) {
		return &fs.PathError{Op: op, Path: filepath.Join(h.path, name), Err: ferr}
	}
	return ferr
}

// check returns an error if the directory is not the one at its path any more,
// or if others than users could put files of their own in place of sockets. A
// private one must be the calling user's alone.
func (h *handle) check(users []uint32, private bool) error {
	var st unix.Stat_t
	if err := h.do("stat", "", func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	f := newFile(&st)
	if now, err := lstat(h.path); err != nil {
		return err
	} else if now.id != f.id {
		return errors.New("it was moved, and another is in its place")
	}
	uid := uint32(os.Geteuid())
	switch {
	case private && f.uid != uid:
		return fmt.Errorf("%w: it is for user %d alone but belongs to user %d, who may have made it to be in the way: remove it or name another directory",
			ErrUnsafeDirectory, uid, f.uid)
	case private && f.mode != 0o700:
		return fmt.Errorf("%w: it is for user %d alone but has mode %04o: chmod 0700 %s", ErrUnsafeDirectory, uid, f.mode, h.path)
	case f.uid != 0 && !contains(users, f.uid):
		return fmt.Errorf("%w: it belongs to user %d, who is none of the users that count: name another directory or that user",
			ErrUnsafeDirectory, f.uid)
	case f.mode&0o022 != 0 && f.mode&unix.S_ISVTX == 0:
		return fmt.Errorf("%w: with mode %04o others can replace the sockets of its users: chmod go-w %s, or chmod +t %[3]s if it is shared",
			ErrUnsafeDirectory, f.mode, h.path)
	}
	return nil
}

func contains(users []uint32, uid uint32) bool {
	for _, u := range users {
		if u == uid {
			return true
		}
	}
	return false
}

// keep makes the file by whose removal that of the directory is noticed. That
// it can't, where writing is not allowed, is no reason not to look for others.
func (h *handle) keep() error {
	return h.do("create", keepName, func(dir int) error {
		fd, err := unix.Openat(dir, keepName, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o600)
		if err == nil {
			_ = unix.Close(fd)
		} else if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		return err
	})
}

// list returns at most limit names. Only one at a time may call it.
func (h *handle) list(limit int) ([]string, error) {
	if _, err := h.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	list, err := h.file.Readdirnames(limit)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, err
}

// stat returns what is under a name, without following links.
func (h *handle) stat(name string) (file, error) {
	var st unix.Stat_t
	err := h.do("stat", name, func(fd int) error {
		return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return newFile(&st), err
}

func (h *handle) unlink(name string) error {
	return h.do("remove", name, func(fd int) error { return unix.Unlinkat(fd, name, 0) })
}

// removeStale removes a socket that was found to be dead, if it is the calling
// user's, or if that is root, and is still under the name. The caller has it
// open where that can be, so that no other file can have come to be f.
func (h *handle) removeStale(name string, f file) bool {
	if uid := uint32(os.Geteuid()); !f.socket || f.uid != uid && uid != 0 || h.kind.foreign {
		return false
	}
	now, err := h.stat(name)
	return err == nil && now.socket && now.id == f.id && h.unlink(name) == nil
}

// bind makes a listening socket of this name. While it does not listen, it has
// a name that is nobody's. If it is shared, all users may connect, and who of
// them is let in is seen when they do; else only the calling user may.
func (h *handle) bind(name string, shared bool) (_ *bound, err error) {
	mode := uint32(0o600)
	if shared {
		mode = 0o666
	}
	temporary := temporaryName()
	listener, err := h.listen(temporary, mode)
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it would go by the path
	defer func() {
		if err != nil {
			_ = h.unlink(temporary)
			listener.Close()
		}
	}()
	f, err := h.stat(temporary)
	if err != nil {
		return nil, fmt.Errorf("the new socket is not in the directory: %w", err)
	}
	if !f.socket {
		return nil, fmt.Errorf("%s is no socket: somebody replaced it", filepath.Join(h.path, temporary))
	}
	if f.mode != mode { // the umask had a say
		if err := h.do("chmod", temporary, func(fd int) error { return chmodSocket(fd, temporary, mode) }); err != nil {
			return nil, err
		}
	}
	if err := h.do("rename", temporary, func(fd int) error { return unix.Renameat(fd, temporary, fd, name) }); err != nil {
		return nil, err
	}
	return &bound{listener: listener, in: h, name: name, id: f.id}, nil
}

func (h *handle) listen(name string, mode uint32) (l *net.UnixListener, err error) {
	// The mode is taken over by the file where the system does that, so that
	// there is no time at which it is another.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.Fchmod(int(fd), mode) })
	}}
	err = h.do("listen", name, func(fd int) error {
		address, err := h.address(fd, name)
		if err != nil {
			return err
		}
		any, err := config.Listen(context.Background(), "unix", address)
		if err != nil {
			return &fs.PathError{Op: "make socket", Path: filepath.Join(h.path, name), Err: cause(err)}
		}
		l = any.(*net.UnixListener)
		return nil
	})
	return l, err
}

// A target is a file in the directory, kept open where that can be, so that
// what was seen of it is of what is connected to.
type target struct {
	file
	address string
	close   func()
}

func (t *target) connect() (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: t.address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", cause(err))
	}
	return c, nil
}

// cause takes what package net says of the address off an error, since that is
// not one that a reader would know.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// sunPath is how many bytes the path of a socket may have: one is for the zero
// at its end.
const sunPath = len(unix.RawSockaddrUnix{}.Path) - 1

// pathAddress returns the path of a name, as an address.
func pathAddress(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if len(path) > sunPath {
		return "", fmt.Errorf("path of a socket is too long: %d bytes, of which the system takes %d; name a directory whose path has at most %d",
			len(path), sunPath, sunPath-nameLen-1)
	}
	return path, nil
}

func ignoreEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// withConn calls f with the descriptor of c.
func withConn(c *net.UnixConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}
