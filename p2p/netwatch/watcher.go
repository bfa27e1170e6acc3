package netwatch

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"
)

const (
	// Events of one change come within milliseconds of each other; a person
	// sees no difference in a tenth of a second.
	quiet = 100 * time.Millisecond

	// Where events never cease, a change is still told in time.
	longest = 500 * time.Millisecond

	// A state that can't be read, as when files have run out, is tried again.
	retry = time.Second
)

// A source knows when the state may be another, and reads it.
type source interface {
	// run calls changed whenever something may be another, and slept when the
	// machine slept, until close is called.
	run(changed, slept func())
	read() (State, error)
	events() bool
	close()
}

// A Watcher follows the networks of this machine. Make one with New.
type Watcher struct {
	source source
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	pokes  chan struct{} // holds one if the state is to be read anew

	mu      sync.Mutex // guards the fields below
	sleeps  int
	state   State
	changed chan struct{} // closed when state is replaced
}

// New returns a Watcher that has read the present state.
func New() (*Watcher, error) {
	source, err := open()
	if err != nil {
		return nil, fmt.Errorf("netwatch: %w", err)
	}
	w, err := newWatcher(source)
	if err != nil {
		return nil, fmt.Errorf("netwatch: %w", err)
	}
	return w, nil
}

// newWatcher owns the source, also if it returns an error.
func newWatcher(s source) (*Watcher, error) {
	state, err := s.read()
	if err != nil {
		s.close()
		return nil, err
	}
	w := &Watcher{source: s, state: state, pokes: make(chan struct{}, 1), changed: make(chan struct{})}
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.wg.Go(func() { s.run(w.poke, w.slept) })
	w.wg.Go(w.run)
	return w, nil
}

// State returns the present state.
func (w *Watcher) State() State {
	state, _ := w.present()
	return state
}

// Watch yields the present state, and then each later one that differs, until
// ctx is done or the Watcher closed.
func (w *Watcher) Watch(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		var last State
		for first := true; ; first = false {
			state, changed := w.present()
			// It may have changed and changed back while the caller was busy.
			if (first || !state.Equal(last)) && !yield(state) {
				return
			}
			last = state
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-w.ctx.Done():
				return
			}
		}
	}
}

// Events tells whether the system says when something changes, so that it is
// known at once. If not, the Watcher looks every 5 seconds.
func (w *Watcher) Events() bool { return w.source.events() }

// Close ends all Watch calls and waits until the Watcher's goroutines are gone.
// It may be called more than once and always returns nil.
func (w *Watcher) Close() error {
	w.once.Do(func() {
		w.stop()
		w.source.close()
	})
	w.wg.Wait()
	return nil
}

func (w *Watcher) present() (State, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state, w.changed
}

func (w *Watcher) poke() {
	select {
	case w.pokes <- struct{}{}:
	default: // what it holds stands for this one as well
	}
}

func (w *Watcher) slept() {
	w.mu.Lock()
	w.sleeps++
	w.mu.Unlock()
	w.poke()
}

func (w *Watcher) run() {
	var again <-chan time.Time
	for {
		select {
		case <-w.pokes:
			if !w.settle() {
				return
			}
		case <-again:
		case <-w.ctx.Done():
			return
		}
		again = nil
		if err := w.update(); err != nil {
			again = time.After(retry)
		}
	}
}

// settle waits for the end of a burst, and tells whether the Watcher is still
// open.
func (w *Watcher) settle() bool {
	end := time.NewTimer(longest)
	defer end.Stop()
	silence := time.NewTimer(quiet)
	defer silence.Stop()
	for {
		select {
		case <-w.pokes:
			silence.Reset(quiet)
		case <-silence.C:
			return true
		case <-end.C:
			return true
		case <-w.ctx.Done():
			return false
		}
	}
}

// update reads the state and, if it is another, tells those who watch.
func (w *Watcher) update() error {
	state, err := w.source.read()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	state.Sleeps = w.sleeps
	if state.Equal(w.state) {
		return nil
	}
	w.state = state
	close(w.changed)
	w.changed = make(chan struct{})
	return nil
}
