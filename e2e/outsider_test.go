package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/prometheus/client_golang/prometheus"
)

// whatNodesSpeak are protocols that a node answers members in. It may answer in
// more: those that it tells members of are all tried.
var whatNodesSpeak = []protocol.ID{
	"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0",
	"/p2pnode/kad/1.0.0", "/meshsub/1.2.0",
	"/p2pnode/stream/1", "/p2pnode/services/1", "/p2pnode/roster/1", "/p2pnode/renew/1",
	"/p2pnode/revocations/1", "/p2pnode/redeem/1", "/p2pnode/claims/1",
}

// questions are what a member gets an answer to. Identify answers to nothing at
// all, ping sends back 32 bytes, and the DHT is asked for the peers near a key:
// FIND_NODE, in protobuf with its length before it.
var questions = map[protocol.ID]string{
	"/ipfs/id/1.0.0":     "",
	"/ipfs/ping/1.0.0":   strings.Repeat("?", 32),
	"/p2pnode/kad/1.0.0": "\x07\x08\x04\x12\x03key",
}

// everyTransport returns where a node listens that does by all of them, on one port
// and by each family of addresses.
func everyTransport(t *testing.T) string {
	t.Helper()
	var all []string
	at := port(freePort(t))
	for _, base := range []string{"/ip4/0.0.0.0", "/ip6/::"} {
		l, err := net.Listen("tcp", map[string]string{"/ip4/0.0.0.0": "127.0.0.1:0", "/ip6/::": "[::1]:0"}[base])
		if err != nil {
			continue // this machine has none
		}
		l.Close()
		tcp := base + "/tcp/" + at
		all = append(all, tcp, tcp+"/ws", tcp+"/tls/ws", base+"/udp/"+at+"/quic-v1")
	}
	return strings.Join(all, ",")
}

// probesAtOnce bounds the hosts that dial at a time: the node hangs up on who is not
// admitted soon, be it that the machine is busy.
const probesAtOnce = 16

// A libp2p host, which is no member, dials every address of a node.
func TestOutsiderLearnsNothing(t *testing.T) {
	alice := expose(newNode(t, "alice").up("--listen", everyTransport(t)))
	invite := alice.invite()
	expose(newNode(t, "bob").join(invite))
	id, err := peer.Decode(alice.ready.ID)
	if err != nil {
		t.Fatal(err)
	}
	spoken := checkMemberIsAnswered(t, id, invite)

	var transports []string
	var probes sync.WaitGroup // not parallel subtests, which are few at a time and mostly wait
	turns := make(chan struct{}, probesAtOnce)
	for _, s := range alice.ready.Addrs {
		addr, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		_, last := multiaddr.SplitLast(addr)
		name := last.Protocol().Name
		if strings.HasSuffix(s, "/tls/ws") {
			name = "tls/ws"
		}
		transports = append(transports, name)
		for _, p := range spoken {
			turns <- struct{}{}
			probes.Go(func() {
				defer func() { <-turns }()
				if err := probe(testContext(t), id, addr, p); err != nil {
					t.Errorf("%s at %v: %v", p, addr, err)
				}
			})
		}
	}
	probes.Wait()
	slices.Sort(transports)
	if got, want := slices.Compact(transports), []string{"quic-v1", "tcp", "tls/ws", "ws"}; !slices.Equal(got, want) {
		t.Errorf("the node has addresses for %v, want %v", got, want)
	}
}

// checkMemberIsAnswered checks that a member gets answers to what the outsider
// will ask, without which the outsider's getting none would mean nothing. It
// returns all that the node speaks.
func checkMemberIsAnswered(t *testing.T, id peer.ID, invite string) []protocol.ID {
	t.Helper()
	ctx := testContext(t)
	mesh, err := overlay.Join(ctx, invite, overlay.Config{Name: "member", NoLocal: true})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	member := mesh.Node().Host()
	for p := range questions {
		if _, err := ask(ctx, member, id, p); err != nil {
			t.Errorf("a member that asks by %s gets %v, want an answer", p, err)
		}
	}
	if err := mesh.Node().Identified(ctx, id); err != nil {
		t.Fatal(err)
	}
	spoken, err := member.Peerstore().GetProtocols(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range whatNodesSpeak {
		if !slices.Contains(spoken, p) {
			t.Errorf("a member learns that the node speaks %v, want %s too", spoken, p)
		}
	}
	return spoken
}

// ask asks a peer by a protocol and returns the first byte of the answer.
func ask(ctx context.Context, h host.Host, id peer.ID, p protocol.ID) (byte, error) {
	s, err := h.NewStream(ctx, id, p)
	if err != nil {
		return 0, err
	}
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	// Only now is the protocol's name sent, as for all that libp2p has no choice of.
	if _, err := io.WriteString(s, questions[p]); err != nil {
		return 0, err
	}
	var answer [1]byte
	_, err = io.ReadFull(s, answer[:])
	return answer[0], err
}

// probe has an outsider ask a node by a protocol at one address, and returns what
// it learns that it should not.
func probe(ctx context.Context, id peer.ID, addr multiaddr.Multiaddr, p protocol.ID) error {
	outsider, err := libp2p.New(
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true})),
		libp2p.PrometheusRegisterer(prometheus.NewRegistry()),
	)
	if err != nil {
		return err
	}
	defer outsider.Close()
	outsider.Peerstore().AddAddr(id, addr, patience)
	connected, gone := make(chan struct{}), make(chan struct{})
	connect, leave := sync.OnceFunc(func() { close(connected) }), sync.OnceFunc(func() { close(gone) })
	outsider.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(network.Network, network.Conn) { connect() },
		DisconnectedF: func(network.Network, network.Conn) { leave() },
	})
	if got, err := ask(ctx, outsider, id, p); err == nil {
		return fmt.Errorf("an outsider reads %q, want nothing", got)
	}
	for _, event := range []struct {
		name string
		done <-chan struct{}
	}{{"connected at all", connected}, {"hung up on", gone}} {
		select {
		case <-event.done:
		case <-ctx.Done():
			return fmt.Errorf("the outsider is not %s", event.name)
		}
	}
	return learned(outsider, id, addr)
}

// learned returns what a host knows of a peer but for the address that it dialed.
func learned(h host.Host, id peer.ID, dialed multiaddr.Multiaddr) error {
	var errs []error
	store := h.Peerstore()
	if got, err := store.GetProtocols(id); err != nil || len(got) > 0 {
		errs = append(errs, fmt.Errorf("the outsider learns the protocols %v, %v", got, err))
	}
	for _, a := range store.Addrs(id) {
		if !a.Equal(dialed) {
			errs = append(errs, fmt.Errorf("the outsider learns the address %v", a))
		}
	}
	for _, key := range []string{"AgentVersion", "ProtocolVersion"} {
		if got, err := store.Get(id, key); err == nil {
			errs = append(errs, fmt.Errorf("the outsider learns %s, which is %v", key, got))
		}
	}
	for _, other := range store.PeersWithAddrs() {
		if other != id && other != h.ID() {
			errs = append(errs, fmt.Errorf("the outsider learns of the peer %v", other))
		}
	}
	return errors.Join(errs...)
}
