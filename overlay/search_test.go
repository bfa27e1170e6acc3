package overlay

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// newStar runs n nodes named node0 and so on, of which each was told of the
// first only.
func newStar(t testing.TB, n int) []*Mesh {
	t.Helper()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(100), "node0", now)
	nodes := []*Mesh{mustOpenAs(t, founder)}
	for i := 1; i < n; i++ {
		member := founder.admit(t, seeded(byte(100+i)), now, credential.Terms{Name: fmt.Sprint("node", i)})
		nodes = append(nodes, mustOpenAs(t, member, full(t, nodes[0])))
	}
	return nodes
}

// forget makes a node forget all it knows of a member but that it was once in
// the DHT's table.
func forget(t testing.TB, m *Mesh, id peer.ID) {
	t.Helper()
	m.mu.Lock()
	delete(m.roster.entries, id)
	m.mu.Unlock()
	if err := m.node.Disconnect(id); err != nil {
		t.Fatal(err)
	}
	m.node.Host().Peerstore().ClearAddrs(id)
}

func greet(t testing.TB, m *Mesh, service string) *Listener {
	t.Helper()
	l, err := m.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptConn()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l
}

// A name that the roster does not hold is found in the DHT.
func TestDialNameNotInTheRoster(t *testing.T) {
	t.Parallel()
	nodes := newStar(t, 5)
	from, to := nodes[3], nodes[4]
	greet(t, to, "web")
	for _, target := range []string{"node4/web", to.node.ID().String() + "/web"} {
		forget(t, from, to.node.ID())
		c, err := from.Dial(testContext(t), target)
		if err != nil {
			t.Fatalf("Dial(%s) = %v, want nil", target, err)
		}
		if c.Peer().Name != "node4" || c.Peer().ID != to.node.ID() {
			t.Errorf("Dial(%s) reaches %+v, want node4", target, c.Peer())
		}
		c.Close()
	}
}

// A member is found where it is now, though where it was is remembered.
func TestDialMemberThatHasMoved(t *testing.T) {
	t.Parallel()
	nodes := newStar(t, 5)
	from, to := nodes[3], nodes[4]
	greet(t, to, "web")
	old := multiaddr.StringCast("/ip4/127.0.0.1/tcp/9") // where nobody listens
	for range 3 {
		forget(t, from, to.node.ID())
		from.node.Host().Peerstore().AddAddrs(to.node.ID(), []multiaddr.Multiaddr{old}, time.Hour)
		c, err := from.Dial(testContext(t), to.node.ID().String()+"/web")
		if err != nil {
			t.Fatalf("Dial = %v, want nil", err)
		}
		c.Close()
	}
}

// While the member is away its name is known from what it said of itself.
func TestDialNameOfMemberThatIsAway(t *testing.T) {
	t.Parallel()
	nodes := newStar(t, 4)
	from, to := nodes[2], nodes[3]
	id := to.node.ID()
	await(t, "the others keep what it says of itself", published(t, from, id))
	to.Close()
	forget(t, from, id)
	_, err := from.Dial(testContext(t), "node3/web")
	var dial *p2p.DialError
	if !errors.As(err, &dial) || dial.Peer != id || errors.Is(err, ErrUnknownMember) {
		t.Errorf("Dial of a member that is away = %v, want that it did not answer", err)
	}
	if m, ok := from.Member(id); !ok || m.Name != "node3" || m.Up {
		t.Errorf("Member = %+v, %v, want node3, not up", m, ok)
	}
}

// published tells when a member's record is in the DHT.
func published(t testing.TB, m *Mesh, id peer.ID) <-chan struct{} {
	t.Helper()
	found := make(chan struct{})
	ctx := testContext(t)
	go func() {
		for ctx.Err() == nil {
			if _, err := m.table.Get(ctx, memberKey(id)); err == nil {
				close(found)
				return
			}
		}
	}()
	return found
}

func await(t testing.TB, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatalf("%s: not after %v", what, patience)
	}
}

// A service that appears is found by all, and when its provider is gone the
// next one is used.
func TestDialNearestProviders(t *testing.T) {
	t.Parallel()
	nodes := newStar(t, 5)
	from, first, second := nodes[4], nodes[1], nodes[2]
	if _, err := from.Dial(testContext(t), "/late"); !errors.Is(err, ErrNoProvider) {
		t.Fatalf("Dial before anybody offers it = %v, want %v", err, ErrNoProvider)
	}
	for _, provider := range []*Mesh{first, second} {
		await(t, "the service can be found", greet(t, provider, "late").Found())
	}
	who := map[peer.ID]*Mesh{first.node.ID(): first, second.node.ID(): second}
	for len(who) > 0 {
		c, err := from.Dial(testContext(t), "/late")
		if err != nil {
			t.Fatalf("Dial with %d providers left = %v, want nil", len(who), err)
		}
		c.Close()
		provider := who[c.Peer().ID]
		if provider == nil {
			t.Fatalf("Dial reaches %+v, want a provider that is left", c.Peer())
		}
		delete(who, c.Peer().ID)
		provider.node.Close() // without a word
	}
	_, err := from.Dial(testContext(t), "/late")
	var dial *p2p.DialError
	if !errors.Is(err, ErrNoProvider) || !errors.As(err, &dial) {
		t.Errorf("Dial with all providers gone = %v, want %v and why none answered", err, ErrNoProvider)
	}
}

// A provider that has withdrawn the service is passed over.
func TestDialNearestAfterWithdrawal(t *testing.T) {
	t.Parallel()
	nodes := newStar(t, 3)
	gone, left := greet(t, nodes[0], "web"), greet(t, nodes[1], "web")
	await(t, "the first can be found", gone.Found())
	await(t, "the second can be found", left.Found())
	gone.Close()
	for range 5 {
		c, err := nodes[2].Dial(testContext(t), "/web")
		if err != nil || c.Peer().Name != "node1" {
			t.Fatalf("Dial = %v, %v, want node1", c, err)
		}
		c.Close()
	}
}

func TestNearer(t *testing.T) {
	order := []p2p.Path{p2p.PathSelf, p2p.PathUnix, p2p.PathLAN, p2p.PathDirect, p2p.PathRelay, p2p.PathUnknown}
	for i := range order[1:] {
		if distance(order[i]) >= distance(order[i+1]) {
			t.Errorf("distance(%v) = %d, distance(%v) = %d, want the first smaller",
				order[i], distance(order[i]), order[i+1], distance(order[i+1]))
		}
	}
}

// A member named by the caller that is not there yet is met when it comes.
func TestBootstrapThatComesLater(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at, err := manet.FromNetAddr(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // so that nobody is there now
	bob := mustOpenAs(t, founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"}),
		multiaddr.Join(at, multiaddr.StringCast("/p2p/"+peerOf(t, 2).String())))
	alice, err := openAt(t, founder, now, []multiaddr.Multiaddr{at})
	if err != nil {
		t.Fatal(err)
	}
	watchEntry(t, bob, alice.node.ID(), "the other comes", func(e *entry) bool { return e.connected })
}

// Who was dialed last is dialed again while nobody is clearly nearer.
func TestSortNearest(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		name string
		near map[peer.ID]nearness
		last peer.ID
		want string
	}{
		{"by the round trip", map[peer.ID]nearness{"a": {1, 30 * ms}, "b": {1, 10 * ms}, "c": {1, 20 * ms}}, "", "bca"},
		{"the path before it", map[peer.ID]nearness{"a": {1, 30 * ms}, "b": {2, 10 * ms}, "c": {0, 50 * ms}}, "", "cab"},
		{"the last, hardly farther", map[peer.ID]nearness{"a": {1, 17 * ms}, "b": {1, 10 * ms}, "c": {1, 12 * ms}}, "a", "abc"},
		{"the last, clearly farther", map[peer.ID]nearness{"a": {1, 18 * ms}, "b": {1, 10 * ms}, "c": {1, 12 * ms}}, "a", "bca"},
		{"the last, by a longer path", map[peer.ID]nearness{"a": {2, 0}, "b": {1, 10 * ms}, "c": {1, 12 * ms}}, "a", "bca"},
		{"the last is here no more", map[peer.ID]nearness{"a": {1, 3 * ms}, "b": {1, 2 * ms}, "c": {1, ms}}, "d", "cba"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ids := []peer.ID{"a", "b", "c"}
			sortNearest(ids, tt.last, func(id peer.ID) nearness { return tt.near[id] })
			if got := string(ids[0] + ids[1] + ids[2]); got != tt.want {
				t.Errorf("sortNearest of %v after %q = %s, want %s", tt.near, tt.last, got, tt.want)
			}
		})
	}
}
