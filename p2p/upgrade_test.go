package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"golang.org/x/crypto/cryptobyte"
)

// dontLead keeps a node from looking for better paths to a peer by itself.
func dontLead(n *Node, id peer.ID) {
	n.upgrades.mu.Lock()
	defer n.upgrades.mu.Unlock()
	n.upgrades.loops[id] = &upgradeLoop{again: make(chan struct{}, 1)}
}

// hasRelays waits until a node can be reached through these relays.
func hasRelays(t testing.TB, n *Node, relays ...*Node) {
	t.Helper()
	for _, r := range relays {
		waitFor(t, n, "a relay more", func([]Connection) bool {
			for _, id := range n.Relays() {
				if id == r.ID() {
					return true
				}
			}
			return false
		})
	}
}

// throughRelay returns a node's addresses through a relay.
func throughRelay(relay, n *Node) (out []multiaddr.Multiaddr) {
	for _, a := range directOf(relay) {
		if dialRank(a).transport == 0 { // one is enough
			out = append(out, multiaddr.StringCast(fmt.Sprintf("%v/p2p/%v/p2p-circuit", a, relay.ID())))
		}
	}
	return out
}

// newRelayed returns two nodes that know of each other nothing but the relay between
// them, and have no connection yet.
func newRelayed(t testing.TB, a, b Config) (from, relay, to *Node) {
	t.Helper()
	from, relay, to = newOutsideNode(t, a), newOutsideNode(t, Config{}), newOutsideNode(t, b)
	connected(t, from, relay)
	connected(t, to, relay)
	hasRelays(t, to, relay)
	return from, relay, to
}

// newLiar returns a node that has found no way to another but a relay, and can't: it
// takes no address of this machine for one to be dialed at.
func newLiar(t testing.TB) (_, _ *Node) {
	t.Helper()
	liar, relay, to := newTestNode(t, Config{Listen: both}), newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, to, relay)
	hasRelays(t, to, relay)
	dontLead(liar, to.ID())
	dontLead(to, liar.ID())
	if err := liar.Connect(testContext(t), to.ID(), throughRelay(relay, to)...); err != nil {
		t.Fatal(err)
	}
	waitFor(t, to, "one with the liar", func([]Connection) bool { return to.PathTo(liar.ID()) == PathRelay })
	return liar, to
}

// propose lays an offer before a node in an exchange that this end leads, and has it
// act upon it.
func propose(from, to *Node, message, role []byte) error {
	to.upgrades.mu.Lock()
	delete(to.upgrades.followedAt, from.ID()) // that is another test's
	to.upgrades.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := from.open(ctx, from.bestConn(to.ID()), upgradeProtocol)
	if err != nil {
		return err
	}
	defer s.Reset()
	stop := endWith(ctx, s)
	defer stop()
	if _, err := s.Write(message); err != nil {
		return err
	}
	data, err := receiveMessage(s, maxUpgradeMessage)
	if err != nil {
		return err
	}
	if _, err := parseOffer(data); err != nil {
		return err
	}
	if _, err := s.Write(role); err != nil {
		return err
	}
	_, err = io.ReadAll(s)
	return err
}

func framed(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := sendMessage(&b, data, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var anOffer = offer{
	nat: [2]NAT{{Mapping: MappingSame, Filtering: FilteringPort, UDP: Yes}, {UDP: No}},
	addrs: addrs("/ip4/192.168.1.7/tcp/4001", "/ip4/203.0.113.7/udp/4001/quic-v1",
		"/ip6/2001:db8::7/udp/4001/quic-v1"),
	took: 1234 * time.Millisecond,
}

func marshalled(t testing.TB, o offer) []byte {
	t.Helper()
	data, err := o.marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sameOffer(a, b offer) bool {
	if a.took != b.took || len(a.addrs) != len(b.addrs) {
		return false
	}
	for i := range a.nat {
		if a.nat[i].Mapping != b.nat[i].Mapping || a.nat[i].Filtering != b.nat[i].Filtering || a.nat[i].UDP != b.nat[i].UDP {
			return false
		}
	}
	for i := range a.addrs {
		if !a.addrs[i].Equal(b.addrs[i]) {
			return false
		}
	}
	return true
}

func TestOffer(t *testing.T) {
	full := offer{}
	for i := range maxOffered {
		full.addrs = append(full.addrs, multiaddr.StringCast(fmt.Sprintf("/ip6/2001:db8::%x/udp/4001/quic-v1", i)))
	}
	for _, tt := range []struct {
		name     string
		in, want offer
	}{
		{"empty", offer{}, offer{}},
		{"of all", anOffer, anOffer},
		{"of as many addresses as may be", full, full},
		{"that took too long to count", offer{took: 2 * time.Hour}, offer{took: (1<<32 - 1) * time.Microsecond}},
		{"what else is known is not told", offer{nat: [2]NAT{{UDP: Yes, TCP: Yes, External: someAddr4, Seen: []Sight{{Peer: "a"}}}}}, offer{nat: [2]NAT{{UDP: Yes}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := marshalled(t, tt.in)
			if len(data) > maxUpgradeMessage {
				t.Errorf("it has %d bytes, more than %d", len(data), maxUpgradeMessage)
			}
			got, err := parseOffer(data)
			if err != nil || !sameOffer(got, tt.want) {
				t.Errorf("parseOffer = %+v, %v, want %+v", got, err, tt.want)
			}
			for i := range data {
				_, err := parseOffer(data[:i])
				checkIs(t, "parseOffer of it cut short", err, errUpgrade)
			}
			_, err = parseOffer(append(data, 0))
			checkIs(t, "parseOffer of it with one byte more", err, errUpgrade)
		})
	}
}

// badOffers are refused.
var badOffers = []struct {
	name string
	data func() []byte
}{
	{"nothing", func() []byte { return nil }},
	{"an unknown mapping", func() []byte { return changedOffer(0, byte(MappingDependent)+1) }},
	{"an unknown filtering", func() []byte { return changedOffer(1, byte(FilteringPort)+1) }},
	{"an unknown verdict", func() []byte { return changedOffer(5, byte(No)+1) }},
	{"a list longer than the message", func() []byte { return changedOffer(10, 0xff) }},
	{"an address longer than the list", func() []byte { return changedOffer(12, 0xff) }},
	{"an address that is none", func() []byte { return changedOffer(13, 0xff) }},
	{"an address of nothing", func() []byte { return offerOf(1, nil) }},
	{"one address too many", func() []byte { return offerOf(maxOffered+1, addrs("/ip4/203.0.113.7/tcp/1")[0].Bytes()) }},
	{"1000 addresses", func() []byte { return offerOf(1000, circuitAddr.Bytes()) }},
}

func changedOffer(at int, to byte) []byte {
	data, _ := anOffer.marshal()
	data[at] = to
	return data
}

func offerOf(n int, addr []byte) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 10))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for range n {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(addr) })
		}
	})
	return b.BytesOrPanic()
}

func TestOffersRefused(t *testing.T) {
	for _, tt := range badOffers {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseOffer(tt.data())
			checkIs(t, "parseOffer", err, errUpgrade)
		})
	}
}

func FuzzOffer(f *testing.F) {
	for _, o := range []offer{{}, anOffer} {
		data, err := o.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, bad := range badOffers {
		f.Add(bad.data())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseOffer(data)
		if err != nil {
			checkIs(t, "parseOffer", err, errUpgrade)
			return
		}
		if len(o.addrs) > maxOffered {
			t.Errorf("parseOffer takes %d addresses, more than %d", len(o.addrs), maxOffered)
		}
		again, err := parseOffer(marshalled(t, o))
		if err != nil || !sameOffer(o, again) {
			t.Errorf("parseOffer of the same again = %+v, %v, want %+v", again, err, o)
		}
		for _, a := range o.addrs {
			probeTarget(a)
			pathTo(a)
		}
	})
}

func TestClientRole(t *testing.T) {
	same, dependent := offer{nat: [2]NAT{{Mapping: MappingSame}}}, offer{nat: [2]NAT{{Mapping: MappingDependent}}}
	for _, tt := range []struct {
		name        string
		here, there offer
		tries       int
		want        bool
	}{
		{"the first try", same, same, 0, true},
		{"the second", same, same, 1, false},
		{"here ports can't be told", dependent, same, 1, true},
		{"there they can't", same, dependent, 0, false},
		{"on neither side", dependent, dependent, 1, false},
		{"nothing is known", offer{}, offer{}, 0, true},
	} {
		if got := clientRole(tt.here, tt.there, tt.tries); got != tt.want {
			t.Errorf("%s: clientRole = %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Two that meet over a relay and can reach each other find that out. Streams stay
// where they are, and new ones go the new way.
func TestUpgrade(t *testing.T) {
	from, relay, to := newRelayed(t, Config{}, Config{})
	serveEcho(t, to, "/echo/1")
	old, err := from.Dial(testContext(t), to.ID(), "/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if old.Path() != PathRelay {
		t.Errorf("the first stream goes by %v, want %v", old.Path(), PathRelay)
	}
	say(t, old, "before")
	for _, n := range []*Node{from, to} {
		waitFor(t, n, "one with the other that is no relay's", func([]Connection) bool {
			return n.PathTo(from.ID()) == PathLAN || n.PathTo(to.ID()) == PathLAN
		})
	}
	say(t, old, "after")
	s, err := from.Dial(testContext(t), to.ID(), "/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Path() != PathLAN {
		t.Errorf("a stream after the upgrade goes by %v, want %v", s.Path(), PathLAN)
	}
	carried := relay.Report().Relaying.Bytes
	say(t, s, "directly")
	if got := relay.Report().Relaying.Bytes; got-carried > 4096 { // not what goes over the stream, but identify, pings
		t.Errorf("the relay carries %d bytes for a stream that is direct", got-carried)
	}
	until(t, "how it went is known", func() bool { _, ok := from.Upgraded(to.ID()); return ok })
	if u, _ := from.Upgraded(to.ID()); u.Path != PathLAN || u.Err != nil || u.Tries != 1 {
		t.Errorf("Upgraded = %+v, want a path by the LAN at the first try", u)
	}
	if got := from.Why(to.ID()).Upgrade; got == nil {
		t.Error("Why tells of no upgrade")
	}
}

// Who is met over a relay, and can be dialed, relays as well.
func TestUpgradeBringsARelay(t *testing.T) {
	from, relay, to := newRelayed(t, Config{}, Config{})
	if err := from.Connect(testContext(t), to.ID(), throughRelay(relay, to)...); err != nil {
		t.Fatal(err)
	}
	waitFor(t, from, "a connection that it made by TCP", func(all []Connection) bool {
		return slices.ContainsFunc(all, func(c Connection) bool {
			return c.Peer == to.ID() && !c.Inbound && c.Path != PathRelay && !isQUIC(c.Addr)
		})
	})
}

// say sends a word to an echo and waits for it.
func say(t testing.TB, s *Stream, word string) {
	t.Helper()
	if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte(word)); err != nil {
		t.Fatalf("Write = %v, want nil", err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != word {
		t.Fatalf("echo of %q = %q, %v", word, got, err)
	}
}

func TestUpgradeRefusesMalformed(t *testing.T) {
	liar, to := newLiar(t)
	good := framed(t, marshalled(t, offer{}))
	leader := []byte{0, 1, 0}
	if err := propose(liar, to, good, leader); err != nil {
		t.Errorf("a proper exchange = %v, want nil", err)
	}
	for _, bad := range badOffers {
		t.Run(bad.name, func(t *testing.T) {
			checkIs(t, "the exchange", propose(liar, to, framed(t, bad.data()), leader), ErrReset)
		})
	}
	for _, tt := range []struct {
		name          string
		message, role []byte
	}{
		{"a message of 64 kB", append([]byte{0xff, 0xff}, make([]byte, 1<<16)...), leader},
		{"one of a byte more than may be", framed(t, make([]byte, maxUpgradeMessage+1)), leader},
		{"1000 addresses that are used", framed(t, offerOf(1000, addrs("/ip4/203.0.113.7/tcp/1")[0].Bytes())), leader},
		{"no such role", good, []byte{0, 1, 2}},
		{"a role of nothing", good, []byte{0, 0}},
		{"a role of two bytes", good, []byte{0, 2, 1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkIs(t, "the exchange", propose(liar, to, tt.message, tt.role), ErrReset)
		})
	}
	until(t, "nobody is followed any more", func() bool { return !follows(to, liar.ID()) })
}

func follows(n *Node, id peer.ID) bool {
	n.upgrades.mu.Lock()
	defer n.upgrades.mu.Unlock()
	return n.upgrades.following[id] > 0
}

// Over a connection that is direct there is nothing to be looked for.
func TestUpgradeOverADirectPathIsRefused(t *testing.T) {
	a, b := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, a, b)
	checkIs(t, "the exchange", propose(a, b, framed(t, marshalled(t, offer{})), []byte{0, 1, 0}), ErrReset)
}

func TestMayFollow(t *testing.T) {
	u, now := newUpgrades(nil), time.Unix(1e9, 0)
	for i, tt := range []struct {
		id    peer.ID
		after time.Duration
		want  bool
	}{
		{"a", 0, true},
		{"a", followEvery - 1, false},
		{"b", 0, true},
		{"a", 1, true},
		{"a", time.Hour, false}, // two go on
	} {
		now = now.Add(tt.after)
		if got := u.mayFollow(tt.id, now); got != tt.want {
			t.Errorf("step %d: mayFollow(%s) = %v, want %v", i+1, tt.id, got, tt.want)
		}
	}
	u.followed("a")
	if !u.mayFollow("a", now) {
		t.Error("mayFollow after one has ended = false, want true")
	}
}

// Where both ends lead, one of them gives way.
func TestMayLead(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, tt := range []struct {
		name    string
		peer    peer.ID
		follows bool // whether the peer has begun
		after   time.Duration
		want    bool
	}{
		{"nobody else leads", "a", false, 0, true},
		{"one with a smaller ID does", "a", true, 0, false},
		{"one with a larger ID does", "z", true, 0, true},
		{"one has for so long that nothing will come of it", "a", true, followFor, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpgrades(&Node{id: "m"})
			if tt.follows && !u.mayFollow(tt.peer, now) {
				t.Fatal("mayFollow = false, want true")
			}
			if got := u.mayLead(tt.peer, now.Add(tt.after)); got != tt.want {
				t.Errorf("mayLead = %v, want %v", got, tt.want)
			}
			if got := u.mayFollow(tt.peer, now.Add(time.Hour)); got == tt.want {
				t.Errorf("mayFollow meanwhile = %v, want %v", got, !tt.want)
			}
			u.led(tt.peer)
			if !u.mayFollow(tt.peer, now.Add(2*time.Hour)) && tt.want {
				t.Error("mayFollow afterwards = false, want true")
			}
		})
	}
}

// A peer that names somebody else's addresses as its own has that one sent no more
// than ten packets, however often it tries, whatever the roles are and whoever leads.
func TestLiarCantFloodABystander(t *testing.T) {
	for _, tt := range []struct {
		name  string
		roles []byte // of the node that is lied to
	}{
		{"which is told to open the way", []byte{0, 0, 0}},
		{"which is told to dial", []byte{1, 1, 1}},
		{"which is told both", []byte{0, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			liar, to := newLiar(t)
			v := newVictim(t, "127.0.0."+fmt.Sprint(10+len(tt.name)))
			for i, role := range tt.roles {
				lie := offer{addrs: v.addrs}
				lie.nat[0] = NAT{Mapping: Mapping(1 + i%3), Filtering: FilteringPort, UDP: Yes}
				if err := propose(liar, to, framed(t, marshalled(t, lie)), []byte{0, 1, role}); err != nil {
					t.Errorf("exchange %d = %v, want nil", i+1, err)
				}
			}
			v.check(t)
		})
	}
	t.Run("which leads", func(t *testing.T) {
		t.Parallel()
		liar, to := newLiar(t)
		v := newVictim(t, "127.0.0.40")
		instead(t, liar, upgradeProtocol, func(s *Stream) {
			defer s.Close()
			if _, err := receiveMessage(s, maxUpgradeMessage); err == nil {
				data, err := offer{addrs: v.addrs}.marshal()
				_ = sendMessage(s, data, err)
				_, _ = io.ReadAll(s)
			}
		})
		for tries := range 3 {
			to.upgrades.try(to.bestConn(liar.ID()), tries)
		}
		v.check(t)
	})
}

// A victim is a machine whose addresses somebody else gives for its own: some UDP
// ports, and one where it takes TCP.
type victim struct {
	udp   []*bystander
	tcp   net.Listener
	conns chan int
	addrs []multiaddr.Multiaddr
}

func newVictim(t testing.TB, ip string) *victim {
	t.Helper()
	v := &victim{conns: make(chan int, 1)}
	for range 4 {
		b := newBystander(t, ip)
		v.udp = append(v.udp, b)
		v.addrs = append(v.addrs, quicAddr(b.at()))
	}
	var err error
	if v.tcp, err = net.Listen("tcp", net.JoinHostPort(ip, "0")); err != nil {
		t.Fatal(err)
	}
	go func() {
		n := 0
		for {
			c, err := v.tcp.Accept()
			if err != nil {
				break
			}
			n++
			c.Close()
		}
		v.conns <- n
	}()
	at := netip.MustParseAddrPort(v.tcp.Addr().String())
	v.addrs = append(v.addrs, multiaddr.StringCast(fmt.Sprintf("/ip4/%v/tcp/%d", at.Addr(), at.Port())))
	t.Cleanup(func() { v.tcp.Close() })
	return v
}

func (v *victim) check(t testing.TB) {
	t.Helper()
	total := 0
	for _, b := range v.udp {
		total += b.stop(t)
	}
	v.tcp.Close()
	conns := <-v.conns
	const most = 10 // what docs/security.md promises
	if total+conns > most {
		t.Errorf("%d datagrams and %d connections come to a bystander, want %d at most", total, conns, most)
	}
	if total+conns == 0 {
		t.Error("nothing at all was sent: the test shows nothing")
	}
}

// Addresses that mean something else to whom they are told are not tried.
func TestWorthTrying(t *testing.T) {
	n := newTestNode(t, Config{Listen: both})
	good := addrs("/ip4/192.168.1.7/tcp/4001", "/ip4/203.0.113.7/tcp/4001", "/ip4/203.0.113.7/udp/4001/quic-v1", "/ip4/203.0.113.7/tcp/443/tls/ws")
	bad := append(addrs(
		"/ip4/127.0.0.1/tcp/22", "/ip6/::1/tcp/22", "/ip6/fe80::1/tcp/22", "/ip4/0.0.0.0/tcp/22", "/ip4/203.0.113.7/tcp/0",
		"/ip4/224.0.0.251/udp/5353/quic-v1", "/ip4/255.255.255.255/udp/1/quic-v1", "/dns4/example.com/tcp/4001",
		"/dns4/example.com/tcp/443/wss", "/ip4/203.0.113.7/tcp/4001/ws", "/ip4/127.0.0.1/tcp/443/wss", "/ip4/203.0.113.7/udp/4001",
		"/ip4/203.0.113.7/tcp/4001/p2p/"+testID+"/p2p-circuit", "/unix/run/p2pnode.sock", "/memory/1",
	), directOf(n)...)
	got := n.upgrades.worthTrying(append(bad, good...))
	if len(got) != len(good) {
		t.Fatalf("worthTrying = %v, want %v", got, good)
	}
	for i, a := range got {
		if !a.Equal(good[i]) {
			t.Errorf("worthTrying[%d] = %v, want %v", i, a, good[i])
		}
	}
}

func TestUpgradeReason(t *testing.T) {
	symmetric, blocked := NAT{Mapping: MappingDependent, Filtering: FilteringPort, UDP: Yes}, NAT{UDP: No}
	cone := NAT{Mapping: MappingSame, Filtering: FilteringAddress, UDP: Yes}
	for _, tt := range []struct {
		name string
		u    Upgrade
		want string
	}{
		{"there is one", Upgrade{Path: PathLAN}, "there is a lan path"},
		{"it could not be tried", Upgrade{Path: PathRelay, Err: errors.New("why")}, "it could not be looked for: why"},
		{"UDP is blocked here", Upgrade{Path: PathRelay, Here: [2]NAT{blocked}}, "UDP does not get out of this network, and nobody can connect to the other by TCP"},
		{"UDP is blocked there", Upgrade{Path: PathRelay, There: [2]NAT{blocked}}, "UDP does not get out of the other's network, and nobody can connect to this node by TCP"},
		{"two symmetric NATs", Upgrade{Path: PathRelay, Punchable: No, Here: [2]NAT{symmetric}, There: [2]NAT{symmetric}},
			"no hole can be punched between these two NATs: here ports are others for each destination and filtering is by address and port, there others for each destination and address and port"},
		{"it should have worked", Upgrade{Path: PathRelay, Punchable: Yes, Tries: 3, Here: [2]NAT{cone}, There: [2]NAT{cone}},
			"none of the other's addresses answered in 3 tries, though a hole can be punched between these two NATs"},
		{"nothing is known", Upgrade{Path: PathRelay, Tries: 1}, "none of the other's addresses answered in 1 tries; what NATs there are is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.u.Reason(); got != tt.want {
				t.Errorf("Reason() = %q, want %q", got, tt.want)
			}
		})
	}
}
