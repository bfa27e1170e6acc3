package unixsock

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// A placement is what a handle has to know of where its directory is.
type placement struct {
	proc    bool // /proc leads to open files, so that paths can be short
	foreign bool // other kernels may have sockets there, which look dead here
}

// foreignFileSystems may be another machine's too.
var foreignFileSystems = []int64{
	unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
	unix.V9FS_MAGIC, unix.FUSE_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.CODA_SUPER_MAGIC,
}

func placeOf(fd int) placement {
	var p placement
	var here, there unix.Stat_t
	p.proc = unix.Fstat(fd, &here) == nil && unix.Stat(procPath(fd), &there) == nil &&
		here.Dev == there.Dev && here.Ino == there.Ino
	var st unix.Statfs_t
	p.foreign = unix.Fstatfs(fd, &st) != nil || slices.Contains(foreignFileSystems, int64(st.Type))
	return p
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// fits tells whether paths of sockets in a directory are short enough.
func fits(string) bool { return true }

// address returns where to make a socket.
func (h *handle) address(fd int, name string) (string, error) {
	if h.kind.proc {
		return procPath(fd) + "/" + name, nil
	}
	return pathAddress(h.path, name)
}

// open opens what is under a name, without following links and without doing
// anything with it.
func (h *handle) open(name string) (*target, error) {
	t := &target{}
	err := h.do("open", name, func(dir int) error {
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			_ = unix.Close(fd)
			return err
		}
		t.file = newFile(&st)
		t.address = procPath(fd)
		t.close = func() { _ = unix.Close(fd) }
		return nil
	})
	if err == nil && !h.kind.proc {
		if t.address, err = pathAddress(h.path, name); err != nil {
			t.close()
		}
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// chmodSocket sets the mode of a file, which is no link unless somebody put
// one there meanwhile: then of nothing.
func chmodSocket(dir int, name string, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if !newFile(&st).socket {
		return fmt.Errorf("%s is no socket: somebody replaced it", name)
	}
	if err := unix.Fchmodat(unix.AT_FDCWD, procPath(fd), mode, 0); err != nil {
		return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW) // without /proc
	}
	return nil
}

// PeerUser returns who had the other end of a connection when it was made: the
// effective user, as this process's user namespace calls it, and the process,
// which is 0 if it is in none of this one's PID namespace.
func PeerUser(c *net.UnixConn) (uid uint32, pid int32, err error) {
	err = withConn(c, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			uid, pid = cred.Uid, cred.Pid
		}
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the user at the other end: %w", err)
	}
	return uid, pid, nil
}

// watch has the kernel tell of names that come and go. Sockets come by rename,
// so their making is no event of interest.
func watch(h *handle) (watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make a watcher (fs.inotify.max_user_instances bounds how many a user has): %w", err)
	}
	w := &inotify{file: os.NewFile(uintptr(fd), "inotify"), buf: make([]byte, 8<<10)}
	const mask = unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB |
		unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
	err = h.do("watch", "", func(dir int) error {
		path := h.path
		if h.kind.proc {
			path = procPath(dir)
		}
		_, err := unix.InotifyAddWatch(fd, path, mask)
		return err
	})
	if err != nil {
		w.close()
		return nil, fmt.Errorf("watch (fs.inotify.max_user_watches bounds how much a user watches): %w", err)
	}
	return w, nil
}
