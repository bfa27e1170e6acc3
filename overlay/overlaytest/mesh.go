package overlaytest

import (
	"fmt"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay"
)

// New returns n nodes of one mesh, all in this process and ephemeral, named
// node0, node1 and so on. The first has founded the mesh, and the others were
// told of it alone. They use no port: see Local. They are closed when the test ends.
func New(t testing.TB, n int) []*overlay.Mesh {
	t.Helper()
	return NewWith(t, n, Local(t))
}

// NewWith is New with nodes that a Config describes, all but their names: that of
// Local or Network, to which a test may have added.
func NewWith(t testing.TB, n int, c overlay.Config) []*overlay.Mesh {
	t.Helper()
	nodes := make([]*overlay.Mesh, n)
	var invite string
	for i := range nodes {
		c.Name = fmt.Sprintf("node%d", i)
		nodes[i] = start(t, c, invite)
		if i == 0 && n > 1 {
			invite = newInvite(t, nodes[0])
		}
	}
	return nodes
}

// Network returns a Config for a node that uses the network and nothing else: it
// listens at Loopback.
func Network() overlay.Config { return overlay.Config{Listen: Loopback(), NoLocal: true} }

// Loopback is where a node listens that is to use the network: at a free TCP port
// of 127.0.0.1.
func Loopback() []multiaddr.Multiaddr {
	return []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")}
}

func start(t testing.TB, c overlay.Config, invite string) *overlay.Mesh {
	t.Helper()
	var m *overlay.Mesh
	var err error
	if invite == "" {
		m, err = overlay.Open(t.Context(), c)
	} else {
		m, err = overlay.Join(t.Context(), invite, c)
	}
	if err != nil {
		t.Fatalf("start %s: %v", c.Name, err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close %s: %v", c.Name, err)
		}
	})
	return m
}

func newInvite(t testing.TB, m *overlay.Mesh) string {
	t.Helper()
	inv, err := m.Invite(overlay.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return inv.Text()
}
