package p2p

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/multiformats/go-multiaddr"
)

// A badRelay takes reservations, and does with circuits what carry says.
type badRelay struct {
	*Node
	asked atomic.Int32 // for circuits
}

// newBadRelay runs one. carry gets the stream of whoever asks for a circuit to a peer.
func newBadRelay(t testing.TB, carry func(r *Node, s network.Stream, to peer.ID)) *badRelay {
	t.Helper()
	r := &badRelay{Node: newOutsideNode(t, Config{Relay: Relay{Off: true}})}
	r.Host().SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
		var ask circuitpb.HopMessage
		in := util.NewDelimitedReader(s, maxCircuitMessage)
		defer in.Close()
		if err := in.ReadMsg(&ask); err != nil {
			_ = s.Reset()
			return
		}
		if ask.GetType() == circuitpb.HopMessage_RESERVE {
			answerHop(s, circuitpb.Status_OK)
			_ = s.Close()
			return
		}
		r.asked.Add(1)
		to, err := peer.IDFromBytes(ask.GetPeer().GetId())
		if err != nil {
			t.Errorf("a circuit is asked for to %x: %v", ask.GetPeer().GetId(), err)
		}
		carry(r.Node, s, to)
		_ = s.Reset()
	})
	return r
}

func answerHop(s network.Stream, status circuitpb.Status) {
	_ = util.NewDelimitedWriter(s).WriteMsg(&circuitpb.HopMessage{Type: circuitpb.HopMessage_STATUS.Enum(), Status: status.Enum()})
}

// swallow waits until the other end gives up.
func swallow(s io.Reader) { _, _ = io.Copy(io.Discard, s) }

// carryThrough opens the circuit as a relay does, and copies what from sends through
// change.
func carryThrough(change func(at int, b []byte) bool) func(*Node, network.Stream, peer.ID) {
	return func(r *Node, s network.Stream, to peer.ID) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		far, err := r.Host().NewStream(network.WithNoDial(ctx, "test"), to, proto.ProtoIDv2Stop)
		if err != nil {
			return
		}
		defer far.Reset()
		var answer circuitpb.StopMessage
		ask := &circuitpb.StopMessage{Type: circuitpb.StopMessage_CONNECT.Enum(), Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: s.Conn().RemotePeer()})}
		if err := util.NewDelimitedWriter(far).WriteMsg(ask); err != nil {
			return
		}
		in := util.NewDelimitedReader(far, maxCircuitMessage)
		defer in.Close()
		if in.ReadMsg(&answer) != nil || answer.GetStatus() != circuitpb.Status_OK {
			return
		}
		answerHop(s, circuitpb.Status_OK)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(s, far)
			_ = s.Reset()
		}()
		buf := make([]byte, 4096)
		for at := 0; ; {
			n, err := s.Read(buf)
			if n > 0 && !change(at, buf[:n]) {
				break
			}
			if _, werr := far.Write(buf[:n]); err != nil || werr != nil {
				break
			}
			at += n
		}
		_ = far.Reset()
		_ = s.Reset()
		<-done
	}
}

// flipAfter flips a bit of each byte from some place on.
func flipAfter(from int) func(int, []byte) bool {
	return func(at int, b []byte) bool {
		for i := range b {
			if at+i >= from {
				b[i] ^= 1
			}
		}
		return true
	}
}

// cutAfter ends the circuit at some place.
func cutAfter(from int) func(int, []byte) bool {
	return func(at int, b []byte) bool { return at+len(b) < from }
}

// afterHandshake is more than an end sends until a connection through a relay is made,
// and less than what the test sends afterwards.
const afterHandshake = 32 << 10

var badRelays = []struct {
	name  string
	carry func(*Node, network.Stream, peer.ID)
}{
	{"swallows what is asked of it", func(_ *Node, s network.Stream, _ peer.ID) { swallow(s) }},
	{"opens a circuit to nobody", func(_ *Node, s network.Stream, _ peer.ID) {
		answerHop(s, circuitpb.Status_OK)
		swallow(s)
	}},
	{"refuses", func(_ *Node, s network.Stream, _ peer.ID) { answerHop(s, circuitpb.Status_PERMISSION_DENIED) }},
	{"answers garbage", func(_ *Node, s network.Stream, _ peer.ID) {
		_, _ = s.Write(bytes.Repeat([]byte{0x5a}, 1<<16))
		swallow(s)
	}},
	{"answers with too long a message", func(_ *Node, s network.Stream, _ peer.ID) {
		_, _ = s.Write([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
		swallow(s)
	}},
	{"opens a circuit to itself", func(r *Node, s network.Stream, _ peer.ID) {
		answerHop(s, circuitpb.Status_OK)
		c, err := r.kit.upgrader.Upgrade(context.Background(), nil, &circuitConn{s, circuitAddr}, network.DirInbound, "", &network.NullScope{})
		if err == nil {
			c.Close()
		}
	}},
	{"flips bits from the start", carryThrough(flipAfter(0))},
	{"flips bits of the handshake", carryThrough(flipAfter(300))},
	{"cuts the handshake", carryThrough(cutAfter(300))},
}

// A relay that does not do what it should is no more than one that is not there: the
// dial goes through another, soon.
func TestBadRelayStandsInNobodysWay(t *testing.T) {
	for _, tt := range badRelays {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bad := newBadRelay(t, tt.carry)
			good, from, to := newOutsideNode(t, Config{}), newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
			for _, n := range []*Node{from, to} {
				connected(t, n, bad.Node)
				connected(t, n, good)
			}
			hasRelays(t, to, good, bad.Node)
			serveEcho(t, to, "/echo/1")
			dontLead(from, to.ID())
			from.Host().Peerstore().AddAddrs(to.ID(), throughRelay(bad.Node, to), patience)
			began := time.Now()
			if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
				t.Fatalf("echo = %v, want nil", err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("echo took %v, want 10 s at most", took)
			}
			for _, n := range []*Node{from, to} {
				for _, c := range n.kit.swarm.Conns() {
					if relayOf(c) == bad.ID() {
						t.Errorf("there is a connection through the bad relay: %v", c)
					}
				}
			}
		})
	}
}

// With nobody but such a relay the dial fails, soon, and says why; no stream comes of it.
func TestBadRelayAlone(t *testing.T) {
	for _, tt := range badRelays {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bad := newBadRelay(t, tt.carry)
			from, to := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
			connected(t, from, bad.Node)
			connected(t, to, bad.Node)
			hasRelays(t, to, bad.Node)
			serveEcho(t, to, "/echo/1")
			began := time.Now()
			err := echo(testContext(t), from, to.ID(), "/echo/1")
			var dial *DialError
			if !errors.As(err, &dial) || len(dial.Attempts) == 0 {
				t.Fatalf("echo = %v, want a DialError that says what was tried", err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v, want 10 s at most", took)
			}
			if bad.asked.Load() == 0 {
				t.Error("the relay was not asked: the test shows nothing")
			}
			for _, c := range to.Connections() {
				if c.Peer == from.ID() {
					t.Errorf("the other end has %+v", c)
				}
			}
		})
	}
}

// A relay that changes or cuts what is sent when all seemed well ends the streams,
// with an error that is no end of file: no byte is delivered that was not sent.
func TestRelayTurnsBad(t *testing.T) {
	for name, change := range map[string]func(int, []byte) bool{"flips bits": flipAfter(afterHandshake), "cuts": cutAfter(afterHandshake)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := newBadRelay(t, carryThrough(change))
			from, to := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
			connected(t, from, bad.Node)
			connected(t, to, bad.Node)
			hasRelays(t, to, bad.Node)
			dontLead(from, to.ID())
			near, far := openPlainStream(t, from, to)
			if near.Path() != PathRelay {
				t.Fatalf("the stream goes by %v, want %v", near.Path(), PathRelay)
			}
			sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			go func() {
				_, _ = near.Write(sent)
				_ = near.CloseWrite()
			}()
			_ = far.SetReadDeadline(time.Now().Add(patience))
			got, err := io.ReadAll(far)
			checkIs(t, "Read", err, ErrReset)
			if !bytes.HasPrefix(sent, got) || len(got) == len(sent) {
				t.Errorf("%d bytes arrive that are not the first of those sent", len(got))
			}
		})
	}
}

func TestRelayInfo(t *testing.T) {
	for _, tt := range []struct {
		name, addr string
		ok         bool
	}{
		{"through a relay", "/ip4/203.0.113.7/tcp/1/p2p/" + testID + "/p2p-circuit", true},
		{"with whom it leads to", "/ip4/203.0.113.7/tcp/1/p2p/" + testID + "/p2p-circuit/p2p/" + testID, true},
		{"without the relay's address", "/p2p/" + testID + "/p2p-circuit", true},
		{"without a relay", "/p2p-circuit", false},
		{"of a relay without a name", "/ip4/203.0.113.7/tcp/1/p2p-circuit", false},
		{"direct", "/ip4/203.0.113.7/tcp/1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info, err := relayInfo(multiaddr.StringCast(tt.addr))
			if (err == nil) != tt.ok || tt.ok && info.ID.String() != testID {
				t.Errorf("relayInfo(%s) = %v, %v, want %s: %v", tt.addr, info, err, testID, tt.ok)
			}
		})
	}
}

// Three nodes, of which two know nothing of each other: the first byte goes through
// the third.
func TestDialThroughARelay(t *testing.T) {
	from, relay, to := newRelayed(t, Config{}, Config{})
	dontLead(from, to.ID()) // and so it stays
	if got := from.KnownAddrs(to.ID()); len(got) > 0 {
		t.Fatalf("KnownAddrs = %v, want none", got)
	}
	near, far := openStream(t, from, to)
	for end, s := range map[string]*Stream{"here": near, "there": far} {
		if s.Path() != PathRelay {
			t.Errorf("%s the stream's path is %v, want %v", end, s.Path(), PathRelay)
		}
	}
	if near.Peer() != to.ID() || far.Peer() != from.ID() {
		t.Errorf("the ends are %v and %v, want %v and %v", near.Peer(), far.Peer(), to.ID(), from.ID())
	}
	for _, c := range from.kit.swarm.ConnsToPeer(to.ID()) {
		if relayOf(c) != relay.ID() || dialer(c) != from.ID() {
			t.Errorf("the connection is through %v, made by %v", relayOf(c), dialer(c))
		}
	}
	if got := relay.PathTo(to.ID()); got != PathLAN {
		t.Errorf("the relay's own path to the peer is %v, want %v", got, PathLAN)
	}
	if relay.streamsTo(to.ID()) != 0 {
		t.Errorf("the relay has %d streams of its own to the peer, want none", relay.streamsTo(to.ID()))
	}
}

func TestDirectOnly(t *testing.T) {
	t.Run("where there is only a relay", func(t *testing.T) {
		from, relay, to := newTestNode(t, Config{Listen: both}), newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
		connected(t, to, relay)
		hasRelays(t, to, relay)
		if err := from.Connect(testContext(t), to.ID(), throughRelay(relay, to)...); err != nil {
			t.Fatal(err)
		}
		_, err := from.Dial(WaitDirect(testContext(t), 50*time.Millisecond), to.ID(), "/echo/1")
		checkIs(t, "Dial with WaitDirect", err, ErrOnlyRelay)
		var dial *DialError
		if !errors.As(err, &dial) || dial.Peer != to.ID() {
			t.Errorf("Dial = %v, want a DialError of the peer", err)
		}
		ctx, cancel := context.WithTimeout(DirectOnly(testContext(t)), 50*time.Millisecond)
		defer cancel()
		_, err = from.Dial(ctx, to.ID(), "/echo/1")
		checkIs(t, "Dial with DirectOnly that is called off", err, context.DeadlineExceeded)
		began := time.Now()
		_, err = from.Dial(DirectOnly(testContext(t)), to.ID(), "/echo/1")
		checkIs(t, "Dial with DirectOnly", err, ErrOnlyRelay)
		if took := time.Since(began); took > directPatience+patience/6 {
			t.Errorf("Dial with DirectOnly took %v, want about %v", took, directPatience)
		}
		s, err := from.Dial(testContext(t), to.ID(), "/echo/1")
		if err != nil {
			t.Fatalf("Dial without = %v, want nil", err)
		}
		s.Close()
		if s.Path() != PathRelay {
			t.Errorf("without, the stream goes by %v, want %v", s.Path(), PathRelay)
		}
	})
	t.Run("where a path is found", func(t *testing.T) {
		from, _, to := newRelayed(t, Config{}, Config{})
		s, err := from.Dial(WaitDirect(testContext(t), patience), to.ID(), "/echo/1")
		if err != nil {
			t.Fatalf("Dial with WaitDirect = %v, want nil", err)
		}
		defer s.Close()
		if s.Path() != PathLAN {
			t.Errorf("the stream goes by %v, want %v", s.Path(), PathLAN)
		}
	})
	t.Run("when a path comes", func(t *testing.T) {
		from, relay, to := newRelayed(t, Config{}, Config{})
		dontLead(from, to.ID())
		if err := from.Connect(testContext(t), to.ID(), throughRelay(relay, to)...); err != nil {
			t.Fatal(err)
		}
		dialed := make(chan error, 1)
		go func() {
			s, err := from.Dial(WaitDirect(testContext(t), patience), to.ID(), "/echo/1")
			if err == nil {
				err = s.Close()
			}
			dialed <- err
		}()
		from.upgrades.dial(testContext(t), directOf(to)[0], to.ID())
		if err := <-dialed; err != nil {
			t.Errorf("Dial with WaitDirect = %v, want nil", err)
		}
	})
	t.Run("where there is a direct path", func(t *testing.T) {
		from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
		s, err := from.Dial(DirectOnly(testContext(t)), to.ID(), "/echo/1")
		if err != nil {
			t.Fatalf("Dial with DirectOnly = %v, want nil", err)
		}
		s.Close()
	})
	t.Run("where there is no path", func(t *testing.T) {
		_, err := newTestNode(t, Config{}).Dial(DirectOnly(testContext(t)), strangerID(t), "/echo/1")
		checkIs(t, "Dial with DirectOnly", err, ErrNoAddress)
	})
}

// What is told of a change of path, to whom runs the node.
func TestPathChanges(t *testing.T) {
	changes := make(chan PathChange, 64)
	from, relay, to := newRelayed(t, Config{OnPath: func(c PathChange) { changes <- c }}, Config{})
	if err := from.Connect(testContext(t), to.ID()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, from, "a path by the LAN", func([]Connection) bool { return from.PathTo(to.ID()) == PathLAN })
	if err := from.Disconnect(to.ID()); err != nil {
		t.Fatal(err)
	}
	var got []Path
	for ctx := testContext(t); ; {
		var c PathChange
		select {
		case c = <-changes:
		case <-ctx.Done():
			t.Fatalf("paths = %v, and then nothing, want that the connection is lost", got)
		}
		if c.Peer != to.ID() {
			continue
		}
		if c.To == PathRelay && c.Relay != relay.ID() {
			t.Errorf("%+v, want it through %v", c, relay.ID())
		}
		if c.Why == "" {
			t.Errorf("%+v does not say why", c)
		}
		if got = append(got, c.To); c.To == PathUnknown {
			break
		}
	}
	if i := slices.Index(got, PathLAN); i < 1 || got[0] != PathRelay {
		t.Errorf("paths = %v, want %v, then %v, then none", got, PathRelay, PathLAN)
	}
}
