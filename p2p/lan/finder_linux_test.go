package lan

import (
	"bytes"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"golang.org/x/sys/unix"
)

// A host is a network namespace.
type host struct {
	do chan func()
	id int // of a thread that is in it
}

// newHost makes a host without an interface that is up, but for loopback. It lasts
// as long as the test.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{do: make(chan func())}
	started := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlocked, so that the thread ends
		err := unix.Unshare(unix.CLONE_NEWNET)
		h.id = unix.Gettid()
		started <- err
		for do := range h.do {
			do()
		}
	}()
	t.Cleanup(func() {
		close(h.do)
		<-ended
	})
	if err := <-started; err != nil {
		t.Skipf("network namespaces need root: %v", err)
	}
	h.run(t, "ip link set lo up")
	return h
}

// in has f run in the host.
func (h *host) in(f func()) {
	done := make(chan struct{})
	h.do <- func() { defer close(done); f() }
	<-done
}

// run runs a command in the host.
func (h *host) run(t *testing.T, command string) {
	t.Helper()
	args := strings.Fields(command)
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("network namespaces are wired with ip: %v", err)
	}
	var out []byte
	var err error
	h.in(func() { out, err = exec.Command(args[0], args[1:]...).CombinedOutput() })
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// wire connects two hosts by interfaces eth0, which get the addresses.
func wire(t *testing.T, a, b *host, addrA, addrB string) {
	t.Helper()
	a.run(t, "ip link add eth0 type veth peer name eth0 netns "+strconv.Itoa(b.id))
	a.run(t, "ip link set eth0 up")
	b.run(t, "ip link set eth0 up")
	if addrA != "" {
		a.run(t, "ip addr add "+addrA+" dev eth0")
		b.run(t, "ip addr add "+addrB+" dev eth0")
	}
}

// A testFinder is a Finder and whom it found.
type testFinder struct {
	*Finder
	id    peer.ID
	found chan peer.AddrInfo
}

func (h *host) find(t *testing.T, group string, addrs ...string) *testFinder {
	t.Helper()
	f := &testFinder{id: newPeer(t), found: make(chan peer.AddrInfo, 1000)}
	var err error
	h.in(func() {
		f.Finder, err = New(Config{
			Group: []byte(group),
			Self:  f.id,
			Addrs: func() []multiaddr.Multiaddr { return parseAddrs(addrs...) },
			Found: func(info peer.AddrInfo) { f.found <- info },
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// wantFound waits until f has found the other, at these addresses.
func (f *testFinder) wantFound(t *testing.T, other *testFinder, within time.Duration, addrs ...string) {
	t.Helper()
	timeout := time.After(within)
	for {
		select {
		case info := <-f.found:
			if info.ID == other.id && slices.EqualFunc(info.Addrs, parseAddrs(addrs...), multiaddr.Multiaddr.Equal) {
				return
			}
			t.Logf("found %v", info)
		case <-timeout:
			t.Fatalf("not found within %v at %v; known are %v", within, addrs, f.Peers())
		}
	}
}

const listen4, listen6 = "/ip4/0.0.0.0/udp/4001/quic-v1", "/ip6/::/tcp/4001"

func TestNodesOfAGroupFindEachOther(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	first := a.find(t, "group", listen4)
	second := b.find(t, "group", listen4, "/ip4/10.99.0.2/tcp/1")
	// A second is what the user is promised, an IPv6 address in its first second
	// of life notwithstanding.
	first.wantFound(t, second, time.Second, "/ip4/10.9.0.2/udp/4001/quic-v1")
	second.wantFound(t, first, time.Second, "/ip4/10.9.0.1/udp/4001/quic-v1")
	if got := first.Peers(); len(got) != 1 || got[0].ID != second.id {
		t.Errorf("Peers() = %v, want %v", got, second.id)
	}
	second.Close()
	await(t, "the goodbye is heard", func() bool { return len(first.Peers()) == 0 })
}

func TestNodesFindEachOtherByIPv6Alone(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "", "")
	a.run(t, "ip addr add fe80::a/64 dev eth0 nodad")
	b.run(t, "ip addr add fe80::b/64 dev eth0 nodad")
	first, second := a.find(t, "group", "/ip6/fe80::a/tcp/1"), b.find(t, "group", "/ip6/fe80::b/tcp/2")
	first.wantFound(t, second, patience, "/ip6zone/eth0/ip6/fe80::b/tcp/2")
	second.wantFound(t, first, patience, "/ip6zone/eth0/ip6/fe80::a/tcp/1")
}

func TestNodesOfOneHostFindEachOther(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	first := a.find(t, "group", "/ip4/10.9.0.1/tcp/1")
	second := a.find(t, "group", "/ip4/10.9.0.1/tcp/2")
	first.wantFound(t, second, time.Second, "/ip4/10.9.0.1/tcp/2")
	second.wantFound(t, first, time.Second, "/ip4/10.9.0.1/tcp/1")
}

func TestInterfaceThatComesLater(t *testing.T) {
	a, b := newHost(t), newHost(t)
	first, second := a.find(t, "group", listen4), b.find(t, "group", listen4)
	for range 2 { // and again when it was gone
		wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
		a.in(first.Refresh)
		b.in(second.Refresh)
		first.wantFound(t, second, time.Second, "/ip4/10.9.0.2/udp/4001/quic-v1")
		second.wantFound(t, first, time.Second, "/ip4/10.9.0.1/udp/4001/quic-v1")
		a.run(t, "ip link del eth0")
		a.in(first.Refresh)
		b.in(second.Refresh)
		if got := first.Peers(); len(got) != 0 {
			t.Errorf("Peers() without an interface = %v, want none", got)
		}
	}
}

func TestNewAddressIsFound(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	first, second := a.find(t, "group", listen4), b.find(t, "group", listen4)
	first.wantFound(t, second, time.Second, "/ip4/10.9.0.2/udp/4001/quic-v1")
	b.run(t, "ip addr add 10.9.0.3/24 dev eth0")
	b.run(t, "ip addr del 10.9.0.2/24 dev eth0")
	b.run(t, "ip addr add 10.9.0.3/24 dev eth0") // the first went with the primary
	b.in(second.Refresh)
	first.wantFound(t, second, time.Second, "/ip4/10.9.0.3/udp/4001/quic-v1")
}

func TestOtherGroupsSeeNothing(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	outsider := b.find(t, "another group", listen4)
	first := a.find(t, "group", listen4)
	second := b.find(t, "group", listen4)
	first.wantFound(t, second, time.Second, "/ip4/10.9.0.2/udp/4001/quic-v1")
	await(t, "the outsider hears two", func() bool { return outsider.Stats().Foreign >= 2 })
	if got := outsider.Peers(); len(got) != 0 {
		t.Errorf("an outsider's Peers() = %v, want none", got)
	}
	if got := first.Peers(); len(got) != 1 {
		t.Errorf("Peers() = %v, want the one of the group", got)
	}
}

func TestCaptureShowsNothing(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	seen := b.capture(t)
	const group = "a group to look for"
	first := a.find(t, group, "/ip4/10.9.0.1/udp/4001/quic-v1")
	second := b.find(t, group, listen4)
	first.wantFound(t, second, time.Second, "/ip4/10.9.0.2/udp/4001/quic-v1")
	second.wantFound(t, first, time.Second, "/ip4/10.9.0.1/udp/4001/quic-v1")
	first.Close()
	await(t, "the goodbye is heard", func() bool { return len(second.Peers()) == 0 })
	all := seen()
	if !bytes.Contains(all, []byte("_p2pnode")) {
		t.Fatal("the capture lacks what is in clear")
	}
	for what, secret := range map[string][]byte{
		"a peer ID as text": []byte(first.id.String()),
		"a peer ID":         []byte(first.id),
		"a key":             []byte(first.id)[6:],
		"the group":         []byte(group),
		"an address":        parseAddrs("/ip4/10.9.0.1/udp/4001/quic-v1")[0].Bytes(),
	} {
		if bytes.Contains(all, secret) {
			t.Errorf("the capture shows %s in clear", what)
		}
	}
}

func TestChatterWakesNobody(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	var s *socket
	var l []link
	a.in(func() {
		var err error
		if s, err = openSocket(t.Context(), v4); err != nil {
			t.Error(err)
			return
		}
		if l, err = links(); err != nil || len(l) != 1 || s.join(l[0]) != nil {
			t.Errorf("links() = %v, %v, want one", l, err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	defer s.conn.Close()
	ours, err := packQuestion(nil, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	b.in(func() {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2)}, groups[v4])
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for _, data := range [][]byte{{}, ours[:headerLen], bytes.Replace(ours, []byte("_p2pnode"), []byte("_printer"), 1), ours} {
			_, _ = c.Write(data)
		}
	})
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	p, err := s.read(make([]byte, maxPacket))
	if err != nil || !bytes.Equal(p.data, ours) || p.index != l[0].index || p.from.String() != "10.9.0.2" {
		t.Errorf("read() = %v, %v, want our message first", p, err)
	}
}

func TestGarbageOnTheLink(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	first := a.find(t, "group", listen4)
	b.in(func() {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2)}, groups[v4])
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		good, err := packAnswer(answer{"0123456789abcdef", 60, bytes.Repeat([]byte("x"), 300)})
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = c.Write(good)
		for n := 0; n < len(good); n += 10 { // no more than a socket holds
			_, _ = c.Write(good[:n])
		}
	})
	await(t, "garbage is counted", func() bool { s := first.Stats(); return s.Garbage > 0 && s.Foreign == 1 })
	second := b.find(t, "group", listen4)
	first.wantFound(t, second, time.Second, "/ip4/10.9.0.2/udp/4001/quic-v1")
}

func TestLifecycles(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	for range 20 {
		f := a.find(t, "group", listen4)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(f.Refresh)
			wg.Go(func() { f.Peers() })
			wg.Go(func() { f.Close() })
		}
		wg.Wait()
		f.Refresh()
		if got := f.Peers(); got != nil {
			t.Errorf("Peers() after Close = %v, want none", got)
		}
	}
}

func TestFoundMayClose(t *testing.T) {
	a, b := newHost(t), newHost(t)
	wire(t, a, b, "10.9.0.1/24", "10.9.0.2/24")
	var f *Finder
	ready, closed := make(chan struct{}), make(chan error, 1)
	a.in(func() {
		var err error
		f, err = New(Config{
			Group: []byte("group"),
			Self:  newPeer(t),
			Addrs: func() []multiaddr.Multiaddr { return parseAddrs(listen4) },
			Found: func(peer.AddrInfo) { <-ready; closed <- f.Close() },
		})
		if err != nil {
			t.Error(err)
		}
	})
	close(ready)
	b.find(t, "group", listen4)
	select {
	case err := <-closed:
		if err != nil {
			t.Errorf("Close() by Found = %v, want nil", err)
		}
	case <-time.After(patience):
		t.Fatal("Close() by Found does not return")
	}
}
