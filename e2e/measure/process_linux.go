package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownProcess keeps the terminal's Ctrl-C from a process, so that it is this
// program that ends it, and has the kernel end it should this one be killed.
func ownProcess(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// pause stops a process for a while, or has it go on.
func pause(p *os.Process, on bool) error {
	if on {
		return p.Signal(syscall.SIGSTOP)
	}
	return p.Signal(syscall.SIGCONT)
}

// withoutNetwork gives a process, and what it starts, a network of its own in
// which no interface is up, loopback neither. Who isn't root gets a user namespace
// for that, in which it is itself.
func withoutNetwork(cmd *exec.Cmd) error {
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	return nil
}

// A socketWatch notes when sockets appear in a directory.
type socketWatch struct {
	dir  string
	file *os.File       // of inotify
	seen chan time.Time // when they did, as far as there is room
	done chan struct{}
}

// watchSockets watches a directory from now on.
func watchSockets(dir string) (*socketWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	w := &socketWatch{dir: dir, file: os.NewFile(uintptr(fd), "inotify"), seen: make(chan time.Time, 64), done: make(chan struct{})}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), w.file.Close())
	}
	go w.run()
	return w, nil
}

func (w *socketWatch) run() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		now := time.Now()
		if err != nil {
			return
		}
		for _, name := range namesIn(buf[:n]) {
			info, err := os.Lstat(filepath.Join(w.dir, name))
			if err != nil || info.Mode()&os.ModeSocket == 0 {
				continue
			}
			select {
			case w.seen <- now:
			default:
			}
		}
	}
}

// namesIn returns the names of the files in a read from inotify.
func namesIn(buf []byte) []string {
	var names []string
	for len(buf) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		names = append(names, unix.ByteSliceToString(buf[unix.SizeofInotifyEvent:end]))
		buf = buf[end:]
	}
	return names
}

// take returns when sockets have appeared since it was last called.
func (w *socketWatch) take() []time.Time {
	var seen []time.Time
	for {
		select {
		case t := <-w.seen:
			seen = append(seen, t)
		default:
			return seen
		}
	}
}

func (w *socketWatch) close() {
	w.file.Close()
	<-w.done
}
