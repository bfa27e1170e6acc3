package overlay_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// answerOf dials a service that writes a name and returns the name.
func answerOf(t testing.TB, from *overlay.Mesh, spread bool, target string) string {
	t.Helper()
	ctx := testContext(t)
	if spread {
		ctx = overlay.Spread(ctx)
	}
	c, err := from.Dial(ctx, target)
	if err != nil {
		t.Fatalf("Dial(%s) = %v, want nil", target, err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// When the member that was dialed is gone, or offers the service no more, the next
// is dialed, and one that comes is found when no other is left.
func TestNearestIsFollowedByTheNext(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 4)
	waitAll(t, nodes...)
	one, two := serveName(t, nodes[1], "name"), serveName(t, nodes[2], "name")
	await(t, "found", one.Found())
	await(t, "found", two.Found())
	first := answerOf(t, nodes[0], false, "/name")
	gone, next := nodes[1], "node2"
	if first == "node2" {
		gone, next = nodes[2], "node1"
	}
	for range 3 {
		if got := answerOf(t, nodes[0], false, "/name"); got != first {
			t.Errorf("Dial(/name) reaches %s after %s, want the same while it is there", got, first)
		}
	}
	gone.Close()
	if got := answerOf(t, nodes[0], false, "/name"); got != next {
		t.Errorf("Dial(/name) reaches %s when %s is gone, want %s", got, first, next)
	}
	three := serveName(t, nodes[3], "name")
	await(t, "found", three.Found())
	if next == "node1" {
		one.Close()
	} else {
		two.Close()
	}
	if got := answerOf(t, nodes[0], false, "/name"); got != "node3" {
		t.Errorf("Dial(/name) reaches %s when %s offers it no more, want node3", got, next)
	}
	three.Close()
	_, err := nodes[0].Dial(testContext(t), "/name")
	if !errors.Is(err, overlay.ErrNoProvider) {
		t.Errorf("Dial(/name) when nobody is left = %v, want %v", err, overlay.ErrNoProvider)
	}
}

// When those of whom the DHT tells are gone, one that offers the service to this node
// alone takes over.
func TestNearestIsFollowedByOneForSome(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 3)
	waitAll(t, nodes...)
	await(t, "found", serveName(t, nodes[1], "name").Found())
	if got := answerOf(t, nodes[0], false, "/name"); got != "node1" {
		t.Fatalf("Dial(/name) reaches %s, want node1", got)
	}
	serveName(t, nodes[2], "name", overlay.PeerRule(nodes[0].Self().ID))
	nodes[1].Close()
	if got := answerOf(t, nodes[0], false, "/name"); got != "node2" {
		t.Errorf("Dial(/name) reaches %s, want node2", got)
	}
}

// Streams that are spread go to all, to each as many, and so to this node.
func TestSpread(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 4)
	waitAll(t, nodes...)
	for _, m := range nodes[1:] {
		await(t, "found", serveName(t, m, "name").Found())
	}
	for _, from := range nodes[:2] { // one that does not offer it, and one that does
		waitUntilAll(t, from, 3)
		got := map[string]int{}
		for range 12 {
			got[answerOf(t, from, true, "/name")]++
		}
		for _, m := range nodes[1:] {
			if name := m.Self().Name; got[name] != 4 {
				t.Errorf("of 12 streams from %s %v were spread, want 4 to %s", from.Self().Name, got, name)
			}
		}
	}
}

// waitUntilAll dials until n different members have answered: the first search does
// not await all.
func waitUntilAll(t *testing.T, from *overlay.Mesh, n int) {
	t.Helper()
	seen := map[string]bool{}
	for ctx := testContext(t); len(seen) < n; {
		if ctx.Err() != nil {
			t.Fatalf("after %v only %v have answered", patience, seen)
		}
		seen[answerOf(t, from, true, "/name")] = true
	}
}

// BenchmarkDial makes streams to a service of a member, and of whichever is nearest.
func BenchmarkDial(b *testing.B) {
	for _, path := range []struct {
		name   string
		config func(testing.TB) overlay.Config
	}{{"unix", overlaytest.Local}, {"network", func(testing.TB) overlay.Config { return overlaytest.Network() }}} {
		nodes := overlaytest.NewWith(b, 3, path.config(b))
		waitAll(b, nodes...)
		await(b, "found", serveName(b, nodes[1], "name").Found())
		for _, target := range []string{"node1/name", "/name"} {
			b.Run(fmt.Sprintf("%s/%s", path.name, target), func(b *testing.B) {
				answerOf(b, nodes[0], false, target)
				for b.Loop() {
					answerOf(b, nodes[0], false, target)
				}
			})
		}
	}
}
