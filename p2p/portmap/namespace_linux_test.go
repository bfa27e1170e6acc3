package portmap_test

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/p2pnode/p2pnode/p2p/portmap"
	"github.com/p2pnode/p2pnode/p2p/portmap/portmaptest"
)

const (
	inside   = "P2PNODE_TEST_PORTMAP_NAMESPACE"
	patience = 30 * time.Second // passes only when a test fails
)

// The package as it is used: a host whose default route leads to a router that
// is in another network namespace, and nothing put in its place.
func TestHostAndRouter(t *testing.T) {
	if os.Getenv(inside) == "" {
		runInNamespace(t)
		return
	}
	server := startRouter(t)
	m := portmap.New(portmap.Config{})
	defer m.Close()
	for _, p := range []portmap.Proto{portmap.UDP, portmap.TCP} {
		if err := m.Map(p, 4001); err != nil {
			t.Fatal(err)
		}
	}
	r := awaitMappings(t, m, 2)
	want := netip.MustParseAddrPort("203.0.113.7:4001")
	for _, mapping := range r.Mappings {
		if mapping.External != want || mapping.By != portmap.PCP {
			t.Errorf("mapping = %+v, want %v by PCP", mapping, want)
		}
	}
	if want := netip.MustParseAddr("10.0.0.1"); r.Gateway != want {
		t.Errorf("Gateway = %v, want %v", r.Gateway, want)
	}
	for _, mapping := range server.Mappings() {
		if want := netip.MustParseAddrPort("10.0.0.2:4001"); mapping.Internal != want {
			t.Errorf("the router's mapping leads to %v, want %v", mapping.Internal, want)
		}
	}

	// A router that lost all has it again after a Refresh.
	server.Reboot()
	server.SetExternal(netip.MustParseAddr("203.0.113.8"))
	if err := m.Refresh(); err != nil {
		t.Fatal(err)
	}
	deadline := time.AfterFunc(patience, func() { m.Close() })
	defer deadline.Stop()
	for r = range m.Watch(t.Context()) {
		if len(server.Mappings()) == 2 && r.External() == netip.MustParseAddr("203.0.113.8") {
			break
		}
	}
	m.Close()
	if got := server.Mappings(); len(got) != 0 {
		t.Errorf("after Close the router has %v, want none", got)
	}
}

func awaitMappings(t *testing.T, m *portmap.Mapper, n int) portmap.Report {
	t.Helper()
	deadline := time.AfterFunc(patience, func() { m.Close() })
	defer deadline.Stop()
	for r := range m.Watch(t.Context()) {
		if len(r.Mappings) == n {
			return r
		}
	}
	t.Fatalf("no %d mappings; the last report is %+v", n, m.Report())
	return portmap.Report{}
}

// runInNamespace runs the test once more, in a process whose network is its own.
func runInNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(err.Error(), "not permitted") {
		t.Skipf("network namespaces need root: %v", err)
	}
	if err != nil {
		t.Fatalf("in a namespace: %v\n%s", err, out)
	}
}

// startRouter makes a namespace for a router, connects the process to it, and
// starts a responder there. The thread that makes it ends when it is done, and
// the namespace stays while the responder has a socket there.
func startRouter(t *testing.T) *portmaptest.Server {
	t.Helper()
	type started struct {
		server *portmaptest.Server
		err    error
	}
	// The namespace is passed on as a file, since the thread below may be the
	// one that the process is known by.
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	done := make(chan started)
	go func() {
		runtime.LockOSThread()
		s, err := routerHere(here)
		done <- started{s, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.server.Close() })
	host, err := netlink.LinkByName("host")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return netlink.AddrAdd(host, address("10.0.0.2/24")) },
		func() error { return netlink.LinkSetUp(host) },
		func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: host.Attrs().Index, Gw: []byte{10, 0, 0, 1}})
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return r.server
}

func address(s string) *netlink.Addr {
	p := netip.MustParsePrefix(s)
	a, err := netlink.ParseAddr(p.String())
	if err != nil {
		return &netlink.Addr{} // which the kernel refuses
	}
	return a
}

// routerHere moves the thread to a new namespace, and leads from there to the
// host's.
func routerHere(host *os.File) (*portmaptest.Server, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "host", PeerNamespace: netlink.NsFd(int(host.Fd()))}
	v.Name = "router"
	if err := netlink.LinkAdd(v); err != nil {
		return nil, err
	}
	if err := netlink.AddrAdd(v, address("10.0.0.1/24")); err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(v); err != nil {
		return nil, err
	}
	return portmaptest.Listen(netip.MustParseAddrPort("10.0.0.1:5351"), portmaptest.Config{
		External: netip.MustParseAddr("203.0.113.7"),
	})
}
