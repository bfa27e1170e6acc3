package p2p

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

func TestLook(t *testing.T) {
	listen := addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1")
	a, b := newTestNode(t, Config{Listen: listen}), newTestNode(t, Config{Listen: listen})
	if err := a.Connect(testContext(t), b.ID(), b.Addrs()...); err != nil {
		t.Fatal(err)
	}
	var c network.Conn = a.bestConn(b.ID())
	sight, err := a.eye.look(testContext(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", sight)
	t.Logf("%+v", a.eye.nat(false))
}
