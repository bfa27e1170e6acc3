package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { overlaytest.Main(leakChecked{m}) }

// leakChecked runs tests and fails if goroutines are left.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start runs a node that the test's end closes.
func start(t testing.TB, open func(context.Context) (*overlay.Mesh, error)) *overlay.Mesh {
	t.Helper()
	m, err := open(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	})
	return m
}

// open runs a node by Open, over TCP on loopback if c does not say where.
func open(t testing.TB, c overlay.Config) *overlay.Mesh {
	t.Helper()
	return start(t, func(ctx context.Context) (*overlay.Mesh, error) { return overlay.Open(ctx, onLoopback(c)) })
}

// join runs a node by Join.
func join(t testing.TB, invite string, c overlay.Config) *overlay.Mesh {
	t.Helper()
	return start(t, func(ctx context.Context) (*overlay.Mesh, error) { return overlay.Join(ctx, invite, onLoopback(c)) })
}

func onLoopback(c overlay.Config) overlay.Config {
	if c.Listen == nil {
		c.Listen = overlaytest.Loopback()
	}
	c.NoLocal = c.LocalDir == "" // or the path would not be the network's
	return c
}

func invite(t testing.TB, m *overlay.Mesh, o overlay.InviteOptions) string {
	t.Helper()
	inv, err := m.Invite(o)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Text()
}

// newPair returns a founder called alice and a member called bob.
func newPair(t testing.TB) (alice, bob *overlay.Mesh) {
	t.Helper()
	alice = open(t, overlay.Config{Name: "alice"})
	return alice, join(t, invite(t, alice, overlay.InviteOptions{}), overlay.Config{Name: "bob"})
}

// newNodes returns n nodes of one mesh, over TCP, named node0, node1 and so on.
func newNodes(t testing.TB, n int) []*overlay.Mesh {
	t.Helper()
	nodes := []*overlay.Mesh{open(t, overlay.Config{Name: "node0"})}
	for i := 1; i < n; i++ {
		nodes = append(nodes, join(t, invite(t, nodes[0], overlay.InviteOptions{}), overlay.Config{Name: fmt.Sprintf("node%d", i)}))
	}
	return nodes
}

func listen(t testing.TB, m *overlay.Mesh, service string, allow ...overlay.Rule) *overlay.Listener {
	t.Helper()
	l, err := m.Listen(service, allow...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serveName offers a service that writes the node's name to all who come.
func serveName(t testing.TB, m *overlay.Mesh, service string, allow ...overlay.Rule) *overlay.Listener {
	t.Helper()
	l := listen(t, m, service, allow...)
	go func() {
		for {
			c, err := l.AcceptConn()
			if err != nil {
				return
			}
			fmt.Fprint(c, m.Self().Name)
			c.Close()
		}
	}()
	return l
}

// await waits for an event.
func await(t testing.TB, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatalf("%s: not after %v", what, patience)
	}
}

// until waits for what makes no event of itself.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// waitMembers waits until a node sees the members as they should be.
func waitMembers(t testing.TB, m *overlay.Mesh, what string, ok func([]overlay.Member) bool) {
	t.Helper()
	var last []overlay.Member
	for last = range m.Watch(testContext(t)) {
		if ok(last) {
			return
		}
	}
	t.Fatalf("%s sees %+v after %v, want %s", m.Self().Name, last, patience, what)
}

// waitUp waits until a node sees a member up, or not up.
func waitUp(t testing.TB, m *overlay.Mesh, id peer.ID, up bool) {
	t.Helper()
	waitMembers(t, m, fmt.Sprintf("%v up: %v", id, up), func(all []overlay.Member) bool {
		return slices.ContainsFunc(all, func(o overlay.Member) bool { return o.ID == id && o.Up == up })
	})
}

// waitAll waits until each node sees all others up.
func waitAll(t testing.TB, nodes ...*overlay.Mesh) {
	t.Helper()
	for _, m := range nodes {
		for _, o := range nodes {
			waitUp(t, m, o.Self().ID, true)
		}
	}
}

func checkIs(t testing.TB, call string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", call, err, want)
	}
}
