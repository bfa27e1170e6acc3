package p2p

import (
	"context"
	"crypto/tls"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
)

// newOutsider runs a libp2p host, which knows of no admission.
func newOutsider(t testing.TB) host.Host {
	t.Helper()
	shown, err := webSocketTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSConfig(shown), websocket.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true})),
		libp2p.ListenAddrs(addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/tls/ws")...),
		libp2p.PrometheusRegisterer(prometheus.NewRegistry()),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// noConns waits until a host has no connection to a peer.
func noConns(t testing.TB, h host.Host, id peer.ID) {
	t.Helper()
	changed := make(chan struct{}, 1)
	note := &network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}}
	h.Network().Notify(note)
	defer h.Network().StopNotify(note)
	ctx := testContext(t)
	for len(h.Network().ConnsToPeer(id)) > 0 {
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("connections to %v = %v after %v, want none", id, h.Network().ConnsToPeer(id), patience)
		}
	}
}

func TestOutsiderLearnsNothing(t *testing.T) {
	n := newGatedNode(t, Config{
		Admission: secret("word"),
		Listen:    addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/tls/ws"),
	}, hurry)
	serveEcho(t, n, "/echo/1")
	protocols := n.Host().Mux().Protocols()
	for _, want := range []protocol.ID{"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/echo/1"} {
		if !slices.Contains(protocols, want) {
			t.Fatalf("Mux().Protocols() = %v, want %v among them", protocols, want)
		}
	}
	for _, addr := range n.Addrs() {
		for _, proto := range protocols {
			t.Run(addr.String()+" "+string(proto), func(t *testing.T) {
				t.Parallel()
				checkOutsider(t, n, addr, proto)
			})
		}
	}
}

func checkOutsider(t *testing.T, n *Node, addr multiaddr.Multiaddr, proto protocol.ID) {
	h := newOutsider(t)
	h.Peerstore().AddAddr(n.ID(), addr, patience)
	ctx := testContext(t)
	if s, err := h.NewStream(ctx, n.ID(), proto); err == nil {
		// It may look open for a moment, since the name is sent with the first
		// byte and the answer is not awaited.
		s.Write([]byte("x"))
		if got, err := io.ReadAll(s); len(got) > 0 || err == nil {
			t.Errorf("a stream for %s gave %q, %v, want nothing and an error", proto, got, err)
		}
	}
	noConns(t, h, n.ID())
	if got := h.Peerstore().Addrs(n.ID()); len(got) > 1 || len(got) == 1 && !got[0].Equal(addr) {
		t.Errorf("the outsider knows addresses %v, want at most %v", got, addr)
	}
	if got, err := h.Peerstore().GetProtocols(n.ID()); err != nil || len(got) > 0 {
		t.Errorf("the outsider knows protocols %v, %v, want none", got, err)
	}
	for _, key := range []string{"AgentVersion", "ProtocolVersion"} {
		if got, err := h.Peerstore().Get(n.ID(), key); err == nil {
			t.Errorf("the outsider knows %s = %v, want nothing", key, got)
		}
	}
	if got := n.Host().Network().ConnsToPeer(h.ID()); len(got) > 0 {
		t.Errorf("the node has connections %v to the outsider, want none", got)
	}
}

// hurry shortens how long a gate waits for those who do not hang up.
func hurry(g *gate) { g.farewell = 50 * time.Millisecond }

// Below libp2p, on bare streams, all that comes is one byte of reason.
func TestOutsiderReadsTheReason(t *testing.T) {
	for _, over := range transports {
		t.Run(over.name, func(t *testing.T) {
			t.Parallel()
			n := newGatedNode(t, Config{Admission: secret("word"), Listen: addrs(over.listen)}, hurry)
			serveEcho(t, n, "/echo/1")
			for _, proto := range n.Host().Mux().Protocols() {
				var got []byte
				done := make(chan struct{})
				attack(t, n, func(c network.Conn) {
					defer close(done)
					got = askForAll(t, c, proto)
				})
				await(t, "the node hangs up", done)
				if want := string([]byte{admissionVersion, byte(RefusedMalformed)}); string(got) != want {
					t.Errorf("on streams for %s the node wrote %q, want %q", proto, got, want)
				}
			}
		})
	}
}

// askForAll opens two streams, asks for a protocol on both, and returns what
// comes back on either until the node hangs up.
func askForAll(t *testing.T, c network.Conn, proto protocol.ID) []byte {
	var all []byte
	var streams []exchangeStream
	for range 2 {
		s, err := firstStream(context.Background(), c, true)
		if err != nil {
			t.Error(err)
			return nil
		}
		s.Write(append(appendToken(appendToken(nil, "/multistream/1.0.0"), string(proto)), "payload"...))
		streams = append(streams, s)
	}
	for _, s := range streams {
		got, _ := io.ReadAll(s)
		all = append(all, got...)
	}
	return all
}

func TestNodeDialsAnOutsider(t *testing.T) {
	h := newOutsider(t)
	for _, addr := range h.Addrs() {
		t.Run(addr.String(), func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t, Config{Admission: secret("word")})
			err := n.Connect(testContext(t), h.ID(), addr)
			checkIs(t, "Connect to an outsider", err, errNoExchange)
			if c := n.Connections(); len(c) > 0 {
				t.Errorf("Connections() = %v, want none", c)
			}
			noConns(t, h, n.ID())
			if got, err := h.Peerstore().GetProtocols(n.ID()); err != nil || len(got) > 0 {
				t.Errorf("the outsider knows protocols %v, %v, want none", got, err)
			}
			if got := h.Peerstore().Addrs(n.ID()); len(got) > 0 {
				t.Errorf("the outsider knows addresses %v, want none", got)
			}
		})
	}
}
