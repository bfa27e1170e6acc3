package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/multiformats/go-multiaddr"
)

// A circuit is a connection through a relay (https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md).
// The two ends prove who they are and encrypt as on any other; the relay passes
// bytes on.

// relayPatience bounds what a relay may take to open a circuit. It is less than
// what a peer is waited for, so that another relay can be tried.
const relayPatience = 5 * time.Second

// maxCircuitMessage is the longest message of the protocol that go-libp2p reads.
const maxCircuitMessage = 4096

// circuits is the transport. It accepts by go-libp2p's client, and dials by itself:
// that one lets a relay that does not answer stand in the way of all others for a
// minute.
type circuits struct {
	*client.Client
	host     host.Host
	upgrader transport.Upgrader
	log      *dialLog
}

// addCircuits adds the transport to a host, and listens.
func addCircuits(h host.Host, swarm transport.TransportNetwork, up transport.Upgrader, log *dialLog) error {
	c, err := client.New(h, up)
	if err != nil {
		return err
	}
	if err := swarm.AddTransport(&circuits{c, h, up, log}); err != nil {
		return err
	}
	if err := swarm.Listen(circuitAddr); err != nil {
		return err
	}
	c.Start()
	return nil
}

var circuitAddr = multiaddr.StringCast("/p2p-circuit")

// Dial connects to a peer through the relay that the address names.
func (t *circuits) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	return t.log.run(id, addr, func() (transport.CapableConn, error) { return t.dial(ctx, addr, id) })
}

func (t *circuits) dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (_ transport.CapableConn, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayPatience)
	defer cancel()
	scope, err := t.host.Network().ResourceManager().OpenConnection(network.DirOutbound, false, addr)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			scope.Done()
		}
	}()
	if err := scope.SetPeer(id); err != nil {
		return nil, err
	}
	s, err := t.open(ctx, addr, id)
	if err != nil {
		return nil, err
	}
	return t.upgrader.Upgrade(ctx, t, &circuitConn{s, addr}, network.DirOutbound, id, scope)
}

// open has the relay open a circuit to a peer, and returns the stream that leads
// there.
func (t *circuits) open(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (network.Stream, error) {
	relay, err := relayInfo(addr)
	if err != nil {
		return nil, err
	}
	if len(relay.Addrs) > 0 {
		t.host.Peerstore().AddAddrs(relay.ID, relay.Addrs, relayAddrTTL)
	}
	s, err := t.host.NewStream(ctx, relay.ID, proto.ProtoIDv2Hop)
	if err != nil {
		return nil, fmt.Errorf("reach the relay: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := askForCircuit(s, id); err != nil {
		_ = s.Reset()
		return nil, orCause(ctx, err)
	}
	return s, nil
}

// relayAddrTTL is how long the address of a relay is kept that came with an address
// of a peer.
const relayAddrTTL = 2 * time.Minute

// relayInfo returns the relay of a circuit's address.
func relayInfo(addr multiaddr.Multiaddr) (*peer.AddrInfo, error) {
	i := slices.IndexFunc(addr, func(c multiaddr.Component) bool { return c.Protocol().Code == multiaddr.P_CIRCUIT })
	if i < 1 {
		return nil, fmt.Errorf("%v names no relay", addr)
	}
	return peer.AddrInfoFromP2pAddr(addr[:i])
}

// strange tells whether an address is of a relay that there is no connection to.
func (k *hostKit) strange(addr multiaddr.Multiaddr) bool {
	relay, err := relayInfo(addr)
	return err == nil && k.swarm.Connectedness(relay.ID) != network.Connected
}

// A RelayError says why a relay opened no circuit.
type RelayError struct {
	Status circuitpb.Status
}

// Error says what the status means.
func (e *RelayError) Error() string {
	switch e.Status {
	case circuitpb.Status_NO_RESERVATION:
		return "the relay has no such peer"
	case circuitpb.Status_RESOURCE_LIMIT_EXCEEDED:
		return "the relay carries as much as it may"
	case circuitpb.Status_PERMISSION_DENIED:
		return "the relay refuses"
	case circuitpb.Status_CONNECTION_FAILED:
		return "the relay does not reach the peer"
	}
	return fmt.Sprintf("the relay says %v", e.Status)
}

func askForCircuit(s network.Stream, id peer.ID) error {
	return askRelay(s, &circuitpb.HopMessage{
		Type: circuitpb.HopMessage_CONNECT.Enum(),
		Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: id}),
	})
}

// askRelay asks a relay for something, and returns why it is not to be had.
func askRelay(s network.Stream, ask *circuitpb.HopMessage) error {
	if err := util.NewDelimitedWriter(s).WriteMsg(ask); err != nil {
		return err
	}
	status, err := readStatus(s)
	if err == nil && status != circuitpb.Status_OK {
		err = &RelayError{status}
	}
	return err
}

var errRelayAnswer = errors.New("the relay answers with something else")

func readStatus(s network.Stream) (circuitpb.Status, error) {
	r := util.NewDelimitedReader(s, maxCircuitMessage)
	defer r.Close()
	var answer circuitpb.HopMessage
	if err := r.ReadMsg(&answer); err != nil {
		return 0, fmt.Errorf("read from the relay: %w", err)
	}
	if answer.GetType() != circuitpb.HopMessage_STATUS {
		return 0, errRelayAnswer
	}
	return answer.GetStatus(), nil
}

// A circuitConn is the stream to a relay as a connection to whom it leads to.
type circuitConn struct {
	network.Stream
	addr multiaddr.Multiaddr
}

// Close breaks the circuit: there is nothing to be said at its end that the
// connection over it has not said.
func (c *circuitConn) Close() error { return c.Reset() }

func (c *circuitConn) LocalMultiaddr() multiaddr.Multiaddr  { return c.Conn().LocalMultiaddr() }
func (c *circuitConn) RemoteMultiaddr() multiaddr.Multiaddr { return c.addr }
func (c *circuitConn) LocalAddr() net.Addr                  { return circuitNetAddr{c.LocalMultiaddr()} }
func (c *circuitConn) RemoteAddr() net.Addr                 { return circuitNetAddr{c.addr} }

type circuitNetAddr struct{ multiaddr.Multiaddr }

func (circuitNetAddr) Network() string { return "p2p-circuit" }

// relayOf returns the relay of a connection, or "".
func relayOf(c network.Conn) peer.ID {
	addr := c.RemoteMultiaddr()
	if pathTo(addr) != PathRelay { // it is asked for often
		return ""
	}
	if info, err := relayInfo(addr); err == nil {
		return info.ID
	}
	return ""
}
