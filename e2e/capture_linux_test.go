package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"golang.org/x/sys/unix"
)

// Whoever sees all packets of two nodes learns nothing of the mesh from them: not
// which it is, who is in it, what they offer, nor what they send.
func TestCaptureShowsNothing(t *testing.T) {
	for _, tt := range []struct{ name, listen string }{
		{"TCP", "/ip4/127.0.0.1/tcp/0"},
		{"QUIC", "/ip4/127.0.0.1/udp/0/quic-v1"},
		{"WebSocket", "/ip4/127.0.0.1/tcp/0/ws"},
		{"WebSocket over TLS", "/ip4/127.0.0.1/tcp/0/tls/ws"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enterOwnNetwork(t)
			seen := capture(t)
			secrets := useMesh(t, tt.listen)
			flows := seen()
			total := 0
			for flow, data := range flows {
				total += len(data)
				for what, secret := range secrets {
					if bytes.Contains(data, secret) {
						t.Errorf("%s shows %s in clear", flow, what)
					}
				}
			}
			t.Logf("%d flows with %d bytes were captured, %d words looked for", len(flows), total, len(secrets))
			if total < 2*capturedPayload {
				t.Errorf("only %d bytes were captured of a payload of %d there and back", total, capturedPayload)
			}
		})
	}
}

// A capture would show what is sent in clear.
func TestCaptureShowsWhatIsInClear(t *testing.T) {
	enterOwnNetwork(t)
	seen := capture(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	word := []byte("a word in clear, in parts")
	for _, part := range [][]byte{word[:7], word[7:]} { // two packets
		if _, err := near.Write(part); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, make([]byte, len(part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, data := range seen() {
		if bytes.Contains(data, word) {
			return
		}
	}
	t.Error("the capture does not show what was sent in clear, want that it does")
}

// capturedPayload is how much is sent there and back.
const capturedPayload = 64 << 10

// useMesh founds a mesh, has a member join and list the members, and a service
// exposed, found and used. It returns what nobody else may see of it.
func useMesh(t *testing.T, listen string) map[string][]byte {
	t.Helper()
	alice := newNode(t, "alice-of-the-capture").up("--listen", listen, "--no-local")
	invite := alice.invite()
	bob := newNode(t, "bob-of-the-capture").join(invite, "--listen", listen, "--no-local")
	for _, n := range []*node{alice, bob} {
		await(t, "both list both", func() bool {
			all := n.run("peers")
			return strings.Contains(all, alice.name) && strings.Contains(all, bob.name)
		})
	}
	const service = "service-of-the-capture"
	alice.run("expose", service, serveEchoAtUnix(t))
	payload := bytes.Repeat([]byte("payload-of-the-capture "), capturedPayload/22)[:capturedPayload]
	checkEcho(t, bob, service, payload) // by whoever offers it, so that it has to be found
	checkEcho(t, bob, alice.name+"/"+service, payload)

	inv, err := credential.ParseInvite(invite)
	if err != nil {
		t.Fatal(err)
	}
	mesh := inv.Mesh()
	return map[string][]byte{
		"the mesh's ID":            mesh[:],
		"the mesh's ID as text":    []byte(mesh.String()),
		"the mesh's ID in hex":     []byte(hex.EncodeToString(mesh[:])),
		"a member's name":          []byte(alice.name),
		"another member's name":    []byte(bob.name),
		"a service's name":         []byte(service),
		"the payload":              payload[:22],
		"the invite":               []byte(invite),
		"the invite, some of it":   []byte(invite[len(invite)/2:][:16]),
		"what all the names share": []byte("of-the-capture"),
	}
}

func checkEcho(t *testing.T, from *node, target string, payload []byte) {
	t.Helper()
	s, err := from.dial(testContext(t), target)
	if err != nil && !strings.Contains(target, "/") {
		s, err = from.dial(testContext(t), "/"+target)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(payload)
		sent <- err
	}()
	got := make([]byte, len(payload))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("what %s sends back = %.40q, %v, want %.40q", target, got, err, payload)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// serveEchoAtUnix sends back what it is sent at a socket of which no packet is
// captured.
func serveEchoAtUnix(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "echo")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	handleEach(t, l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	return "unix:" + path
}

// enterOwnNetwork gives the test, and the processes that it starts, a network of
// their own. The thread ends with the test, for it stays locked.
func enterOwnNetwork(t *testing.T) {
	t.Helper()
	needs(t, "ip")
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip(t, "namespaces need root: "+err.Error())
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set lo up: %v: %s", err, out)
	}
}

// capture records all packets of the test's network until what it returns is
// called, which returns what went each way of each flow.
func capture(t *testing.T) func() map[string][]byte {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(toNetwork16(unix.ETH_P_ALL)))
	if err != nil {
		skip(t, "packets are captured with CAP_NET_RAW: "+err.Error())
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}
	last := make([]byte, 32) // sent at the end: what came before it is in
	if _, err := rand.Read(last); err != nil {
		t.Fatal(err)
	}
	flows, done := map[string][]byte{}, make(chan error, 1)
	go func() { done <- record(fd, last, flows) }()
	return func() map[string][]byte {
		ctx, cancel := context.WithTimeout(testContext(t), patience)
		defer cancel()
		sendLast(t, last)
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
		stats, statsErr := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil || statsErr != nil || stats.Drops > 0 {
			t.Fatalf("capture: %v, %v, %+v", err, statsErr, stats)
		}
		_ = unix.Close(fd)
		return flows
	}
}

// record adds the content of packets to their flows until one has the last.
func record(fd int, last []byte, flows map[string][]byte) error {
	packet := make([]byte, 128<<10)
	for {
		n, from, err := unix.Recvfrom(fd, packet, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue // each packet of lo is seen as it leaves and as it comes
		}
		if bytes.Contains(packet[:n], last) {
			return nil
		}
		flow, data := dissect(packet[:n])
		flows[flow] = append(flows[flow], data...)
	}
}

// dissect returns the content of a TCP or UDP packet and what it is of; and all
// of any other.
func dissect(p []byte) (flow string, data []byte) {
	const ether, udpHeader = 14, 8
	if len(p) < ether+20 || binary.BigEndian.Uint16(p[12:]) != unix.ETH_P_IP {
		return "what is not IPv4", p
	}
	ip := p[ether:min(len(p), ether+int(binary.BigEndian.Uint16(p[ether+2:])))]
	inner := ip[min(len(ip), int(ip[0]&15)*4):]
	if len(inner) < 20 && ip[9] == unix.IPPROTO_TCP || len(inner) < udpHeader {
		return "what is cut short", p
	}
	ends := fmt.Sprintf("%v:%d to %v:%d", net.IP(ip[12:16]), binary.BigEndian.Uint16(inner), net.IP(ip[16:20]), binary.BigEndian.Uint16(inner[2:]))
	switch ip[9] {
	case unix.IPPROTO_TCP:
		return "TCP " + ends, inner[min(len(inner), int(inner[12]>>4)*4):]
	case unix.IPPROTO_UDP:
		return "UDP " + ends, inner[udpHeader:]
	}
	return "another protocol of IPv4", p
}

// sendLast sends a packet to a port of the test's own.
func sendLast(t *testing.T, last []byte) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo(last, c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
}

func toNetwork16(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}
