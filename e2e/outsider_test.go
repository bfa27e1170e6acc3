package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
)

// A libp2p host that is no member dials every address of a node.
func TestOutsiderLearnsNothing(t *testing.T) {
	alice := expose(newNode(t, "alice").up())
	expose(newNode(t, "bob").join(alice.invite()))
	id, err := peer.Decode(alice.ready.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range alice.ready.Addrs {
		addr, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(s, func(t *testing.T) { probe(t, id, addr) })
	}
}

// whatNodesSpeak are the protocols that a node answers members.
var whatNodesSpeak = []protocol.ID{
	"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0",
	"/p2pnode/kad/1.0.0", "/meshsub/1.2.0", "/meshsub/1.1.0", "/floodsub/1.0.0",
	"/p2pnode/stream/1", "/p2pnode/roster/1", "/p2pnode/renew/1",
}

func probe(t *testing.T, id peer.ID, addr multiaddr.Multiaddr) {
	outsider, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	defer outsider.Close()
	gone := make(chan struct{})
	leave := sync.OnceFunc(func() { close(gone) })
	outsider.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { leave() }})
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Second)
	defer cancel()
	if err := outsider.Connect(ctx, peer.AddrInfo{ID: id, Addrs: []multiaddr.Multiaddr{addr}}); err != nil {
		return // refused before libp2p took it for connected
	}
	for _, c := range outsider.Network().ConnsToPeer(id) {
		for _, p := range whatNodesSpeak {
			if got := readOne(ctx, c, p); got > 0 {
				t.Errorf("%s answered an outsider", p)
			}
		}
	}
	select {
	case <-gone:
	case <-ctx.Done():
		t.Error("the outsider stays connected")
	}
	if got, err := outsider.Peerstore().GetProtocols(id); err != nil || len(got) > 0 {
		t.Errorf("the outsider has learned of the protocols %v, %v", got, err)
	}
	for _, a := range outsider.Peerstore().Addrs(id) {
		if !a.Equal(addr) {
			t.Errorf("the outsider has learned of the address %v", a)
		}
	}
}

// readOne asks for a protocol and returns how many bytes come back.
func readOne(ctx context.Context, c network.Conn, p protocol.ID) int {
	s, err := c.NewStream(ctx)
	if err != nil {
		return 0
	}
	defer s.Reset()
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(deadline)
	}
	name := "/multistream/1.0.0\n"
	ask := append([]byte{byte(len(name))}, name...)
	ask = append(append(ask, byte(len(p)+1)), string(p)+"\n"...)
	if _, err := s.Write(ask); err != nil {
		return 0
	}
	n, _ := s.Read(make([]byte, 64))
	return n
}
