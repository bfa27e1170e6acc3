package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Where ip-netns(8) looks for namespaces with a name.
const namedDir = "/run/netns"

// A namespace is a network of its own in the kernel.
type namespace struct {
	name string
	fd   netns.NsHandle
	nl   *netlink.Handle
}

// missing says what this machine lacks for a lab, nil if nothing.
func missing() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: namespaces need root", ErrUnavailable)
	}
	for _, program := range []string{"nft", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: namespaces are filled by %s: %w", ErrUnavailable, program, err)
		}
	}
	return nil
}

// newNamespace makes an empty namespace that has a name, with its loopback up.
func newNamespace(name string) (_ *namespace, err error) {
	n := &namespace{name: name, fd: netns.None()}
	defer func() {
		if err != nil {
			err = fmt.Errorf("namespace %s: %w", name, err)
			n.close()
			err = errors.Join(err, removeNamespaces(name))
		}
	}()
	// NewNamed moves the thread, which therefore is given up.
	err = onThread(func() (err error) { n.fd, err = netns.NewNamed(name); return err })
	if err != nil {
		return nil, err
	}
	if n.nl, err = netlink.NewHandleAt(n.fd, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return nil, err
	}
	lo, err := n.nl.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	if err := n.nl.LinkSetUp(lo); err != nil {
		return nil, err
	}
	return n, n.sysctl(
		"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
		"net/ipv6/conf/default/accept_dad=0", "net/ipv6/conf/default/accept_ra=0",
		"net/ipv6/conf/default/router_solicitations=0",
		// Whoever a program runs as, it may ping.
		"net/ipv4/ping_group_range=0 2147483647",
	)
}

// close gives back what the process has open of the namespace, which stays.
func (n *namespace) close() {
	if n.nl != nil {
		n.nl.Close()
	}
	if n.fd.IsOpen() {
		n.fd.Close()
	}
}

// removeNamespaces removes names, after the processes that are in the
// namespaces were killed.
func removeNamespaces(names ...string) error {
	inside := map[string]bool{}
	for _, name := range names {
		var st unix.Stat_t
		var on unix.Statfs_t
		file := filepath.Join(namedDir, name)
		if unix.Stat(file, &st) == nil && unix.Statfs(file, &on) == nil && on.Type == unix.NSFS_MAGIC {
			inside[fmt.Sprintf("net:[%d]", st.Ino)] = true
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		to, err := os.Readlink(link)
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		if err == nil && inside[to] && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
		}
	}
	var errs []error
	for _, name := range names {
		file := filepath.Join(namedDir, name)
		// A maker that was killed may have left a file that nothing is mounted on.
		if err := unix.Unmount(file, unix.MNT_DETACH); ignore(err, unix.EINVAL, unix.ENOENT) != nil {
			errs = append(errs, &os.PathError{Op: "unmount", Path: file, Err: err})
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ignore returns the error unless it is one of those.
func ignore(err error, these ...unix.Errno) error {
	for _, e := range these {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// sweep removes what labs of dead processes left behind.
func sweep() error {
	files, _ := filepath.Glob(filepath.Join(namedDir, prefix+"*"))
	var dead []string
	for _, file := range files {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), prefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && unix.Kill(n, 0) == unix.ESRCH {
			dead = append(dead, filepath.Base(file))
		}
	}
	if dead == nil {
		return nil
	}
	return removeNamespaces(dead...)
}

// onThread runs f on a thread that no other goroutine uses before or after.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		returned := false
		defer func() {
			if !returned { // f called runtime.Goexit, as FailNow does
				done <- errors.New("the function ended its goroutine")
			}
		}()
		err := f()
		returned = true
		done <- err
	}()
	return <-done
}

// do runs f on a thread that is in the namespace.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.fd); err != nil {
			return fmt.Errorf("namespace %s: %w", n.name, err)
		}
		return f()
	})
}

// command returns a program to be run in the namespace. It is the process that
// is started: nsenter becomes it.
func (n *namespace) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	enter := []string{"--net=" + filepath.Join(namedDir, n.name), "--", name}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

// sysctl sets settings, each path=value.
func (n *namespace) sysctl(settings ...string) error {
	return n.do(func() error {
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// nft loads rules, all or none.
func (n *namespace) nft(rules string) error {
	return n.do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("nft in %s: %w: %s\n%s", n.name, err, out.Bytes(), rules)
		}
		return nil
	})
}

// bridge makes a bridge that is up.
func (n *namespace) bridge(name string) error {
	// All ports get what is for many: who wants it, a bridge learns too late for
	// ports that come and go.
	snoop := false
	b := &netlink.Bridge{LinkAttrs: attrs(name), MulticastSnooping: &snoop}
	// Without an address of its own a bridge has that of a port, and another when
	// ports change, of which its neighbours don't hear.
	b.HardwareAddr = binary.BigEndian.AppendUint32(net.HardwareAddr{0x02, 0}, rand.Uint32())
	if err := n.nl.LinkAdd(b); err != nil {
		return fmt.Errorf("bridge %s in %s: %w", name, n.name, err)
	}
	// Frames on a bridge are not to pass the rules and the connection tracking
	// of a router that happens to be in the same namespace.
	if err := n.sysctl("net/bridge/bridge-nf-call-iptables=0", "net/bridge/bridge-nf-call-ip6tables=0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return n.up(name)
}

// anchor keeps a bridge live that the namespace sends by. A bridge is live when
// a port is, and the kernel may take a second to note a change of that.
func (n *namespace) anchor(bridge string) error {
	port, end := bridge+"-a", bridge+"-z"
	veth := netlink.NewVeth(attrs(port))
	veth.PeerName = end
	if err := n.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("port of bridge %s in %s: %w", bridge, n.name, err)
	}
	// The end is to be deaf and dumb.
	if err := errors.Join(
		n.sysctl("net/ipv6/conf/"+end+"/disable_ipv6=1"),
		n.with(end, "no ARP", n.nl.LinkSetARPOff),
		n.up(end), n.up(port),
	); err != nil {
		return err
	}
	if err := n.live(port); err != nil {
		return err
	}
	// Only a bridge that is made up when a port is live is live at once.
	return errors.Join(n.down(bridge), n.plug(port, bridge), n.up(bridge))
}

// cable joins two namespaces: inside is a device, outside a port of a bridge.
func cable(inside *namespace, device string, outside *namespace, port, bridge string) error {
	veth := netlink.NewVeth(attrs(port))
	veth.PeerName = device
	veth.PeerNamespace = netlink.NsFd(int(inside.fd))
	if err := outside.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("cable from %s to %s: %w", outside.name, inside.name, err)
	}
	if err := errors.Join(inside.up(device), outside.plug(port, bridge), outside.up(port)); err != nil {
		return err
	}
	return errors.Join(outside.live(port), inside.live(device))
}

// segment makes a device send packets one by one, or again as the kernel likes
// to, many of a connection as if they were one.
func (n *namespace) segment(device string, on bool) error {
	most := 65535 // as it is with a new device
	if on {
		most = 1
	}
	return n.with(device, "segments", func(l netlink.Link) error { return n.nl.LinkSetGSOMaxSegs(l, most) })
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func (n *namespace) link(name string) (netlink.Link, error) {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", name, n.name, err)
	}
	return link, nil
}

// with runs f on the link of a name.
func (n *namespace) with(name, what string, f func(netlink.Link) error) error {
	link, err := n.link(name)
	if err == nil {
		if err = f(link); err != nil {
			err = fmt.Errorf("%s of %s in %s: %w", what, name, n.name, err)
		}
	}
	return err
}

func (n *namespace) up(name string) error   { return n.with(name, "up", n.nl.LinkSetUp) }
func (n *namespace) down(name string) error { return n.with(name, "down", n.nl.LinkSetDown) }

// live waits until a device has its carrier.
func (n *namespace) live(name string) error {
	return poll(func() (bool, error) {
		link, err := n.link(name)
		return err == nil && link.Attrs().OperState == netlink.OperUp, err
	}, name+" in "+n.name+" has no carrier")
}

// poll waits for what the kernel does when it finds time, often at once.
func poll(done func() (bool, error), otherwise string) error {
	const patience = 5 * time.Second
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for start := time.Now(); ; <-tick.C {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if time.Since(start) > patience {
			return fmt.Errorf("%s after %v", otherwise, patience)
		}
	}
}

func (n *namespace) remove(name string) error { return n.with(name, "removal", n.nl.LinkDel) }

// plug makes a device a port of a bridge.
func (n *namespace) plug(port, bridge string) error {
	return n.with(port, "port", func(l netlink.Link) error {
		b, err := n.link(bridge)
		if err != nil {
			return err
		}
		return n.nl.LinkSetMaster(l, b)
	})
}

// give moves a device to another namespace.
func (n *namespace) give(name string, to *namespace) error {
	return n.with(name, "move", func(l netlink.Link) error { return n.nl.LinkSetNsFd(l, int(to.fd)) })
}

// address gives a device exactly these addresses of global scope.
func (n *namespace) address(device string, addrs ...netip.Prefix) error {
	if err := n.ask(device); err != nil {
		return err
	}
	return n.with(device, "addresses", func(l netlink.Link) error {
		old, err := n.nl.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range old {
			if a.IP.IsLinkLocalUnicast() {
				continue
			}
			if err := n.nl.AddrDel(l, &a); ignore(err, unix.EADDRNOTAVAIL) != nil {
				return err
			}
		}
		for _, p := range addrs {
			a := &netlink.Addr{IPNet: ipNet(p)}
			if p.Addr().Is6() {
				a.Flags = unix.IFA_F_NODAD
			}
			if err := n.nl.AddrAdd(l, a); err != nil {
				return fmt.Errorf("%v: %w", p, err)
			}
		}
		return nil
	})
}

// ask has a device ask for a neighbour often, and for three seconds in all as the
// kernel does: the first question on a device that was made a moment ago may be
// lost, and the next would be a second later.
func (n *namespace) ask(device string) error {
	var settings []string
	for _, family := range []string{"ipv4", "ipv6"} {
		dir := "net/" + family + "/neigh/" + device
		settings = append(settings, dir+"/retrans_time_ms=50", dir+"/mcast_solicit=60")
	}
	return n.sysctl(settings...)
}

// local waits until packets to addresses are taken in. Those of IPv6 can be sent
// from before.
func (n *namespace) local(addrs ...netip.Prefix) error {
	for _, p := range addrs {
		if err := poll(func() (bool, error) {
			routes, err := n.nl.RouteGet(p.Addr().AsSlice())
			return len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, ignore(err, unix.ENETUNREACH)
		}, p.Addr().String()+" is not local"); err != nil {
			return err
		}
	}
	return nil
}

// route sends packets for a prefix through a gateway.
func (n *namespace) route(to netip.Prefix, via netip.Addr) error {
	if err := n.nl.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("route in %s to %v via %v: %w", n.name, to, via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// forget makes the namespace lose what it knows of connections.
func (n *namespace) forget() error {
	if err := n.nl.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return fmt.Errorf("connections of %s: %w", n.name, err)
	}
	return nil
}

// shape bounds what a device sends to rate bits per second, with a queue of so
// many bytes; zero takes the bound away.
func (n *namespace) shape(device string, rate int64, queue int) error {
	return n.with(device, "rate", func(l netlink.Link) error {
		at := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
		if rate == 0 {
			return ignore(n.nl.QdiscDel(&netlink.Tbf{QdiscAttrs: at}), unix.ENOENT, unix.EINVAL) // there was none
		}
		bytes := uint64(rate) / 8
		return n.nl.QdiscReplace(&netlink.Tbf{
			QdiscAttrs: at,
			Rate:       bytes,
			Limit:      uint32(queue),
			Buffer:     netlink.Xmittime(bytes, burstBytes),
		})
	})
}

// tap makes a device whose frames the returned file reads and writes, as a port
// of a bridge.
func (n *namespace) tap(name, bridge string) (*os.File, error) {
	fd := -1
	err := n.do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("tap %s in %s: %w", name, n.name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := errors.Join(n.plug(name, bridge), n.up(name)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// An alarm is a file that can be read once per time it was set for.
type alarm struct{ f *os.File }

// newAlarm makes an alarm. The runtime's timers round to a millisecond when
// nothing else runs; the kernel's don't.
func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timer")}, nil
}

// set makes wait return after d, in place of what was set before.
func (a *alarm) set(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))} // zero would disarm it
	raw, err := a.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
	return errors.Join(err, failed)
}

// wait returns when it is time, with an error once the alarm was closed.
func (a *alarm) wait() error {
	var count [8]byte
	_, err := a.f.Read(count[:])
	return err
}

func (a *alarm) close() error { return a.f.Close() }
