package p2p

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/multiformats/go-multiaddr"
)

func TestListenAddrs(t *testing.T) {
	for _, tt := range []struct {
		name     string
		families []string
		want     string // PORT stands for the one port
	}{
		{"a machine with IPv4 alone", []string{"ip4"},
			"/ip4/0.0.0.0/tcp/PORT /ip4/0.0.0.0/tcp/PORT/ws /ip4/0.0.0.0/udp/PORT/quic-v1"},
		{"a machine with IPv4 and IPv6", []string{"ip4", "ip6"},
			"/ip4/0.0.0.0/tcp/PORT /ip4/0.0.0.0/tcp/PORT/ws /ip4/0.0.0.0/udp/PORT/quic-v1 " +
				"/ip6/::/tcp/PORT /ip6/::/tcp/PORT/ws /ip6/::/udp/PORT/quic-v1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.families) > 1 && !hasIPv6() {
				t.Skip("this machine has no IPv6")
			}
			addrs, err := listenAddrs(0, tt.families)
			if err != nil {
				t.Fatal(err)
			}
			port, err := addrs[0].ValueForProtocol(multiaddr.P_TCP)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Trim(fmt.Sprint(addrs), "[]")
			if want := strings.ReplaceAll(tt.want, "PORT", port); got != want {
				t.Errorf("listenAddrs(0, %v) = %v, want %v", tt.families, got, want)
			}
		})
	}
}

func TestPortIsPreferred(t *testing.T) {
	first, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	port := first.Port()
	if port == 0 {
		t.Fatal("Port() = 0, want the port of the first address")
	}
	second, err := New(Config{Port: port})
	if err != nil {
		t.Fatalf("New with a Port that is taken = %v, want another port", err)
	}
	if second.Port() == port || second.Port() == 0 {
		t.Errorf("Port() of a second node = %d, want another than %d", second.Port(), port)
	}
	second.Close()
	first.Close()
	again, err := New(Config{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.Port(); got != port {
		t.Errorf("Port() of a node that came back = %d, want %d", got, port)
	}
	for _, a := range again.Addrs() {
		if !strings.Contains(a.String(), fmt.Sprintf("/%d", port)) {
			t.Errorf("Addrs() has %v, want port %d in all", a, port)
		}
	}
}

func TestPortTakenForUDPAlone(t *testing.T) {
	udp, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	port := uint16(udp.LocalAddr().(*net.UDPAddr).Port)
	n, err := New(Config{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if got := n.Port(); got == port {
		t.Errorf("Port() = %d, whose UDP port is another program's", got)
	}
}

func TestListenAtOneAddress(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			n := newTestNode(t, Config{Listen: addrs(tt.listen)})
			got := n.Addrs()
			want := strings.Replace(tt.listen, "/0", fmt.Sprintf("/%d", n.Port()), 1)
			if len(got) != 1 || got[0].String() != want {
				t.Errorf("Addrs() = %v, want %s alone", got, want)
			}
		})
	}
}

func TestListenWithoutAPort(t *testing.T) {
	n := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0")})
	n.Close()
	if got := n.Port(); got != 0 {
		t.Errorf("Port() of a node that listens nowhere = %d, want 0", got)
	}
}

// An address that is asked for and cannot be had is an error that names it, and
// what was opened before is closed.
func TestListenFails(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	node := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/udp/0/quic-v1")})
	for _, tt := range []struct {
		name, addr string
		cause      error // nil if only text is checked
		text       string
	}{
		{"TCP", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port(tcp.Addr())), syscall.EADDRINUSE, "address already in use"},
		{"WebSocket", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/ws", port(tcp.Addr())), syscall.EADDRINUSE, "address already in use"},
		{"QUIC", fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", port(udp.LocalAddr())), syscall.EADDRINUSE, "address already in use"},
		{"QUIC of another node", node.Addrs()[0].String(), syscall.EADDRINUSE, "address already in use"},
		{"an address of another machine", "/ip4/192.0.2.1/tcp/0", syscall.EADDRNOTAVAIL, "cannot assign requested address"},
		{"a transport there is not", "/ip4/127.0.0.1/udp/0/webrtc-direct", nil, "no transport"},
		{"a peer at the end", "/ip4/127.0.0.1/tcp/0/p2p/" + testID, nil, "no transport"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			free := freeAddr(t)
			n, err := New(Config{Listen: addrs(free, tt.addr)})
			if err == nil {
				n.Close()
				t.Fatalf("New = nil, want that %s cannot be listened at", tt.addr)
			}
			if tt.cause != nil && !errors.Is(err, tt.cause) {
				t.Errorf("New = %v, want %v", err, tt.cause)
			}
			if want := "p2p: listen at " + tt.addr + ": "; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("New = %v, want %q and then %q", err, want, tt.text)
			}
			newTestNode(t, Config{Listen: addrs(free)}).Close() // it was closed again
		})
	}
}

func TestListenTwiceAtOneAddress(t *testing.T) {
	addr := freeAddr(t)
	n, err := New(Config{Listen: addrs(addr, addr)})
	if err == nil {
		n.Close()
		t.Fatalf("New with an address twice = nil, want an error")
	}
	newTestNode(t, Config{Listen: addrs(addr, addr+"/ws")}) // one port, two transports
}

func port(a net.Addr) int {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}

// freeAddr returns a TCP address at which nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port(l.Addr()))
}
