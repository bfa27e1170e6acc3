package netwatch

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownNetwork puts the rest of the test into a network namespace of its own. The
// thread is not given back, and so ends with the test.
func ownNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		if errors.Is(err, unix.EPERM) {
			t.Skip("network namespaces need root")
		}
		t.Fatal(err)
	}
}

// must is for what a test does to its network.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// link adds a pair of interfaces and returns one, with the other up.
func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: name + "peer"}
	v.Name = name
	must(t, netlink.LinkAdd(v))
	peer, err := netlink.LinkByName(v.PeerName)
	must(t, err)
	must(t, netlink.LinkSetUp(peer))
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func address(t *testing.T, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	a.Flags = unix.IFA_F_NODAD // usable at once
	return a
}

// has tells whether a state has an interface with an address.
func has(s State, name, addr string) bool {
	return slices.ContainsFunc(s.Interfaces, func(i Interface) bool {
		return i.Name == name && slices.Contains(i.Addrs, netip.MustParsePrefix(addr))
	})
}

func TestKernelTellsOfChanges(t *testing.T) {
	ownNetwork(t)
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !w.Events() {
		t.Fatal("Events() = false, want true on Linux")
	}
	states := make(chan State)
	ctx := testContext(t)
	go func() {
		defer close(states)
		for s := range w.Watch(ctx) {
			states <- s
		}
	}()
	defer func() {
		w.Close()
		for range states {
		}
	}()
	if first := <-states; len(first.Interfaces) != 0 {
		t.Fatalf("first state = %v, want none up in a new namespace", first)
	}

	var l netlink.Link
	for _, step := range []struct {
		name string
		do   func() error
		want func(State) bool
	}{
		{"an address", func() error {
			l = link(t, "a")
			return errors.Join(netlink.LinkSetUp(l), netlink.AddrAdd(l, address(t, "192.0.2.1/24")))
		}, func(s State) bool { return has(s, "a", "192.0.2.1/24") }},
		{"an IPv6 address", func() error { return netlink.AddrAdd(l, address(t, "2001:db8::1/64")) },
			func(s State) bool { return has(s, "a", "2001:db8::1/64") }},
		{"a default route", func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: []byte{192, 0, 2, 254}})
		}, func(s State) bool {
			return slices.Equal(s.Defaults, []Route{{Interface: "a", Gateway: netip.MustParseAddr("192.0.2.254")}})
		}},
		{"another MTU", func() error { return netlink.LinkSetMTU(l, 1280) },
			func(s State) bool { return s.Interfaces[0].MTU == 1280 }},
		{"no address", func() error { return netlink.AddrDel(l, address(t, "192.0.2.1/24")) },
			func(s State) bool { return !has(s, "a", "192.0.2.1/24") && len(s.Defaults) == 0 }},
		{"no interface", func() error { return netlink.LinkDel(l) },
			func(s State) bool { return len(s.Interfaces) == 0 }},
	} {
		begin := time.Now()
		must(t, step.do())
		for s := range states {
			if step.want(s) {
				break
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s was not told", step.name)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s was told after %v, want within a second", step.name, took)
		}
	}
}

func TestPortsOfABridgeAreNoChange(t *testing.T) {
	ownNetwork(t)
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	before, err := k.read()
	must(t, err)

	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name = "br0"
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Skipf("this kernel has no bridges: %v", err)
	}
	port := link(t, "b") // its peer has an address of its own by IPv6, when that is up
	must(t, netlink.LinkSetMaster(port, bridge), netlink.LinkSetUp(port), netlink.AddrAdd(port, address(t, "192.0.2.1/24")))
	after, err := k.read()
	must(t, err)
	after.Interfaces = slices.DeleteFunc(after.Interfaces, func(i Interface) bool { return i.Name == "bpeer" })
	if !after.Equal(before) {
		t.Errorf("with a port of a bridge the state is %v, want %v", after, before)
	}
}

func TestNewsThatWereLostAreReadAnew(t *testing.T) {
	ownNetwork(t)
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.news.SyscallConn()
	must(t, err)
	var failed error
	must(t, raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) }))
	must(t, failed)

	l := link(t, "c")
	must(t, netlink.LinkSetUp(l))
	for i := range 100 { // nobody reads what is said of these
		a := address(t, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String()+"/32")
		must(t, netlink.AddrAdd(l, a))
	}
	w, err := newWatcher(k)
	must(t, err)
	defer w.Close()
	must(t, netlink.AddrAdd(l, address(t, "198.51.100.1/32")))
	for s := range w.Watch(testContext(t)) {
		if has(s, "c", "192.0.2.100/32") && has(s, "c", "198.51.100.1/32") {
			return
		}
	}
	t.Error("an address after an overflow was not told")
}

func TestWhichNewsMatter(t *testing.T) {
	message := func(kind uint16, body ...byte) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = append(b, make([]byte, unix.SizeofNlMsghdr-len(b))...)
		b = append(b, body...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	route := func(length byte) []byte {
		return message(unix.RTM_NEWROUTE, append([]byte{unix.AF_INET, length}, make([]byte, unix.SizeofRtMsg-2)...)...)
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want bool
	}{
		{"nothing", nil, false},
		{"a link", message(unix.RTM_NEWLINK), true},
		{"an address", message(unix.RTM_DELADDR), true},
		{"a default route", route(0), true},
		{"another route", route(24), false},
		{"other routes, and a link", slices.Concat(route(24), route(32), message(unix.RTM_DELLINK)), true},
		{"a neighbour", message(unix.RTM_NEWNEIGH, 1, 2, 3), false},
		{"a short route", message(unix.RTM_NEWROUTE, 1), true},
		{"half a header", []byte{1, 2, 3}, true},
		{"a size of nothing", make([]byte, unix.SizeofNlMsghdr), true},
		{"a size beyond the end", message(unix.RTM_NEWNEIGH, 1, 2, 3, 4)[:18], true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := matter(tt.in); got != tt.want {
				t.Errorf("matter(%v) = %v, want %v", tt.in, got, tt.want)
			}
		})
	}
}

func TestClockOfTheKernel(t *testing.T) {
	clock, err := jumps()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		watchClock(clock, func() { t.Error("a machine that is awake slept") })
	}()
	clock.Close()
	<-done
}
