package overlay_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
)

// openLocal and joinLocal run nodes that listen in a directory of sockets alone.
func openLocal(t testing.TB, name, dir string) *overlay.Mesh {
	t.Helper()
	return start(t, func(ctx context.Context) (*overlay.Mesh, error) {
		return overlay.Open(ctx, overlay.Config{Name: name, LocalDir: dir, LocalOnly: true})
	})
}

func joinLocal(t testing.TB, invite, name, dir string) *overlay.Mesh {
	t.Helper()
	return start(t, func(ctx context.Context) (*overlay.Mesh, error) {
		return overlay.Join(ctx, invite, overlay.Config{Name: name, LocalDir: dir, LocalOnly: true})
	})
}

func TestLocalMesh(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nodes := []*overlay.Mesh{openLocal(t, "node0", dir)}
	inv := invite(t, nodes[0], overlay.InviteOptions{})
	for i := range 2 {
		nodes = append(nodes, joinLocal(t, inv, fmt.Sprintf("node%d", i+1), dir))
	}
	waitAll(t, nodes...)
	for _, m := range nodes {
		serveName(t, m, "name")
		if got := m.Addrs(); len(got) > 0 {
			t.Errorf("%s: Addrs() = %v, want none", m.Self().Name, got)
		}
		if got, _ := m.Local(); got != dir {
			t.Errorf("%s: Local() = %q, want %q", m.Self().Name, got, dir)
		}
	}
	for _, from := range nodes {
		for _, to := range nodes {
			checkLocalDial(t, from, to)
		}
	}
}

func checkLocalDial(t *testing.T, from, to *overlay.Mesh) {
	t.Helper()
	name := to.Self().Name
	c, err := from.Dial(testContext(t), name+"/name")
	if err != nil {
		t.Errorf("%s dials %s: %v", from.Self().Name, name, err)
		return
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != name {
		t.Errorf("%s reads %q, %v of %s", from.Self().Name, got, err, name)
	}
	want := p2p.PathUnix
	if from == to {
		want = p2p.PathSelf
	}
	if c.Path() != want {
		t.Errorf("from %s to %s, Path() = %v, want %v", from.Self().Name, name, c.Path(), want)
	}
	known := from.Node().KnownAddrs(to.Self().ID)
	if len(known) > 0 {
		t.Errorf("%s knows addresses %v of %s, want none", from.Self().Name, known, name)
	}
}

func TestLocalMeshesDoNotMeet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var pairs [2][2]*overlay.Mesh
	for i := range pairs {
		a := openLocal(t, "alice", dir)
		pairs[i] = [2]*overlay.Mesh{a, joinLocal(t, invite(t, a, overlay.InviteOptions{}), "bob", dir)}
	}
	for i, pair := range pairs {
		waitAll(t, pair[:]...)
		for j, m := range pair {
			other := pair[1-j].Self().ID
			until(t, "the other one's socket is seen", func() bool { return len(m.Node().LocalPeers()) > 0 })
			if got := m.Node().LocalPeers(); !slices.Equal(got, []peer.ID{other}) {
				t.Errorf("mesh %d: LocalPeers() = %v, want %v", i, got, other)
			}
			if got := m.Members(); len(got) != 2 {
				t.Errorf("mesh %d: %d members, want 2", i, len(got))
			}
			stranger := pairs[1-i][j].Self().ID
			checkIs(t, "Connect to a node of another mesh", m.Node().Connect(testContext(t), stranger), p2p.ErrNoAddress)
		}
	}
}

// Who has yet to be let in by an admin is not met by the members before.
func TestLocalJoinByACountedInvite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	alice := openLocal(t, "alice", dir)
	bob := joinLocal(t, invite(t, alice, overlay.InviteOptions{}), "bob", dir)
	waitAll(t, alice, bob)
	counted := invite(t, alice, overlay.InviteOptions{Uses: 1})
	carol := joinLocal(t, counted, "carol", dir)
	waitAll(t, alice, bob, carol)
	serveName(t, carol, "name")
	checkLocalDial(t, bob, carol)
	_, err := overlay.Join(testContext(t), counted, overlay.Config{Name: "dave", LocalDir: dir, LocalOnly: true})
	if err == nil {
		t.Error("a second join by an invite for one = nil, want an error")
	}
}

// A node that listens for the network as well needs no address of those nearby.
func TestLocalBesidesTheNetwork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	alice := open(t, overlay.Config{Name: "alice", LocalDir: dir})
	bob := join(t, invite(t, alice, overlay.InviteOptions{}), overlay.Config{Name: "bob", LocalDir: dir})
	waitAll(t, alice, bob)
	for _, m := range []*overlay.Mesh{alice, bob} {
		if len(m.Addrs()) == 0 {
			t.Errorf("%s: Addrs() is empty", m.Self().Name)
		}
	}
	until(t, "the path on this machine", func() bool {
		return alice.Node().PathTo(bob.Self().ID) == p2p.PathUnix && bob.Node().PathTo(alice.Self().ID) == p2p.PathUnix
	})
}

func TestLocalConfigContradicts(t *testing.T) {
	for name, c := range map[string]overlay.Config{
		"LocalDir":   {NoLocal: true, LocalDir: t.TempDir()},
		"LocalOnly":  {NoLocal: true, LocalOnly: true},
		"LocalUsers": {NoLocal: true, LocalUsers: []uint32{1}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := overlay.Open(testContext(t), c)
			if err == nil {
				m.Close()
				t.Fatal("Open = nil, want an error")
			}
			const want = "overlay: Config.NoLocal contradicts LocalOnly, LocalDir and LocalUsers"
			if err.Error() != want {
				t.Errorf("Open = %q, want %q", err, want)
			}
		})
	}
}
