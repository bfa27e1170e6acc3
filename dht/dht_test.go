package dht_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/dht"
	"github.com/p2pnode/p2pnode/p2p"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A member of a test's DHT.
type member struct {
	node  *p2p.Node
	table *dht.DHT
}

// newMember runs a node and its table, on loopback by TCP.
func newMember(t testing.TB, c dht.Config) *member {
	t.Helper()
	node, err := p2p.New(p2p.Config{Listen: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		t.Fatal(err)
	}
	table, err := dht.New(node, c)
	if err != nil {
		node.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Errorf("table.Close() = %v", err)
		}
		if err := node.Close(); err != nil {
			t.Errorf("node.Close() = %v", err)
		}
	})
	return &member{node, table}
}

// newStar runs n members of which each has met only the first.
func newStar(t testing.TB, n int, c dht.Config) []*member {
	t.Helper()
	all := make([]*member, n)
	for i := range all {
		all[i] = newMember(t, c)
		if i > 0 {
			all[i].meet(t, all[0])
		}
	}
	return all
}

func (m *member) meet(t testing.TB, o *member) {
	t.Helper()
	ctx := testContext(t)
	if err := m.node.Connect(ctx, o.node.ID(), o.node.Addrs()...); err != nil {
		t.Fatal(err)
	}
	for _, table := range []*dht.DHT{m.table, o.table} {
		if err := table.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestFindPeerThroughOthers(t *testing.T) {
	all := newStar(t, 5, dht.Config{})
	ctx := testContext(t)
	for i, a := range all {
		for j, b := range all {
			if i == j {
				continue
			}
			addrs, err := a.table.FindPeer(ctx, b.node.ID())
			if err != nil {
				t.Fatalf("%d: FindPeer(%d) = %v", i, j, err)
			}
			if want := b.node.Addrs()[0]; !slices.ContainsFunc(addrs, want.Equal) {
				t.Errorf("%d: FindPeer(%d) = %v, want %v among them", i, j, addrs, want)
			}
		}
	}
}

func TestFindPeerErrors(t *testing.T) {
	ctx := testContext(t)
	stranger := newMember(t, dht.Config{}).node.ID()
	pair := newStar(t, 2, dht.Config{})
	alone := newMember(t, dht.Config{})
	closed := newMember(t, dht.Config{})
	closed.table.Close()
	for _, tt := range []struct {
		name string
		from *member
		want error
	}{
		{"nobody knows the peer", pair[0], dht.ErrNotFound},
		{"nobody to ask", alone, dht.ErrNoPeers},
		{"closed", closed, dht.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.from.table.FindPeer(ctx, stranger); !errors.Is(err, tt.want) {
				t.Errorf("FindPeer = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestProvidersAreFoundUntilTheyStop(t *testing.T) {
	all := newStar(t, 4, dht.Config{Republish: 50 * time.Millisecond})
	for _, m := range all[1:3] {
		defer m.table.Provide("greetings").Stop()
	}
	want := []peer.ID{all[1].node.ID(), all[2].node.ID()}
	got := map[peer.ID]bool{}
	for ctx := testContext(t); len(got) < len(want); {
		if ctx.Err() != nil {
			t.Fatalf("Providers = %v, want %v", got, want)
		}
		for info := range all[3].table.Providers(ctx, "greetings") {
			got[info.ID] = true
		}
	}
	for info := range all[3].table.Providers(testContext(t), "other") {
		t.Errorf("Providers of a key that nobody provides yields %v", info)
	}
}

func TestPublishedIsFoundAtOnce(t *testing.T) {
	all := newStar(t, 5, dht.Config{})
	for i, m := range all {
		p := m.table.Provide(fmt.Sprint(i))
		defer p.Stop()
		<-p.Done()
		for _, asking := range all {
			found := false
			for info := range asking.table.Providers(testContext(t), fmt.Sprint(i)) {
				found = found || info.ID == m.node.ID()
			}
			if !found {
				t.Errorf("the provider of %d is not found once it is published", i)
			}
		}
	}
}

func TestProvideBeforeAnybodyIsThere(t *testing.T) {
	a, b := newMember(t, dht.Config{}), newMember(t, dht.Config{})
	defer a.table.Provide("early").Stop()
	b.meet(t, a)
	for ctx := testContext(t); ; {
		for info := range b.table.Providers(ctx, "early") {
			if info.ID != a.node.ID() {
				t.Errorf("Providers yields %v, want %v", info.ID, a.node.ID())
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatal("the provider was never found")
		}
	}
}

// evenNumbers keeps even numbers, and prefers the largest.
type evenNumbers struct{}

func (evenNumbers) Validate(key string, value []byte) error {
	var n int
	if _, err := fmt.Sscan(string(value), &n); err != nil || n%2 != 0 {
		return errors.New("not an even number")
	}
	return nil
}

func (evenNumbers) Select(key string, values [][]byte) (int, error) {
	best, index := -1, 0
	for i, v := range values {
		var n int
		if fmt.Sscan(string(v), &n); n > best {
			best, index = n, i
		}
	}
	return index, nil
}

func TestRecords(t *testing.T) {
	all := newStar(t, 4, dht.Config{Records: map[string]dht.Validator{"even": evenNumbers{}}})
	ctx := testContext(t)
	if err := all[1].table.Put(ctx, "/even/a", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := all[2].table.Put(ctx, "/even/a", []byte("4")); err != nil {
		t.Fatal(err)
	}
	got, err := all[3].table.Get(ctx, "/even/a")
	if err != nil || string(got) != "4" {
		t.Errorf("Get = %q, %v, want the larger, 4", got, err)
	}
	for _, tt := range []struct{ name, key, value string }{
		{"value that the validator refuses", "/even/b", "3"},
		{"namespace without a validator", "/odd/b", "3"},
		{"key without a namespace", "b", "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := all[1].table.Put(ctx, tt.key, []byte(tt.value)); err == nil {
				t.Error("Put = nil, want an error")
			}
		})
	}
	if _, err := all[3].table.Get(ctx, "/even/none"); !errors.Is(err, dht.ErrNotFound) {
		t.Errorf("Get of a record that nobody put = %v, want %v", err, dht.ErrNotFound)
	}
}

func TestPublishKeepsTheRecordNew(t *testing.T) {
	all := newStar(t, 3, dht.Config{
		Records:   map[string]dht.Validator{"even": evenNumbers{}},
		Republish: 20 * time.Millisecond,
	})
	n := 0
	defer all[1].table.Publish("/even/count", func() ([]byte, error) {
		n += 2
		return []byte(fmt.Sprint(n)), nil
	}).Stop()
	for ctx := testContext(t); ; {
		got, err := all[2].table.Get(ctx, "/even/count")
		if err != nil && !errors.Is(err, dht.ErrNotFound) {
			t.Fatal(err)
		}
		if len(got) > 0 && string(got) != "2" { // published at least twice
			return
		}
	}
}

func TestConfigFaults(t *testing.T) {
	node, err := p2p.New(p2p.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	for _, tt := range []struct {
		name string
		in   dht.Config
	}{
		{"negative time", dht.Config{Republish: -1}},
		{"prefix without a slash", dht.Config{Prefix: "x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if table, err := dht.New(node, tt.in); err == nil {
				table.Close()
				t.Error("New = nil error, want one")
			}
		})
	}
}

func TestCloseDuringLookups(t *testing.T) {
	all := newStar(t, 3, dht.Config{})
	started := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			_, err := all[1].table.Get(context.Background(), "/x/y")
			_, err2 := all[1].table.FindPeer(context.Background(), all[2].node.ID())
			if i == 0 {
				close(started)
			}
			if errors.Is(err, dht.ErrClosed) || errors.Is(err2, dht.ErrClosed) {
				return
			}
		}
	}()
	<-started
	all[1].table.Close()
	all[1].table.Close()
	<-done
}
