package p2p

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multiaddr"
)

// relaysOf returns through whom a node says that it can be reached.
func relaysOf(addrs []multiaddr.Multiaddr) (out []peer.ID) {
	for _, a := range addrs {
		if info, err := relayInfo(a); err == nil && !slices.Contains(out, info.ID) {
			out = append(out, info.ID)
		}
	}
	slices.Sort(out)
	return out
}

func TestTwoRelaysWhereThereAreTwo(t *testing.T) {
	n := newOutsideNode(t, Config{})
	if got := relaysOf(n.Addrs()); len(got) != 0 {
		t.Errorf("Addrs() are through %v, want no relay", got)
	}
	for i := range 3 {
		connected(t, n, newOutsideNode(t, Config{}))
		want := min(i+1, wantRelays)
		waitFor(t, n, "as many relays as wanted", func([]Connection) bool { return len(n.Relays()) == want && len(relaysOf(n.Addrs())) == want })
		if got := relaysOf(n.Addrs()); !slices.Equal(got, n.Relays()) {
			t.Errorf("Addrs() are through %v, want %v", got, n.Relays())
		}
	}
}

// When a relay dies another takes its place, at once, and the addresses that are told
// are those through it.
func TestRelayDies(t *testing.T) {
	n, all := newOutsideNode(t, Config{}), map[peer.ID]*Node{}
	for range 3 {
		r := newOutsideNode(t, Config{})
		all[r.ID()] = r
		connected(t, n, r)
	}
	waitFor(t, n, "two relays", func([]Connection) bool { return len(n.Relays()) == wantRelays })
	dead := n.Relays()[0]
	began := time.Now()
	all[dead].Close()
	waitFor(t, n, "two relays that live", func([]Connection) bool {
		return len(n.Relays()) == wantRelays && !slices.Contains(n.Relays(), dead) && slices.Equal(relaysOf(n.Addrs()), n.Relays())
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v until another relays, want 5 s at most", took)
	}
	// Whoever dials now gets there.
	from := newOutsideNode(t, Config{})
	serveEcho(t, n, "/echo/1")
	connected(t, from, all[n.Relays()[0]])
	if err := echo(testContext(t), from, n.ID(), "/echo/1"); err != nil {
		t.Errorf("echo through the relays that are left = %v, want nil", err)
	}
}

// A relay that is there and says nothing any more is taken for dead.
func TestRelayFallsSilent(t *testing.T) {
	n, r := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, n, r)
	hasRelays(t, n, r)
	if err := n.relays.probe(testContext(t), r.ID()); err != nil {
		t.Errorf("probe of a relay that lives = %v, want nil", err)
	}
	r.kit.host.SetStreamHandler(ping.ID, func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := n.relays.probe(ctx, r.ID())
	checkIs(t, "probe of a relay that says nothing", err, context.DeadlineExceeded)
	n.relays.refuse(r.ID(), err)
	if got := n.Relays(); len(got) > 0 {
		t.Errorf("Relays() = %v, want none", got)
	}
	if n.kit.host.ConnManager().IsProtected(r.ID(), relayTag) {
		t.Error("the connection to a relay that is none any more is protected")
	}
	if relayProbeEvery*5/4+relayPatience > 25*time.Second {
		t.Error("it takes more than 25 s until a silent relay is noticed")
	}
}

func TestReservationIsRenewed(t *testing.T) {
	n, r := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, n, r)
	hasRelays(t, n, r)
	held := func() time.Time {
		n.relays.mu.Lock()
		defer n.relays.mu.Unlock()
		return n.relays.held[r.ID()].renew
	}
	first := held()
	if d := time.Until(first); d < reservationTTL/3 || d > reservationTTL*2/3 {
		t.Errorf("it is renewed in %v, want about half of %v", d, reservationTTL)
	}
	n.relays.mu.Lock()
	n.relays.held[r.ID()].renew = time.Now().Add(-time.Second)
	n.relays.mu.Unlock()
	if err := n.relays.probe(testContext(t), r.ID()); err != nil {
		t.Fatalf("probe when it is time to renew = %v, want nil", err)
	}
	if d := time.Until(held()); d < reservationTTL/3 {
		t.Errorf("it is renewed again in %v, want about half of %v", d, reservationTTL)
	}
}

// Who can be reached needs nobody to relay.
func TestReachableNeedsNoRelay(t *testing.T) {
	n, r := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, n, r)
	hasRelays(t, n, r)
	connected(t, newOutsideNode(t, Config{}), n)
	waitFor(t, n, "no relay", func([]Connection) bool { return len(n.Relays()) == 0 && len(relaysOf(n.Addrs())) == 0 })
	if got := n.Report().Reachable; got != Yes {
		t.Errorf("Report().Reachable = %v, want %v", got, Yes)
	}
	if got := r.Report(); got.Reachable != Yes || len(got.Relays) > 0 {
		t.Errorf("Report() of the relay = %+v, want it reachable, without relays", got)
	}
}

// Only a peer that this node has dialed on the Internet is asked: one that has dialed
// it, or is on the same network, may be out of others' reach.
func TestWhoIsAskedToRelay(t *testing.T) {
	t.Run("not who has dialed", func(t *testing.T) {
		n, peer := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
		connected(t, peer, n)
		waitFor(t, n, "one", func(c []Connection) bool { return len(c) == 1 })
		if got := n.relays.candidates(); len(got) > 0 {
			t.Errorf("candidates = %v, want none", got)
		}
	})
	t.Run("not who is on the same network", func(t *testing.T) {
		n, peer := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
		connected(t, n, peer)
		if got := n.relays.candidates(); len(got) > 0 {
			t.Errorf("candidates = %v, want none", got)
		}
	})
	t.Run("not who is reached through another", func(t *testing.T) {
		from, relay, to := newThrough(t, Relay{})
		if got := from.relays.candidates(); len(got) > 0 {
			t.Errorf("candidates = %v, want none", got)
		}
		for _, c := range to.relays.candidates() {
			if c.RemotePeer() != relay.ID() {
				t.Errorf("candidates have %v, want the relay alone", c)
			}
		}
	})
}

func TestRefusalsAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, why, old := newRelays(nil), errors.New("why"), time.Now()
		for _, want := range []time.Duration{10, 20, 40, 80, 160, 320, 600, 600} {
			r.refuse("a", why)
			if r.mayAsk("a", old) || !r.mayAsk("b", old) {
				t.Errorf("mayAsk of who has refused, another = %v, %v, want false, true", r.mayAsk("a", old), r.mayAsk("b", old))
			}
			<-time.After(want * time.Second)
			if r.mayAsk("a", old) {
				t.Errorf("mayAsk just before %d s = true, want false", want)
			}
			<-time.After(1)
			if !r.mayAsk("a", old) {
				t.Errorf("mayAsk after %d s = false, want true", want)
			}
		}
		for _, tt := range []struct {
			err  error
			want bool
		}{{why, true}, {errNoRelay, false}, {&RelayError{circuitpb.Status_RESOURCE_LIMIT_EXCEEDED}, false}} {
			r.refuse("a", tt.err)
			<-time.After(time.Second)
			if got := r.mayAsk("a", time.Now()); got != tt.want {
				t.Errorf("mayAsk over another connection after %v = %v, want %v", tt.err, got, tt.want)
			}
		}
		<-time.After(2 * relayAgainLast)
		r.refuse("b", why)
		if _, ok := r.refused["a"]; ok {
			t.Error("a refusal is kept for ever")
		}
		r.refuse("c", errNoRelay)
		if got := r.refusals(); len(got) != 1 || got[0].Peer != "b" || got[0].Err != why {
			t.Errorf("refusals = %v, want that of b alone", got)
		}
	})
}
