package portmap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A fake is a client, and the router that it asks.
type fake struct {
	is       Protocol
	mu       sync.Mutex
	deaf     bool // nothing is answered
	code     int  // with which mappings are refused, but for port 1
	lifetime time.Duration
	external netip.Addr
	forgot   bool // told with the next mapping
	asks     []ask
	probed   int
}

func newFake(is Protocol) *fake {
	return &fake{is: is, lifetime: lifetime, external: outside}
}

func (f *fake) protocol() Protocol { return f.is }

func (f *fake) probe(ctx context.Context) (reply, error) {
	f.mu.Lock()
	f.probed++
	f.mu.Unlock()
	return reply{}, f.hear(ctx)
}

// hear waits as long as a router that answers, or one that doesn't.
func (f *fake) hear(ctx context.Context) error {
	f.mu.Lock()
	wait := 10 * time.Millisecond
	if f.deaf {
		wait = giveUp
	}
	deaf := f.deaf
	f.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
	}
	if deaf {
		return errSilent
	}
	return nil
}

func (f *fake) request(ctx context.Context, a ask) (reply, error) {
	if err := f.hear(ctx); err != nil {
		return reply{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = append(f.asks, a)
	if f.code != 0 && a.port != 1 {
		return reply{}, &RefusedError{f.is, f.code, "no"}
	}
	forgot := f.forgot
	f.forgot = false
	return reply{netip.AddrPortFrom(f.external, a.port), f.lifetime, 0, forgot}, nil
}

// do changes the router.
func (f *fake) do(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// asked returns for how long each port was asked for, and forgets it.
func (f *fake) asked() (out []ask) {
	f.do(func(f *fake) { out, f.asks = f.asks, nil })
	return out
}

// simulate runs a test with a Mapper whose gateway the fakes are, in time that
// is simulated.
func simulate(t *testing.T, fakes []*fake, test func(t *testing.T, m *Mapper)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMapper(Config{}, surroundings{
			uplink: func() (uplink, error) { return home, nil },
			clients: func(uplink) (out []client) {
				for _, f := range fakes {
					out = append(out, f)
				}
				return out
			},
		})
		defer m.Close()
		test(t, m)
	})
}

func mustMap(t *testing.T, m *Mapper, ports ...uint16) {
	t.Helper()
	for _, p := range ports {
		if err := m.Map(UDP, p); err != nil {
			t.Fatal(err)
		}
	}
}

// pass lets time pass in a simulation, and what is due then happen.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // it is synctest's time
	synctest.Wait()
}

func TestFirstThatWorksIsTaken(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(pcp, natpmp, upnp *fake)
		want   Protocol
		within time.Duration
	}{
		{"all", func(_, _, _ *fake) {}, PCP, 200 * time.Millisecond},
		{"not PCP", func(p, _, _ *fake) { p.deaf = true }, NATPMP, 200 * time.Millisecond},
		{"UPnP alone", func(p, n, _ *fake) { p.deaf, n.deaf = true, true }, UPnP, 200 * time.Millisecond},
		{"PCP refuses", func(p, _, _ *fake) { p.code = 2 }, NATPMP, 200 * time.Millisecond},
		{"all but UPnP refuse", func(p, n, _ *fake) { p.code, n.code = 2, 2 }, UPnP, 200 * time.Millisecond},
		{"none", func(p, n, u *fake) { p.deaf, n.code, u.deaf = true, 2, true }, 0, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fakes := []*fake{newFake(PCP), newFake(NATPMP), newFake(UPnP)}
			tt.change(fakes[0], fakes[1], fakes[2])
			simulate(t, fakes, func(t *testing.T, m *Mapper) {
				mustMap(t, m, 4001, 4002)
				pass(tt.within)
				var got Protocol
				for _, mapping := range m.Mappings() {
					got = mapping.By
				}
				if got != tt.want {
					t.Errorf("mapped by %v, want %v; report %+v", got, tt.want, m.Report())
				}
				if n := len(m.Mappings()); tt.want != 0 && n != 2 {
					t.Errorf("%d mappings, want 2", n)
				}
				pass(giveUp)
				for _, f := range fakes {
					want := Available
					if f.deaf {
						want = Silent
					} else if f.code != 0 {
						want = Refused
					}
					if a := attempt(m.Report(), f.is); a.Answer != want {
						t.Errorf("%v: %v, want %v", f.is, a.Answer, want)
					}
				}
			})
		})
	}
}

func TestSecondPortDoesNotWaitForProbes(t *testing.T) {
	able, deaf := newFake(PCP), newFake(UPnP)
	deaf.deaf = true
	simulate(t, []*fake{able, deaf}, func(t *testing.T, m *Mapper) {
		mustMap(t, m, 4001)
		pass(500 * time.Millisecond)
		mustMap(t, m, 4002)
		pass(100 * time.Millisecond)
		if got := m.Mappings(); len(got) != 2 {
			t.Errorf("Mappings() = %v, want both before the last protocol is given up", got)
		}
	})
}

func TestMappingIsRenewedAtHalfItsLifetime(t *testing.T) {
	f := newFake(PCP)
	simulate(t, []*fake{f}, func(t *testing.T, m *Mapper) {
		mustMap(t, m, 4001)
		pass(time.Second)
		first := f.asked()
		pass(lifetime/2 - 2*time.Second)
		if got := f.asked(); len(got) != 0 {
			t.Errorf("asked %v before half of the lifetime, want nothing", got)
		}
		pass(2 * time.Second)
		again := f.asked()
		if len(first) != 1 || len(again) != 1 || first[0].nonce != again[0].nonce {
			t.Fatalf("asked %v and %v, want the same nonce", first, again)
		}
		if again[0].suggested != netip.AddrPortFrom(outside, 4001) {
			t.Errorf("suggested = %v, want what it was", again[0].suggested)
		}
		if until := time.Until(m.Mappings()[0].Until); until < lifetime-2*time.Second {
			t.Errorf("renewed mapping ends in %v, want %v", until, lifetime)
		}
	})
}

func TestMappingOfASilentRouterExpires(t *testing.T) {
	f := newFake(PCP)
	simulate(t, []*fake{f}, func(t *testing.T, m *Mapper) {
		mustMap(t, m, 4001)
		pass(time.Second)
		f.do(func(f *fake) { f.deaf = true })
		pass(lifetime - 3*time.Second)
		if got := m.Mappings(); len(got) != 1 {
			t.Errorf("before its end Mappings() = %v, want the one", got)
		}
		pass(10 * time.Second)
		if got := m.Mappings(); len(got) != 0 {
			t.Errorf("after its end Mappings() = %v, want none", got)
		}
		if a := attempt(m.Report(), PCP); a.Answer != Silent {
			t.Errorf("attempt = %v, want %v", a.Answer, Silent)
		}
		f.do(func(f *fake) { f.deaf = false })
		pass(longestPause)
		if got := m.Mappings(); len(got) != 1 {
			t.Errorf("when the router is back Mappings() = %v, want the one", got)
		}
	})
}

func TestSilentRouterIsAskedSeldom(t *testing.T) {
	f := newFake(PCP)
	f.deaf = true
	simulate(t, []*fake{f}, func(t *testing.T, m *Mapper) {
		mustMap(t, m, 4001)
		pass(24 * time.Hour)
		if f.probed < 20 || f.probed > 32 {
			t.Errorf("in a day it was asked %d times, want about once an hour", f.probed)
		}
	})
}

func TestRefusedPortLeavesOthersAlone(t *testing.T) {
	f := newFake(PCP)
	f.code = 8
	simulate(t, []*fake{f}, func(t *testing.T, m *Mapper) {
		mustMap(t, m, 2, 1, 3)
		pass(24 * time.Hour)
		got := m.Mappings()
		if len(got) != 1 || got[0].Port != 1 {
			t.Errorf("Mappings() = %v, want port 1 alone", got)
		}
		if n := len(f.asked()); n > 250 { // 96 of them to renew
			t.Errorf("in a day it was asked %d times, want 250 at most", n)
		}
	})
}

func TestRouterThatForgotIsAskedForAll(t *testing.T) {
	f := newFake(PCP)
	simulate(t, []*fake{f}, func(t *testing.T, m *Mapper) {
		mustMap(t, m, 4001)
		pass(time.Minute)
		mustMap(t, m, 4002)
		pass(time.Minute)
		f.asked()
		f.do(func(f *fake) { f.forgot = true })
		pass(lifetime/2 - 2*time.Minute + 2*soonest) // when the first is renewed
		var ports []uint16
		for _, a := range f.asked() {
			ports = append(ports, a.port)
		}
		if !slices.Equal(ports, []uint16{4001, 4002}) {
			t.Errorf("asked for %v, want both", ports)
		}
		// One that says so each time is not asked forever.
		for range 10 {
			f.do(func(f *fake) { f.forgot = true })
			pass(time.Minute)
		}
		if n := len(f.asked()); n > 30 {
			t.Errorf("asked %d times in ten minutes, want few", n)
		}
	})
}

func TestRefreshFollowsTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var noRoute error
		up := home
		old, other := newFake(PCP), newFake(NATPMP)
		m := newMapper(Config{}, surroundings{
			uplink: func() (uplink, error) {
				mu.Lock()
				defer mu.Unlock()
				return up, noRoute
			},
			clients: func(u uplink) []client {
				if u == home {
					return []client{old}
				}
				return []client{other}
			},
		})
		defer m.Close()
		move := func(to uplink, err error) {
			mu.Lock()
			up, noRoute = to, err
			mu.Unlock()
			if err := m.Refresh(); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
		}
		mustMap(t, m, 4001)
		pass(time.Second)
		old.do(func(f *fake) { f.deaf = true })
		if err := m.Refresh(); err != nil { // waits for one that is gone
			t.Fatal(err)
		}
		pass(100 * time.Millisecond)

		there := uplink{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
		move(there, nil)
		got := m.Mappings()
		if len(got) != 1 || got[0].By != NATPMP || m.Report().Gateway != there.gateway {
			t.Errorf("on another network the report is %+v, want a mapping of its gateway", m.Report())
		}
		move(uplink{}, errors.New("no route"))
		if r := m.Report(); len(r.Mappings) != 0 || r.Err == nil || len(r.Attempts) != 0 {
			t.Errorf("without a network the report is %+v, want nothing and why", r)
		}
		mu.Lock()
		up, noRoute = there, nil
		mu.Unlock()
		pass(2 * firstPause)
		if got := m.Mappings(); len(got) != 1 {
			t.Errorf("with a network that came unnoticed Mappings() = %v, want one", got)
		}
	})
}

func TestRefreshKeepsWhatStillHolds(t *testing.T) {
	f := newFake(PCP)
	simulate(t, []*fake{f}, func(t *testing.T, m *Mapper) {
		mustMap(t, m, 4001)
		pass(time.Second)
		f.do(func(f *fake) { f.deaf = true })
		if err := m.Refresh(); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if got := m.Mappings(); len(got) != 1 {
			t.Errorf("Mappings() = %v, want the one that has not ended", got)
		}
	})
}

func TestCloseWaitsASecondAtMost(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration // that it is open
		deaf  bool
	}{
		{"at once", 0, false},
		{"while asking", 5 * time.Millisecond, false},
		{"with mappings", time.Minute, false},
		{"with a silent router", time.Minute, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(PCP)
			simulate(t, []*fake{f}, func(t *testing.T, m *Mapper) {
				mustMap(t, m, 1, 2, 3)
				if tt.after > 0 {
					pass(tt.after)
				}
				f.do(func(f *fake) { f.deaf = tt.deaf })
				begin := time.Now()
				m.Close()
				if took := time.Since(begin); took > farewell {
					t.Errorf("Close took %v, want at most %v", took, farewell)
				}
				var ended int
				for _, a := range f.asked() {
					if a.lifetime == 0 {
						ended++
					}
				}
				if want := 3; tt.after > time.Second && !tt.deaf && ended != want {
					t.Errorf("Close ended %d mappings, want %d", ended, want)
				}
			})
		})
	}
}
