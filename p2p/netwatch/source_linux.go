package netwatch

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// groups are what the kernel is asked to tell of; see rtnetlink(7).
const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// kernel is a source that the kernel tells of changes. It has three files, as
// the state is read by asking, and answers would be lost among the news.
type kernel struct {
	news  *os.File        // what changed
	clock *os.File        // that the clock jumped; nil if that can't be told
	asks  *netlink.Handle // answers what is

	mu     sync.Mutex // guards asks against being closed while in use
	closed bool
}

// open returns the kernel as a source, or polls where a sandbox keeps it from
// that.
func open() (source, error) {
	k, err := openKernel()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return newPoll(), nil
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

func openKernel() (*kernel, error) {
	news, err := listen()
	if err != nil {
		return nil, os.NewSyscallError("listen to netlink", err)
	}
	asks, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		news.Close()
		return nil, os.NewSyscallError("open netlink", err)
	}
	clock, err := jumps()
	if err != nil {
		clock = nil // then sleep isn't seen, and all else is
	}
	return &kernel{news: news, clock: clock, asks: asks}, nil
}

func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// jumps returns a timer that never expires, but which the kernel cancels when
// the clock on the wall is set and when the machine wakes from sleep.
func jumps() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := arm(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "timerfd"), nil
}

func arm(fd int) error {
	// The latest time that fits on every platform. When it comes, sleep isn't
	// seen any more, and all else is.
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt32}}
	return unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil)
}

func (k *kernel) events() bool { return true }

func (k *kernel) close() {
	k.news.Close()
	if k.clock != nil {
		k.clock.Close()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.closed = true
		k.asks.Close()
	}
}

func (k *kernel) run(changed, slept func()) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if k.clock != nil {
		wg.Go(func() { watchClock(k.clock, slept) })
	}
	watchNews(k.news, changed)
}

func watchNews(news *os.File, changed func()) {
	buf := make([]byte, 1<<16)
	for {
		n, err := news.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			changed() // news were lost, so anything may be another
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return
		case matter(buf[:n]):
			changed()
		}
	}
}

func watchClock(clock *os.File, slept func()) {
	buf := make([]byte, 8)
	for last := now(); ; last = now() {
		_, err := clock.Read(buf)
		if !errors.Is(err, unix.ECANCELED) {
			return // closed
		}
		if now().sleptSince(last) {
			slept()
		}
	}
}

// matter tells whether there is news in b by which a State may be another. A
// machine that is a router, or is full of containers, has routes that come and
// go all day, and of those only default ones count.
func matter(b []byte) bool {
	for len(b) >= unix.SizeofNlMsghdr {
		size, kind := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint16(b[4:])
		if size < unix.SizeofNlMsghdr || uint64(size) > uint64(len(b)) {
			return true // what can't be read may be anything
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch kind {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if len(body) < unix.SizeofRtMsg || body[1] == 0 { // the length of the destination's prefix
				return true
			}
		case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
			return true
		}
		b = b[min(len(b), int(size+3)&^3):]
	}
	return len(b) > 0
}
