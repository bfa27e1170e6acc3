package netwatch

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A fake is a source whose state a test sets.
type fake struct {
	mu             sync.Mutex
	state          State
	fails          int // how many reads are still to fail
	reads          int
	changed, slept func()
	ready, done    chan struct{}
}

func newFake() *fake {
	return &fake{state: stateWith("192.0.2.1/24"), ready: make(chan struct{}), done: make(chan struct{})}
}

func (f *fake) run(changed, slept func()) {
	f.changed, f.slept = changed, slept
	close(f.ready)
	<-f.done
}

func (f *fake) read() (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.fails > 0 {
		f.fails--
		return State{}, errors.New("too many files")
	}
	return f.state, nil
}

func (f *fake) events() bool { return true }
func (f *fake) close()       { close(f.done) }

// set changes the state, and says so.
func (f *fake) set(addrs ...string) {
	f.mu.Lock()
	f.state = stateWith(addrs...)
	f.mu.Unlock()
	f.changed()
}

func stateWith(addrs ...string) State {
	return State{Interfaces: []Interface{{1, "eth0", net.FlagUp, 1500, prefixesOf(addrs...)}}}.canonical()
}

// told is a state that was yielded, and when.
type told struct {
	state State
	after time.Duration
}

// watched starts a Watcher and what notes all that it yields until it is closed.
// It returns when the Watcher is ready.
func watched(t *testing.T, f *fake) (w *Watcher, got func() []told) {
	t.Helper()
	w, err := newWatcher(f)
	if err != nil {
		t.Fatal(err)
	}
	<-f.ready
	var all []told
	var wg sync.WaitGroup
	begin := time.Now()
	wg.Go(func() {
		for s := range w.Watch(t.Context()) {
			all = append(all, told{s, time.Since(begin)})
		}
	})
	synctest.Wait()
	return w, func() []told {
		w.Close()
		wg.Wait()
		return all
	}
}

func TestBurstIsOneChange(t *testing.T) {
	const a, b, c = "192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"
	type step struct {
		after time.Duration
		addr  string
	}
	many := make([]step, 30) // an event each 50 ms, for 1.5 s
	for i := range many {
		many[i] = step{50 * time.Millisecond, []string{b, c}[i%2]}
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  []time.Duration // when states are told
	}{
		{"nothing", nil, []time.Duration{0}},
		{"one event", []step{{time.Second, b}}, []time.Duration{0, 1100 * time.Millisecond}},
		{"the same as before", []step{{time.Second, a}}, []time.Duration{0}},
		{"there and back", []step{{time.Second, b}, {50 * time.Millisecond, a}}, []time.Duration{0}},
		{"a burst", []step{{time.Second, b}, {90 * time.Millisecond, a}, {90 * time.Millisecond, c}},
			[]time.Duration{0, 1280 * time.Millisecond}},
		{"two changes", []step{{time.Second, b}, {150 * time.Millisecond, c}},
			[]time.Duration{0, 1100 * time.Millisecond, 1250 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				_, got := watched(t, f)
				for _, s := range tt.steps {
					pass(s.after)
					f.set(s.addr)
				}
				pass(time.Minute)
				all := got()
				if len(all) != len(tt.want) {
					t.Fatalf("told %d states, %v, want %d", len(all), all, len(tt.want))
				}
				for i, w := range tt.want {
					if all[i].after != w {
						t.Errorf("state %d told after %v, want %v", i, all[i].after, w)
					}
				}
			})
		})
	}
	t.Run("no end of events", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			_, got := watched(t, f)
			for _, s := range many {
				pass(s.after)
				f.set(s.addr)
			}
			pass(time.Minute)
			all := got()
			if len(all) < 2 || all[1].after > 600*time.Millisecond {
				t.Errorf("told %v, want a change within half a second of the first event", all)
			}
			if f.reads > 6 {
				t.Errorf("state read %d times in a second and a half, want at most 6", f.reads)
			}
		})
	})
}

func TestSleepIsAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, got := watched(t, f)
		f.slept()
		pass(time.Second)
		all := got()
		if len(all) != 2 || all[1].state.Sleeps != 1 {
			t.Errorf("after a sleep told %v, want a second state with Sleeps 1", all)
		}
	})
}

func TestStateThatCannotBeReadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, got := watched(t, f)
		f.mu.Lock()
		f.fails = 3
		f.mu.Unlock()
		f.set("192.0.2.9/24")
		pass(10 * time.Second)
		all := got()
		if want := stateWith("192.0.2.9/24"); len(all) != 2 || !all[1].state.Equal(want) {
			t.Errorf("told %v, want a second state %v", all, want)
		}
	})
}

func TestSlowWatcherSeesTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		w, err := newWatcher(f)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		<-f.ready
		n := 0
		for s := range w.Watch(t.Context()) {
			if n++; n == 2 {
				if want := stateWith("192.0.2.4/24"); !s.Equal(want) {
					t.Errorf("second state = %v, want %v", s, want)
				}
				return
			}
			for _, addr := range []string{"192.0.2.2/24", "192.0.2.3/24", "192.0.2.4/24"} {
				f.set(addr)
				pass(time.Second)
			}
		}
	})
}

func TestNewFailsWithoutAState(t *testing.T) {
	f := newFake()
	f.fails = 1
	if _, err := newWatcher(f); err == nil {
		t.Error("newWatcher = nil error, want that the state can't be read")
	}
	<-f.done // or the source is left open
}

func TestCloseEndsWatchAndMayBeRepeated(t *testing.T) {
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range w.Watch(testContext(t)) {
				wg.Go(func() { w.Close() })
			}
		})
	}
	wg.Wait()
	w.Close()
	for range w.Watch(context.Background()) {
		w.State() // the last that was known
	}
}

// pass lets time pass in a simulation.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // it is synctest's time
}
