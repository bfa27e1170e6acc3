package overlay_test

import (
	"slices"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"github.com/p2pnode/p2pnode/p2p"
)

// Who wants no relay and has none in between notices nothing, and it is known from
// where the addresses are and when the path came to be.
func TestDirectOnlyWithoutRelays(t *testing.T) {
	nodes := overlaytest.NewWith(t, 2, overlaytest.Network())
	if _, err := nodes[0].Listen("web"); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"node0/web", "/web"} {
		c, err := nodes[1].Dial(p2p.DirectOnly(t.Context()), target)
		if err != nil {
			t.Fatalf("Dial(%s) = %v", target, err)
		}
		c.Close()
	}
	if _, path, err := nodes[1].Ping(p2p.WaitDirect(t.Context(), 0), "node0"); err != nil || path != p2p.PathLAN {
		t.Errorf("Ping = %v, %v, want lan", path, err)
	}
	id := nodes[0].Self().ID
	if m, _ := nodes[1].Member(id); m.Relay != "" || nodes[1].Node().RelayTo(id) != "" {
		t.Errorf("Member = %+v, want no relay", m)
	}
	started := func(a p2p.AddrReport) bool { return a.Source == p2p.SourceStart && a.Outcome == p2p.Connected }
	if r := nodes[1].Node().Why(id); !slices.ContainsFunc(r.Addrs, started) {
		t.Errorf("Why = %+v, want an address from the invite at which it connected", r.Addrs)
	}
	first := func(c overlay.PathChange) bool {
		return c.From == p2p.PathUnknown && c.To == p2p.PathLAN && c.Why != ""
	}
	if got := nodes[1].PathChanges(id); len(got) != 1 || !first(got[0]) {
		t.Errorf("PathChanges = %+v, want that it came to be lan", got)
	}
}

// A limit that makes no sense is an error, and names the field.
func TestBadRelay(t *testing.T) {
	_, err := overlay.Open(t.Context(), overlay.Config{NoLocal: true, Relay: p2p.Relay{Rate: -1}})
	if err == nil {
		t.Error("Open with a negative rate = nil, want an error")
	}
}
