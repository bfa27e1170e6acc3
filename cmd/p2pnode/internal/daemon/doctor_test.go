package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

func TestDoctor(t *testing.T) {
	nodes := overlaytest.NewWith(t, 2, overlaytest.Network())
	s := serve(t, nodes[1])
	for _, look := range []bool{false, true} {
		d, err := s.Doctor(testContext(t), look)
		if err != nil {
			t.Fatal(err)
		}
		if d.Name != "node1" || d.Version != control.Version || len(d.Addrs) != 1 || d.IPv4.Addrs != 1 || d.IPv6.Addrs != 0 {
			t.Errorf("Doctor = %+v, want node1 at one address of IPv4", d)
		}
		if d.IPv4.Mapping != "unknown" || d.IPv4.UDP != "unknown" || d.Reachable != "unknown" || d.Relaying.Off || d.Relays == nil || d.Refused == nil {
			t.Errorf("Doctor = %+v, want nothing known from outside", d)
		}
		if len(d.Members) != 1 || d.Members[0].Name != "node0" || d.Members[0].Path != "lan" {
			t.Errorf("Doctor = %+v, want node0 by lan", d.Members)
		}
	}
}

func TestWhy(t *testing.T) {
	nodes := overlaytest.NewWith(t, 2, overlaytest.Network())
	s := serve(t, nodes[1])
	ctx := testContext(t)
	w, err := s.Why(ctx, "node0", true)
	if err != nil {
		t.Fatal(err)
	}
	if w.Member.Name != "node0" || w.Member.Path != "lan" || w.Member.RTT == 0 || len(w.Connections) == 0 || len(w.Changes) != 1 {
		t.Errorf("Why = %+v, want node0 by lan, with a round trip, a connection and a change", w)
	}
	if len(w.Addrs) == 0 || w.Addrs[0].Verdict != "connected" || w.Addrs[0].Source != "start" || w.Addrs[0].Tried == nil {
		t.Errorf("Why = %+v, want the address of the invite, connected", w.Addrs)
	}
	if w.Punchable != "unknown" || w.There[0].Mapping != "unknown" || w.Upgrade != nil || w.Error != "" {
		t.Errorf("Why = %+v, want that no better path was looked for", w)
	}
	if w, err := s.Why(ctx, "node1", true); err != nil || !w.Member.Self || w.Member.Path != "self" || len(w.Addrs) > 0 {
		t.Errorf("Why of itself = %+v, %v", w, err)
	}

	// One that is gone is tried, and then it is told what failed.
	if err := nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	w, err = s.Why(ctx, "node0", true)
	if err != nil || w.Member.Path != "" || w.Error == "" || len(w.Addrs) == 0 || w.Addrs[0].Verdict != "refused" {
		t.Errorf("Why of one that is gone = %+v, %v, want refused", w, err)
	}
	_, err = s.Why(ctx, "nobody", false)
	wantCode(t, "Why(nobody)", err, control.CodeUnknownMember)
}

// The round trip is measured for those who ask for the members.
func TestRoundTripIsMeasured(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	s := serve(t, nodes[1])
	ctx := testContext(t)
	for {
		members, err := s.Members(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if members[0].Name == "node0" && members[0].RTT > 0 {
			return
		}
	}
}

// A member is not pinged again for a while, and not too many are at once.
func TestMeasuredIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured()
		due := func(id peer.ID) bool { return m.due(id, time.Now()) }
		if !due("a") || due("a") {
			t.Error("due(a) twice, want once")
		}
		time.Sleep(measureEvery) //nolint:forbidigo // the time is simulated
		if !due("a") {
			t.Errorf("due(a) after %v = false, want true", measureEvery)
		}
		for i := range measureWidth - 2 {
			if !due(peer.ID(rune('b' + i))) {
				t.Errorf("due of %d = false, want true", i+2)
			}
		}
		if due("z") {
			t.Errorf("due of one more than %d = true, want false", measureWidth)
		}
		<-m.slots
		if !due("z") {
			t.Error("due when one has ended = false, want true")
		}
	})
}

func TestForwardThroughNoRelay(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	alice, bob := serve(t, nodes[0]), serve(t, nodes[1])
	ctx := testContext(t)
	if _, err := alice.Expose(ctx, "web", echo(t)); err != nil {
		t.Fatal(err)
	}
	f, err := bob.ForwardAs(ctx, control.Forward{Listen: "0", Target: "node0/web", DirectOnly: true, WaitDirect: time.Second})
	if err != nil || !f.DirectOnly || f.WaitDirect != time.Second {
		t.Fatalf("ForwardAs = %+v, %v, want one through no relay", f, err)
	}
	c, err := bob.DialAs(ctx, "node0/web", control.DialOptions{DirectOnly: true, WaitDirect: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	n, err := bob.Status(ctx)
	if err != nil || len(n.Forwards) != 1 || !n.Forwards[0].DirectOnly {
		t.Errorf("Status = %+v, %v, want the forward", n.Forwards, err)
	}
}
