package unixsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A placement is what a handle has to know of where its directory is.
type placement struct {
	foreign bool // other kernels may have sockets there, which look dead here
}

func placeOf(fd int) placement {
	var st unix.Statfs_t
	local := unix.Fstatfs(fd, &st) == nil && st.Flags&unix.MNT_LOCAL != 0
	return placement{foreign: !local}
}

// fits tells whether paths of sockets in a directory are short enough.
func fits(dir string) bool { return len(dir)+1+nameLen <= sunPath }

// address returns where to make a socket.
func (h *handle) address(_ int, name string) (string, error) {
	return pathAddress(h.path, name)
}

// open sees what is under a name. There is no way to keep a socket open
// without connecting to it, so the path is connected to, and who serves it is
// asked then.
func (h *handle) open(name string) (*target, error) {
	f, err := h.stat(name)
	if err != nil {
		return nil, err
	}
	address, err := pathAddress(h.path, name)
	if err != nil {
		return nil, err
	}
	return &target{file: f, address: address, close: func() {}}, nil
}

func chmodSocket(dir int, name string, mode uint32) error {
	return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

// PeerUser returns who had the other end of a connection when it was made: the
// effective user and the process.
func PeerUser(c *net.UnixConn) (uid uint32, pid int32, err error) {
	err = withConn(c, func(fd int) error {
		cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err != nil {
			return err
		}
		n, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		uid, pid = cred.Uid, int32(n)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the user at the other end: %w", err)
	}
	return uid, pid, nil
}

// kqueue is a watcher that the kernel tells that something changed, but not
// what.
type kqueue struct{ file *os.File }

// closeIdent names the event that ends a wait.
const closeIdent = 0

func watch(h *handle) (watcher, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, fmt.Errorf("make a watcher: %w", err)
	}
	unix.CloseOnExec(fd)
	w := &kqueue{os.NewFile(uintptr(fd), "kqueue")}
	err = h.do("watch", "", func(dir int) error {
		events := make([]unix.Kevent_t, 2)
		unix.SetKevent(&events[0], dir, unix.EVFILT_VNODE, unix.EV_ADD|unix.EV_CLEAR)
		events[0].Fflags = unix.NOTE_WRITE | unix.NOTE_ATTRIB | unix.NOTE_DELETE | unix.NOTE_RENAME | unix.NOTE_REVOKE
		unix.SetKevent(&events[1], closeIdent, unix.EVFILT_USER, unix.EV_ADD)
		_, err := unix.Kevent(fd, events, nil, nil)
		return err
	})
	if err != nil {
		w.file.Close()
		return nil, fmt.Errorf("watch: %w", err)
	}
	return w, nil
}

func (w *kqueue) next(deadline time.Time) ([]change, error) {
	events := make([]unix.Kevent_t, 2)
	n, err := w.kevent(func(fd int) (int, error) {
		if deadline.IsZero() {
			return unix.Kevent(fd, nil, events, nil)
		}
		timeout := unix.NsecToTimespec(int64(max(0, time.Until(deadline))))
		return unix.Kevent(fd, nil, events, &timeout)
	})
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, os.ErrDeadlineExceeded
	}
	for _, e := range events[:n] {
		if e.Filter == unix.EVFILT_USER {
			return nil, os.ErrClosed
		}
		if e.Fflags&(unix.NOTE_DELETE|unix.NOTE_RENAME|unix.NOTE_REVOKE) != 0 {
			return []change{{what: directoryLost}}, nil
		}
	}
	return []change{{what: theDirectory}, {what: everyFile}}, nil
}

// kevent calls f with the queue, which stays open that long.
func (w *kqueue) kevent(f func(fd int) (int, error)) (n int, err error) {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var ferr error
	err = raw.Control(func(fd uintptr) {
		ferr = ignoreEINTR(func() (err error) {
			n, err = f(int(fd))
			return err
		})
	})
	return n, errors.Join(err, ferr)
}

func (w *kqueue) close() {
	_, _ = w.kevent(func(fd int) (int, error) {
		event := make([]unix.Kevent_t, 1)
		unix.SetKevent(&event[0], closeIdent, unix.EVFILT_USER, 0)
		event[0].Fflags = unix.NOTE_TRIGGER
		return unix.Kevent(fd, event, nil, nil)
	})
	w.file.Close()
}
