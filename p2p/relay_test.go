package p2p

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"golang.org/x/time/rate"
)

func TestRelayLimits(t *testing.T) {
	for _, tt := range []struct {
		name     string
		in, want Relay
		err      bool
	}{
		{"nothing said", Relay{}, Relay{Peers: 1024, Circuits: 256, Rate: 128 << 20}, false},
		{"all said", Relay{Peers: 1, Circuits: 2, Rate: 3, Bytes: 4}, Relay{Peers: 1, Circuits: 2, Rate: 3, Bytes: 4}, false},
		{"off", Relay{Off: true}, Relay{Off: true, Peers: 1024, Circuits: 256, Rate: 128 << 20}, false},
		{"fewer than no peers", Relay{Peers: -1}, Relay{}, true},
		{"fewer than no circuits", Relay{Circuits: -1}, Relay{}, true},
		{"less than nothing a second", Relay{Rate: -1}, Relay{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.in.check(); (err != nil) != tt.err {
				t.Errorf("check() = %v, want an error: %v", err, tt.err)
			}
			if got := tt.in.withDefaults(); !tt.err && got != tt.want {
				t.Errorf("withDefaults() = %+v, want %+v", got, tt.want)
			}
		})
	}
	_, err := New(Config{Relay: Relay{Rate: -1}})
	checkText(t, "New with a negative limit", err, "p2p: Config.Relay has a negative limit: {Off:false Peers:0 Circuits:0 Rate:-1 Bytes:0}")
}

// refusedBy waits until a node knows that a peer does not relay to it, and why.
func refusedBy(t testing.TB, n *Node, relay *Node) (err error) {
	t.Helper()
	until(t, "it is known that the peer does not relay", func() bool {
		n.relays.mu.Lock()
		defer n.relays.mu.Unlock()
		f := n.relays.refused[relay.ID()]
		if f != nil {
			err = f.err
		}
		return f != nil
	})
	return err
}

func TestRelayOff(t *testing.T) {
	relay, to, from := newOutsideNode(t, Config{Relay: Relay{Off: true}}), newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, to, relay)
	connected(t, from, relay)
	checkIs(t, "what the peer is known by", refusedBy(t, to, relay), errNoRelay)
	if got := to.Relays(); len(got) > 0 {
		t.Errorf("Relays() = %v, want none", got)
	}
	_, err := from.Dial(testContext(t), to.ID(), "/echo/1")
	checkIs(t, "Dial", err, ErrNoAddress)
	if err := from.Connect(testContext(t), to.ID(), throughRelay(relay, to)...); err == nil {
		t.Error("Connect through a node that does not relay = nil, want an error")
	}
	if got := relay.Report().Relaying; !got.Off || got.Bytes != 0 {
		t.Errorf("Report().Relaying = %+v, want it off", got)
	}
	if got := to.Report().Refused; len(got) > 0 {
		t.Errorf("Report().Refused = %v, want none: the peer was not asked", got)
	}
}

func TestRelayForNoMorePeers(t *testing.T) {
	relay, first, second := newOutsideNode(t, Config{Relay: Relay{Peers: 1}}), newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, first, relay)
	hasRelays(t, first, relay)
	connected(t, second, relay)
	err := refusedBy(t, second, relay)
	var refused *RelayError
	if !errors.As(err, &refused) || refused.Status != circuitpb.Status_RESERVATION_REFUSED {
		t.Errorf("the second of one peer is refused with %v, want %v", err, circuitpb.Status_RESERVATION_REFUSED)
	}
	if got := second.Report(); len(got.Relays) > 0 || len(got.Refused) != 1 || got.Refused[0].Peer != relay.ID() {
		t.Errorf("Report() = %+v, want it refused by %v", got, relay.ID())
	}
}

func TestRelayNoMoreCircuits(t *testing.T) {
	relay, to := newOutsideNode(t, Config{Relay: Relay{Circuits: 1}}), newOutsideNode(t, Config{})
	connected(t, to, relay)
	hasRelays(t, to, relay)
	for i, wantErr := range []bool{false, true} {
		from := newTestNode(t, Config{Listen: both})
		dontLead(from, to.ID())
		err := from.Connect(testContext(t), to.ID(), throughRelay(relay, to)...)
		var refused *RelayError
		if full := errors.As(err, &refused) && refused.Status == circuitpb.Status_RESOURCE_LIMIT_EXCEEDED; full != wantErr || !full && err != nil {
			t.Errorf("Connect of peer %d through a relay that has room for one = %v", i+1, err)
		}
	}
}

// newThrough returns two nodes that are connected through a relay, and stay so.
func newThrough(t testing.TB, r Relay) (from, relay, to *Node) {
	t.Helper()
	from, relay, to = newTestNode(t, Config{Listen: both}), newOutsideNode(t, Config{Relay: r}), newOutsideNode(t, Config{})
	connected(t, to, relay)
	hasRelays(t, to, relay)
	dontLead(from, to.ID())
	if err := from.Connect(testContext(t), to.ID(), throughRelay(relay, to)...); err != nil {
		t.Fatal(err)
	}
	return from, relay, to
}

// What a peer may send in a day is an end, which is no end of file.
func TestRelayNoMoreBytes(t *testing.T) {
	const most = 256 << 10
	from, relay, to := newThrough(t, Relay{Bytes: most})
	near, far := openPlainStream(t, from, to)
	got := make(chan int64, 1)
	go func() {
		n, err := io.Copy(io.Discard, far)
		if !errors.Is(err, ErrReset) {
			t.Errorf("Read at the other end = %v, want %v", err, ErrReset)
		}
		got <- n
	}()
	_ = near.SetWriteDeadline(time.Now().Add(patience))
	var err error
	for chunk := make([]byte, 16<<10); err == nil; {
		_, err = near.Write(chunk)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write of more than may be = %v, want the stream to end", err)
	}
	if n := <-got; n > most {
		t.Errorf("%d bytes arrive, want %d at most", n, most)
	}
	if bytes := relay.Report().Relaying.Bytes; bytes == 0 {
		t.Errorf("Report().Relaying.Bytes = %d, want more", bytes)
	}
}

// What is carried goes at the rate that is allowed.
func TestRelayRate(t *testing.T) {
	const perSecond = 64 << 10
	from, _, to := newThrough(t, Relay{Rate: perSecond})
	near, far := openStream(t, from, to)
	began := time.Now()
	const n = 2 * perSecond // of which a second's worth may come at once
	go func() {
		_, _ = near.Write(make([]byte, n))
		_ = near.CloseWrite()
	}()
	_ = far.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.Copy(io.Discard, far); got != n || err != nil {
		t.Errorf("%d bytes arrive, %v, want %d", got, err, n)
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("twice what may go in a second took %v", took)
	}
}

func TestRelayMeter(t *testing.T) {
	newMeter := func(r Relay) *relayMeter {
		return &relayMeter{limits: r, rate: rate.NewLimiter(rate.Limit(r.Rate), max(r.Rate, relayBuffer))}
	}
	t.Run("rate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, began := newMeter(Relay{Rate: relayBuffer}), time.Now()
			for i := range 10 {
				if !m.take(context.Background(), relayBuffer) {
					t.Fatal("take = false, want true")
				}
				if got, want := time.Since(began).Round(time.Millisecond), time.Duration(i)*time.Second; got != want {
					t.Errorf("buffer %d goes after %v, want %v", i+1, got, want)
				}
			}
		})
	})
	t.Run("a stream that ends is not waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, began := newMeter(Relay{Rate: 1}), time.Now()
			m.take(context.Background(), relayBuffer)
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Second, cancel)
			if m.take(ctx, relayBuffer) {
				t.Error("take of a stream that ends = true, want false")
			}
			if got := time.Since(began); got > time.Second {
				t.Errorf("it took %v, want a second", got)
			}
		})
	})
	t.Run("bytes of a day", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMeter(Relay{Rate: 1 << 30, Bytes: 100})
			for _, step := range []struct {
				n     int
				after time.Duration
				want  bool
			}{{100, 0, true}, {1, 0, false}, {1, relayDay, false}, {100, 1, true}, {1, 0, false}} {
				<-time.After(step.after)
				if got := m.take(context.Background(), step.n); got != step.want {
					t.Errorf("take(%d) after %v = %v, want %v", step.n, step.after, got, step.want)
				}
			}
		})
	})
}

// One peer's use takes nothing from another's.
func TestRelayMetersEachPeer(t *testing.T) {
	relay, a, b := newOutsideNode(t, Config{}), newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	connected(t, a, relay)
	connected(t, b, relay)
	hasRelays(t, a, relay)
	hasRelays(t, b, relay)
	h := relay.carrier.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.meters[a.ID()] == nil || h.meters[b.ID()] == nil || h.meters[a.ID()] == h.meters[b.ID()] {
		t.Errorf("meters = %v, want one for each of two peers", h.meters)
	}
}

func TestRelayErrorText(t *testing.T) {
	for status, want := range map[circuitpb.Status]string{
		circuitpb.Status_NO_RESERVATION:          "the relay has no such peer",
		circuitpb.Status_RESOURCE_LIMIT_EXCEEDED: "the relay carries as much as it may",
		circuitpb.Status_PERMISSION_DENIED:       "the relay refuses",
		circuitpb.Status_CONNECTION_FAILED:       "the relay does not reach the peer",
		circuitpb.Status_MALFORMED_MESSAGE:       "the relay says MALFORMED_MESSAGE",
	} {
		if got := (&RelayError{status}).Error(); got != want {
			t.Errorf("RelayError of %v = %q, want %q", status, got, want)
		}
	}
}

// Who is not reserved for is not dialed by the relay.
func TestRelayDialsNobody(t *testing.T) {
	from, relay, to := newTestNode(t, Config{Listen: both}), newOutsideNode(t, Config{}), newTestNode(t, Config{})
	connected(t, relay, to) // it knows where
	if err := relay.Disconnect(to.ID()); err != nil {
		t.Fatal(err)
	}
	err := from.Connect(testContext(t), to.ID(), throughRelay(relay, to)...)
	var refused *RelayError
	if !errors.As(err, &refused) || refused.Status != circuitpb.Status_NO_RESERVATION {
		t.Errorf("Connect = %v, want %v", err, circuitpb.Status_NO_RESERVATION)
	}
	if !strings.Contains(err.Error(), "the relay has no such peer") {
		t.Errorf("Connect = %q, which does not say why", err)
	}
	if got := outcomeOf(err); got != NoRelay {
		t.Errorf("outcomeOf(%v) = %v, want %v", err, got, NoRelay)
	}
	for _, c := range relay.Connections() {
		if c.Peer == to.ID() {
			t.Errorf("the relay has %+v, want no connection to whom it was asked for", c)
		}
	}
}
