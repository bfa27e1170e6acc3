package overlay

import (
	"bytes"
	"encoding/base32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

var secretSocket = multiaddr.StringCast("/unix/run/secret.sock")

// stopListening leaves a node without an address. Its connections stay.
func stopListening(t testing.TB, m *Mesh) {
	t.Helper()
	swarm, ok := m.node.Host().Network().(interface{ ListenClose(...multiaddr.Multiaddr) })
	if !ok {
		t.Fatal("the network can't stop listening")
	}
	swarm.ListenClose(m.node.Host().Network().ListenAddresses()...)
	end := time.Now().Add(patience)
	for len(m.Addrs()) > 0 {
		if time.Now().After(end) {
			t.Fatalf("Addrs = %v, want none", m.Addrs())
		}
		m.pause(time.Millisecond)
	}
}

// An invite names its issuer whether it has an address or not, and then others,
// those with addresses first.
func TestInviteOfANodeWithoutAddresses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	alice := mustOpenAs(t, founder)
	var others []peer.ID
	for i, name := range []string{"bob", "carol", "dave"} {
		m := mustOpenAs(t, founder.admit(t, seeded(byte(3+i)), now, credential.Terms{Name: name}), full(t, alice))
		watchEntry(t, alice, m.node.ID(), "connects", func(e *entry) bool { return e.connected })
		if err := alice.node.Identified(testContext(t), m.node.ID()); err != nil {
			t.Fatal(err)
		}
		others = append(others, m.node.ID())
	}
	stopListening(t, alice)
	nearby := slices.Sorted(slices.Values(others))[0] // whom alice would name first
	alice.node.Host().Peerstore().ClearAddrs(nearby)
	alice.node.Host().Peerstore().AddAddr(nearby, secretSocket, peerstore.PermanentAddrTTL)

	start := must(alice.Invite(InviteOptions{})).Start()
	if len(start) != 1+inviteOthers || start[0].ID != alice.node.ID() || len(start[0].Addrs) > 0 {
		t.Fatalf("the invite starts at %v, want alice without an address and %d others", start, inviteOthers)
	}
	for _, info := range start[1:] {
		if info.ID == nearby || len(info.Addrs) == 0 {
			t.Errorf("the invite starts at %v, want those with addresses", info)
		}
	}
	for _, id := range others {
		if id != nearby {
			alice.node.Host().Peerstore().ClearAddrs(id)
		}
	}
	for _, info := range must(alice.Invite(InviteOptions{})).Start() {
		if len(info.Addrs) > 0 {
			t.Errorf("the invite starts at %v, want no address", info)
		}
	}
}

// The path of a unix socket is in nothing that leaves the machine.
func TestUnixAddressesStayHere(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	alice := mustOpenAs(t, founder)
	bob := mustOpenAs(t, founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"}), full(t, alice))
	id := bob.node.ID()
	watchEntry(t, alice, id, "says that it is up", func(e *entry) bool { return e.presence != nil })
	alice.node.Host().Peerstore().AddAddr(id, secretSocket, peerstore.PermanentAddrTTL)

	alice.note(id)
	if err := alice.known.save(); err != nil {
		t.Fatal(err)
	}
	text := must(alice.Invite(InviteOptions{})).Text()
	payload := must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.TrimPrefix(text, "p2pnode1"))))
	var roster bytes.Buffer
	if err := alice.writeRoster(&roster); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		has  []byte
	}{
		{"an invite", payload, alice.self.Key},
		{"a presence statement", must(alice.ownPresence()), alice.self.Key},
		{"the roster", roster.Bytes(), bob.self.Key},
		{"what is known of a peer", must(alice.store.all(membersBucket))[string(id)], nil},
	} {
		if len(tt.data) == 0 || !bytes.Contains(tt.data, tt.has) {
			t.Errorf("%s is %x, want %x in it", tt.name, tt.data, tt.has)
		}
		if bytes.Contains(tt.data, []byte("secret")) {
			t.Errorf("%s is %q, which has the path of a socket", tt.name, tt.data)
		}
	}
}

func TestPickAddrs(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []string
		n    int
		want []string
	}{
		{"none", nil, 4, nil},
		{"sockets alone", []string{"/unix/run/a.sock", "/unix/run/b.sock"}, 4, nil},
		{"a socket among others", []string{"/unix/run/a.sock", "/ip4/192.168.0.2/tcp/1"}, 4, []string{"/ip4/192.168.0.2/tcp/1"}},
		{"the public ones first, and one on loopback", []string{
			"/ip4/127.0.0.1/tcp/1", "/ip4/192.168.0.2/udp/1/quic-v1", "/ip4/192.168.0.2/tcp/1", "/ip4/1.1.1.1/tcp/1", "/unix/run/a.sock", "/ip6/::1/tcp/1",
		}, 4, []string{"/ip4/1.1.1.1/tcp/1", "/ip4/192.168.0.2/tcp/1", "/ip4/192.168.0.2/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/1"}},
		{"one by WebSocket over TLS", []string{
			"/ip4/1.1.1.1/tcp/443/tls/ws", "/ip4/1.1.1.1/tcp/1", "/ip6/2001:4860::1/tcp/1", "/ip4/1.1.1.1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/1",
		}, 4, []string{"/ip4/1.1.1.1/tcp/1", "/ip6/2001:4860::1/tcp/1", "/ip4/1.1.1.1/tcp/443/tls/ws", "/ip4/127.0.0.1/tcp/1"}},
		{"one address alone by TCP", []string{"/ip4/1.1.1.1/tcp/443/tls/ws", "/ip4/1.1.1.1/tcp/1"}, 2, []string{"/ip4/1.1.1.1/tcp/1"}},
		{"WebSocket over TLS last", []string{"/ip4/1.1.1.1/tcp/443/wss", "/ip4/1.1.1.1/tcp/1/ws"}, 3,
			[]string{"/ip4/1.1.1.1/tcp/1/ws", "/ip4/1.1.1.1/tcp/443/wss"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var in []multiaddr.Multiaddr
			for _, s := range tt.in {
				in = append(in, multiaddr.StringCast(s))
			}
			var got []string
			for _, a := range pickAddrs(in, tt.n) {
				got = append(got, a.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("pickAddrs(%v, %d) = %v, want %v", tt.in, tt.n, got, tt.want)
			}
		})
	}
}
