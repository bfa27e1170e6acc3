package portmap

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The thread is not given back, and so its network namespace ends with the test.
func TestUplinkIsTheDefaultRoute(t *testing.T) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		if errors.Is(err, unix.EPERM) {
			t.Skip("network namespaces need root")
		}
		t.Fatal(err)
	}
	if up, err := findUplink(); err == nil {
		t.Errorf("findUplink without a route = %v, want an error", up)
	}
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "router"}
	v.Name = "host"
	addr, err := netlink.ParseAddr("192.168.1.2/24")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return netlink.LinkAdd(v) },
		func() error { return netlink.LinkSetUp(v) },
		func() error { return netlink.AddrAdd(v, addr) },
		func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: v.Attrs().Index, Gw: []byte{192, 168, 1, 1}})
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	want := uplink{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.1.2")}
	if up, err := findUplink(); err != nil || up != want {
		t.Errorf("findUplink = %v, %v, want %v", up, err, want)
	}
}
