package durable

import (
	"errors"
	"flag"
	"fmt"
	"hash/maphash"
	"slices"
	"testing"
	"time"
)

// A search goes through all that can happen.
type search struct {
	seed  maphash.Seed
	seen  map[uint64]struct{} // with what may still go wrong
	fair  map[uint64]struct{} // from there all ends well
	buf   []byte
	trace []step
	depth int
}

func (s *search) hash(w *world, withLeft bool) uint64 {
	s.buf = w.key(s.buf[:0])
	if withLeft {
		l := w.left
		s.buf = append(s.buf, l.cuts, l.moves, l.resumes, l.resets, l.restarts, l.expiries)
	}
	return maphash.Bytes(s.seed, s.buf)
}

// explore looks at w, and at all that may come of it.
func (s *search) explore(w *world) error {
	h := s.hash(w, true)
	if _, ok := s.seen[h]; ok {
		return nil
	}
	s.seen[h] = struct{}{}
	if err := s.ends(w.clone()); err != nil {
		return err
	}
	s.depth = max(s.depth, len(s.trace))
	for _, st := range w.faults(w.steps(nil)) {
		s.trace = append(s.trace, st)
		next := w.clone()
		err := st.do(next, st.end)
		if err == nil {
			err = next.settle()
		}
		if err == nil {
			err = s.explore(next)
		}
		if err != nil {
			return err
		}
		next.free()
		s.trace = s.trace[:len(s.trace)-1]
	}
	return nil
}

// ends has all happen that can, in a fair order and without another fault, and checks
// that both ends come to an end.
func (s *search) ends(w *world) error {
	defer w.free()
	base := len(s.trace)
	var passed []uint64
	for range 1000 {
		h := s.hash(w, false)
		if _, ok := s.fair[h]; ok {
			break
		}
		passed = append(passed, h)
		steps := w.steps(nil)
		if e := w.ends[0]; e != nil && e.err == nil && !e.Done() && !e.Attached() && !w.asking() {
			steps = slices.Insert(steps, 0, step{"say hello", 0, (*world).hello})
		}
		if len(steps) == 0 {
			if slices.Contains(w.state[:], running) || !w.faulty && w.state != [2]int{done, done} {
				return fmt.Errorf("nothing more happens, states %v", w.state)
			}
			break
		}
		s.trace = append(s.trace, steps[0])
		if err := steps[0].do(w, steps[0].end); err != nil {
			return err
		}
		if err := w.settle(); err != nil {
			return err
		}
		if len(passed) == 1000 {
			return errors.New("there is no end to it")
		}
	}
	for _, h := range passed {
		s.fair[h] = struct{}{}
	}
	s.trace = s.trace[:base]
	return nil
}

// asking tells whether a Hello or its answer is on its way.
func (w *world) asking() bool {
	return slices.ContainsFunc(w.links[1:], func(l link) bool { return l.hello || l.answer })
}

var deep = flag.Bool("deep", false, "explore more, which takes minutes")

// scripts are tried each day, and deepScripts with -deep.
var (
	scripts = []script{
		{name: "opening", frames: [2][]int{{2}, {1}}, opening: true, bytewise: true, acks: 2},
		{name: "a cut while it opens", frames: [2][]int{{1}, {}}, opening: true, acks: 1, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut", frames: [2][]int{{2}, {}}, acks: 1, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut, bytes back", frames: [2][]int{{}, {2}}, acks: 1, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut in a write", frames: [2][]int{{1}, {1}}, bytewise: true, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut in a long header", frames: [2][]int{{33}, {}}, budget: budget{cuts: 1}},
		{name: "two cuts", frames: [2][]int{{1}, {1}}, budget: budget{cuts: 2, resumes: 2}},
		{name: "two Hellos, and cuts", frames: [2][]int{{}, {1}}, budget: budget{cuts: 2, resumes: 1, moves: 1}},
		{name: "a move", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{moves: 1}},
		{name: "a move, several frames", frames: [2][]int{{2, 1}, {}}, budget: budget{moves: 1}},
		{name: "a move, several frames back", frames: [2][]int{{}, {1, 1}}, acks: 1, budget: budget{moves: 1}},
		{name: "two moves", frames: [2][]int{{1}, {}}, acks: 1, budget: budget{moves: 2}},
		{name: "two moves, bytes back", frames: [2][]int{{}, {1}}, budget: budget{moves: 2}},
		{name: "a reset and a move", frames: [2][]int{{1}, {}}, budget: budget{resets: 1, moves: 1}},
		{name: "two resets and a cut", frames: [2][]int{{1}, {}}, budget: budget{resets: 2, cuts: 1, resumes: 1}},
		{name: "a restart", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{restarts: 1, resumes: 1}},
		{name: "a restart and a move", frames: [2][]int{{}, {1}}, acks: 1, budget: budget{restarts: 1, moves: 1}},
		{name: "no carrier in time", frames: [2][]int{{1}, {}}, acks: 1, budget: budget{cuts: 1, resumes: 1, expiries: 1}},
	}

	deepScripts = []script{
		{name: "more bytes and a cut", frames: [2][]int{{2, 1}, {1}}, acks: 1, budget: budget{cuts: 1, resumes: 1}},
		{name: "more bytes and a move", frames: [2][]int{{1}, {2, 1}}, acks: 1, budget: budget{moves: 1}},
		{name: "a move and a cut", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{moves: 1, cuts: 1, resumes: 1}},
		{name: "three moves", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{moves: 3}},
		{name: "three cuts", frames: [2][]int{{1}, {1}}, bytewise: true, budget: budget{cuts: 3, resumes: 3}},
		{name: "six bytes each way and a move", frames: [2][]int{{3, 2, 1}, {3, 2, 1}}, budget: budget{moves: 1}},
	}
)

// Whatever happens in whatever order, bytes arrive in order and once, and both ends
// come to know how it ended.
func TestExplore(t *testing.T) {
	all := scripts
	if *deep {
		all = slices.Concat(scripts, deepScripts)
	}
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			x := &search{seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}, fair: map[uint64]struct{}{}}
			w := newWorld(&s)
			if err := x.explore(w); err != nil {
				t.Fatalf("%v, after %v", err, x.trace)
			}
			t.Logf("%d states, %d of them without what may still go wrong, at most %d steps, %v", len(x.seen), len(x.fair), x.depth, time.Since(began))
		})
	}
}
