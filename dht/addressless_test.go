package dht

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	kadpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/p2p"
	"google.golang.org/protobuf/proto"
)

// A machine is where nodes find each other by ID.
type machine struct {
	mu    sync.Mutex
	nodes map[peer.ID]*p2p.Node
}

func newMachine() *machine { return &machine{nodes: map[peer.ID]*p2p.Node{}} }

var errElsewhere = errors.New("no such peer on this machine")

// connectFrom returns how a node connects to a peer by its ID.
func (m *machine) connectFrom(node *p2p.Node) func(context.Context, peer.ID) error {
	return func(ctx context.Context, id peer.ID) error {
		m.mu.Lock()
		other := m.nodes[id]
		m.mu.Unlock()
		if other == nil {
			return errElsewhere
		}
		return node.Connect(ctx, id, other.Addrs()...)
	}
}

// none is of nodes that have no address to tell of: the ones they listen at are
// kept from the DHT.
func none([]multiaddr.Multiaddr) []multiaddr.Multiaddr { return nil }

type resident struct {
	node  *p2p.Node
	table *DHT
}

// newResident runs a node without addresses on a machine, or one with its own if
// addressed is true.
func (m *machine) newResident(t testing.TB, addressed bool, c Config) *resident {
	t.Helper()
	node, err := p2p.New(p2p.Config{Listen: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	h := newKadHost(node)
	h.connect = m.connectFrom(node)
	if !addressed {
		h.portable, h.peers.portable = none, none
	}
	m.mu.Lock()
	m.nodes[node.ID()] = node
	m.mu.Unlock()
	table, err := newDHT(node, h, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Errorf("table.Close() = %v", err)
		}
		if slices.ContainsFunc(node.Host().Peerstore().PeersWithAddrs(), func(id peer.ID) bool {
			return slices.ContainsFunc(node.KnownAddrs(id), noAddress.Equal)
		}) {
			t.Errorf("a node would dial %v", noAddress)
		}
	})
	return &resident{node, table}
}

// newVillage runs n nodes without addresses on a machine, of which each has met
// only the first.
func newVillage(t testing.TB, n int, c Config) (*machine, []*resident) {
	t.Helper()
	m := newMachine()
	var all []*resident
	for range n {
		r := m.newResident(t, false, c)
		if len(all) > 0 {
			r.meet(t, m, all[0])
		}
		all = append(all, r)
	}
	return m, all
}

func (r *resident) meet(t testing.TB, m *machine, o *resident) {
	t.Helper()
	ctx := inTime(t)
	if err := m.connectFrom(r.node)(ctx, o.node.ID()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []*DHT{r.table, o.table} {
		if err := table.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Nodes without an address find providers, each other and records.
func TestAddresslessNodesFindEachOther(t *testing.T) {
	_, all := newVillage(t, 6, Config{})
	ctx := inTime(t)
	for i, r := range all {
		p := r.table.Provide(fmt.Sprint(i))
		defer p.Stop()
		<-p.Done()
	}
	for i, a := range all {
		for j, b := range all {
			found := false
			for info := range a.table.Providers(ctx, fmt.Sprint(j)) {
				found = found || info.ID == b.node.ID()
				if i != j && len(info.Addrs) > 0 {
					t.Errorf("%d: Providers(%d) yields the addresses %v, want none", i, j, info.Addrs)
				}
			}
			if !found {
				t.Errorf("%d: Providers(%d) does not yield it", i, j)
			}
			if i == j {
				continue
			}
			if addrs, err := a.table.FindPeer(ctx, b.node.ID()); err != nil || len(addrs) > 0 {
				t.Errorf("%d: FindPeer(%d) = %v, %v, want no addresses and nil", i, j, addrs, err)
			}
			if a.node.PathTo(b.node.ID()) == p2p.PathUnknown {
				t.Errorf("%d: FindPeer(%d) has not connected to it by its ID", i, j)
			}
		}
	}
}

// A peer without an address is not found from another machine, even if others know
// it; nor is one that nobody knows.
func TestFindPeerThatCannotBeReached(t *testing.T) {
	_, all := newVillage(t, 2, Config{})
	hub, asking := all[0], all[1]
	ctx := inTime(t)
	away := newMachine()
	far, stranger := away.newResident(t, false, Config{}), away.newResident(t, false, Config{})
	away.mu.Lock()
	away.nodes[hub.node.ID()] = hub.node // as if it had an address that far was told of
	away.mu.Unlock()
	far.meet(t, away, hub)
	for name, who := range map[string]*resident{"on another machine": far, "a stranger": stranger} {
		if _, err := asking.table.FindPeer(ctx, who.node.ID()); !errors.Is(err, ErrNotFound) {
			t.Errorf("FindPeer of a peer that is %s = %v, want %v", name, err, ErrNotFound)
		}
	}
}

// Nodes with addresses and nodes without are in one DHT.
func TestAddresslessNodeAmongOthers(t *testing.T) {
	m := newMachine()
	hub, near, far := m.newResident(t, true, Config{}), m.newResident(t, false, Config{}), m.newResident(t, true, Config{})
	near.meet(t, m, hub)
	far.meet(t, m, hub)
	for _, r := range []*resident{near, far} {
		p := r.table.Provide(r.node.ID().String())
		defer p.Stop()
		<-p.Done()
	}
	for _, tt := range []struct {
		name      string
		from, who *resident
		want      []multiaddr.Multiaddr
	}{
		{"one with addresses", near, far, nil}, // which near has no use for
		{"one without", far, near, nil},
		{"one with addresses, by one that has them", hub, far, far.node.Addrs()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := inTime(t)
			var got *peer.AddrInfo
			for info := range tt.from.table.Providers(ctx, tt.who.node.ID().String()) {
				got = &info
			}
			if got == nil || got.ID != tt.who.node.ID() || slices.ContainsFunc(got.Addrs, noAddress.Equal) {
				t.Fatalf("Providers yields %v, want %v", got, tt.who.node.ID())
			}
			for _, want := range tt.want {
				if !slices.ContainsFunc(got.Addrs, want.Equal) {
					t.Errorf("Providers yields %v, want %v among them", got.Addrs, want)
				}
			}
			if _, err := tt.from.table.FindPeer(ctx, tt.who.node.ID()); err != nil {
				t.Errorf("FindPeer = %v, want nil", err)
			}
		})
	}
}

// Who returns, and knows others by their ID alone, finds them again.
func TestKnownWithoutAddresses(t *testing.T) {
	m, all := newVillage(t, 1, Config{})
	back := m.newResident(t, false, Config{Known: func() []peer.AddrInfo { return []peer.AddrInfo{{ID: all[0].node.ID()}} }})
	if err := back.table.Ready(inTime(t)); err != nil {
		t.Errorf("Ready = %v, want nil", err)
	}
}

// The path of a unix socket goes to nobody: not of the node, not of its peers.
func TestUnixAddressesStayHere(t *testing.T) {
	m := newMachine()
	hub, other, asking := m.newResident(t, true, Config{}), m.newResident(t, true, Config{}), m.newResident(t, true, Config{})
	other.meet(t, m, hub)
	asking.meet(t, m, hub)
	ctx := inTime(t)
	secret := multiaddr.StringCast("/unix/run/secret.sock")
	hub.node.Host().Peerstore().AddAddr(other.node.ID(), secret, peerstore.PermanentAddrTTL)
	p := other.table.Provide("greetings")
	defer p.Stop()
	<-p.Done()
	if got := hub.table.host.peers.Addrs(other.node.ID()); slices.ContainsFunc(got, secret.Equal) {
		t.Errorf("kad-dht sees %v", got)
	}
	key, err := keyCID("greetings")
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range []*kadpb.Message{
		kadpb.NewMessage(kadpb.Message_FIND_NODE, []byte(other.node.ID()), 0),
		kadpb.NewMessage(kadpb.Message_GET_PROVIDERS, key.Hash(), 0),
	} {
		answer := exchange(t, ctx, asking, hub, ask)
		if !bytes.Contains(answer, []byte(other.node.ID())) {
			t.Errorf("%v: the answer %x does not tell of the peer", ask.Type, answer)
		}
		if bytes.Contains(answer, []byte("secret")) {
			t.Errorf("%v: the answer %q has the path of a socket", ask.Type, answer)
		}
	}
}

// exchange sends a message of kad-dht and returns the bytes of the answer.
func exchange(t testing.TB, ctx context.Context, from, to *resident, ask *kadpb.Message) []byte {
	t.Helper()
	s, err := from.node.Dial(p2p.Plain(ctx), to.node.ID(), DefaultPrefix+"/kad/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data, err := proto.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(data))), data...)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(s)
	size, err := binary.ReadUvarint(in)
	if err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(in, answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestPortable(t *testing.T) {
	tcp, unix := multiaddr.StringCast("/ip4/192.0.2.1/tcp/1"), multiaddr.StringCast("/unix/run/secret.sock")
	in := []multiaddr.Multiaddr{unix, tcp, noAddress}
	if got := portable(in); len(got) != 1 || !got[0].Equal(tcp) {
		t.Errorf("portable(%v) = %v, want %v alone", in, got, tcp)
	}
	if !in[0].Equal(unix) || !in[1].Equal(tcp) {
		t.Errorf("portable has changed what it was given to %v", in)
	}
}
