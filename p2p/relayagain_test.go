package p2p

import (
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// When the connection to the only relay is found to be dead there is another to it:
// where an address has changed, the relay is still there.
func TestLostRelayIsConnectedToAgain(t *testing.T) {
	n, r := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, n, r)
	hasRelays(t, n, r)
	first := n.bestConn(r.ID())
	var dead atomic.Bool
	dead.Store(true)
	service := ping.PingService{Host: r.kit.host}
	r.kit.host.SetStreamHandler(ping.ID, func(s network.Stream) {
		if dead.Load() && s.Conn().RemotePeer() == n.ID() {
			_ = s.Reset()
			return
		}
		service.PingHandler(s)
	})
	waitFor(t, n, "the dead connection is closed", func([]Connection) bool { return first.IsClosed() })
	dead.Store(false)
	until(t, "the relay relays again", func() bool { return len(n.Relays()) == 1 && n.bestConn(r.ID()) != nil })
}
