package e2e

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// meshSize is that of the largest mesh of real processes in the tests.
const meshSize = 32

// Each node is told of the first only. All reach all, also when the first has
// crashed; then others come in through any member, and the first comes back.
func TestManyProcesses(t *testing.T) {
	n := meshSize
	if testing.Short() {
		n = 6
	}
	nodes, founding := startMesh(t, n)
	greetAll(t, "with all", nodes)

	first, rest := nodes[0], nodes[1:]
	later := first.invite() // names the first and two others to start from
	first.kill()
	greetAll(t, "without the first", rest)
	t.Run("a newcomer joins by an invite that names others too", func(t *testing.T) {
		late := expose(newNode(t, "late").join(later, "--ephemeral"))
		greetAll(t, "with a newcomer", append(sample(rest), late))
	})
	t.Run("a newcomer joins through any other", func(t *testing.T) {
		for i := 0; i < len(rest); i += 4 { // not all, for the time it takes
			through := rest[i]
			name := fmt.Sprint("through", through.name)
			// The invite names the first alone, which is gone.
			newcomer := newNode(t, name).join(founding, "--ephemeral", "--bootstrap", through.ready.Addrs[0]+"/p2p/"+through.ready.ID)
			greetAll(t, "through "+through.name, []*node{through, rest[(i+1)%len(rest)], expose(newcomer)})
		}
	})
	t.Run("the first comes back as itself and needs no invite", func(t *testing.T) {
		id := first.ready.ID
		first.up()
		if first.ready.ID != id {
			t.Errorf("ID after the restart = %s, want %s", first.ready.ID, id)
		}
		greetAll(t, "with the first again", nodes) // what it exposed is there again
	})
}

// sample returns a few of many.
func sample(nodes []*node) []*node {
	return []*node{nodes[0], nodes[len(nodes)/2], nodes[len(nodes)-1]}
}

// startMesh starts n nodes that are told of the first only, each with the
// service greet, and returns them and the invite by which they joined.
func startMesh(t *testing.T, n int) (nodes []*node, invite string) {
	nodes = make([]*node, n)
	nodes[0] = expose(newNode(t, "node0").up())
	invite = nodes[0].invite()
	for i := range nodes[1:] {
		nodes[i+1] = newNode(t, fmt.Sprintf("node%d", i+1))
	}
	var g errgroup.Group
	g.SetLimit(4) // as many as two cores start at a time
	for _, m := range nodes[1:] {
		g.Go(func() error { return m.start(invite, "join", "-") })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, m := range nodes[1:] {
		expose(m)
	}
	return nodes, invite
}

// expose has a node offer the service greet, which answers with its name.
func expose(n *node) *node {
	n.t.Helper()
	n.run("expose", "greet", serveGreeting(n.t, n.name))
	return n
}

// greetAll opens a stream for each ordered pair, and logs how long that took.
func greetAll(t *testing.T, when string, nodes []*node) {
	t.Helper()
	ctx := testContext(t)
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(8)
	for _, from := range nodes {
		for _, to := range nodes {
			if from != to {
				g.Go(func() error { return from.greet(ctx, to.name+"/greet", to.name) })
			}
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	t.Logf("%s: %d ordered pairs opened a stream within %v", when, len(nodes)*(len(nodes)-1), time.Since(began).Round(time.Millisecond))
}

// A service is reached at whichever member offers it, and at the next when that
// one has gone.
func TestNearestAndNext(t *testing.T) {
	nodes, _ := startMesh(t, 4)
	ctx := testContext(t)
	asking, a, b := nodes[1], nodes[2], nodes[3]
	for _, n := range []*node{nodes[0], asking} {
		n.run("unexpose", "greet")
	}
	reach := func() string {
		t.Helper()
		// Of two that are as near as each other either may answer.
		for i := range 20 {
			if n := []*node{a, b}[i%2]; asking.greet(ctx, "/greet", n.name) == nil {
				return n.name
			}
		}
		t.Fatalf("nobody answers: %v", asking.greet(ctx, "/greet", "?"))
		return ""
	}
	near := reach()
	gone, left := a, b
	if near == b.name {
		gone, left = b, a
	}
	gone.kill()
	if err := asking.greet(ctx, "/greet", left.name); err != nil {
		t.Errorf("after %s was killed: %v", near, err)
	}
}
