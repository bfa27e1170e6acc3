package p2p

import (
	"context"
	"net"
	"testing"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sys/unix"
)

// A handshake that does not come about is begun once more, with short segments.
func TestTCPIsTriedAgainWithShortSegments(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	segments := make(chan int, 4)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() }) // it is silent until then
			raw, err := c.(*net.TCPConn).SyscallConn()
			if err != nil {
				return
			}
			_ = raw.Control(func(fd uintptr) {
				size, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
				segments <- size
			})
		}
	}()
	at, err := manet.FromNetAddr(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	n := newTestNode(t, Config{})
	ctx, cancel := context.WithCancel(testContext(t))
	failed := make(chan error, 1)
	go func() { failed <- n.Connect(ctx, strangerID(t), []multiaddr.Multiaddr{at}...) }()
	if first := <-segments; first <= narrowSegment {
		t.Errorf("the first try has segments of %d bytes, want what the path has", first)
	}
	if second := <-segments; second > narrowSegment {
		t.Errorf("the second try has segments of %d bytes, want at most %d", second, narrowSegment)
	}
	cancel()
	if err := <-failed; err == nil {
		t.Error("Connect = nil, want that nobody answers")
	}
}
