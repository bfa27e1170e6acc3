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

// A step is what may happen next.
type step struct {
	name string
	end  int // or a link, or a note
	do   func(w *world, k int) error
}

func (s step) String() string { return fmt.Sprint(s.name, " ", s.end) }

// steps returns all that may happen next, but for what goes wrong.
func (w *world) steps(all []step) []step {
	add := func(name string, k int, do func(w *world, k int) error) { all = append(all, step{name, k, do}) }
	for k, n := range w.notes {
		if n.link >= 0 && w.links[n.link].broken {
			add("drop note", k, func(w *world, k int) error { w.unpost(k); return nil })
		}
		add("note", k, func(w *world, k int) error { return w.get(w.unpost(k)) })
	}
	for k := range w.made {
		if w.links[k].hello {
			add("hello", k, (*world).arrive)
		}
		if w.links[k].answer {
			add("answer", k, (*world).hear)
		}
	}
	for i, e := range w.ends {
		if e == nil || e.err != nil {
			continue
		}
		if on := w.on[i]; on >= 0 {
			l := &w.links[on]
			if l.broken {
				add("notice", i, func(w *world, i int) error { w.ends[i].Lost(uint64(w.on[i]), start); w.leave(i); return nil })
			}
			if l.wire[i] != "" && !(i == 0 && l.answer) {
				add("read", i, (*world).takeOne)
			}
			if l.eof[i] && l.wire[i] == "" && e.Flushed() && e.Finished() && !e.Done() {
				add("drained", i, func(w *world, i int) error { w.ends[i].Drained(); return nil })
			}
			if e.Pending() && !l.eof[1-i] {
				add("send all", i, func(w *world, i int) error { return w.send(i, 1<<20) })
				if w.bytewise {
					add("send a byte", i, func(w *world, i int) error { return w.send(i, 1) })
				}
			}
			if !l.broken && !l.eof[1-i] && (e.Flushed() && e.Finished() || e.Done()) {
				add("close carrier", i, func(w *world, i int) error { w.links[w.on[i]].eof[1-i] = true; return nil })
			}
			if due, _ := e.AckDue(); due && w.posted(1-i, MessageAck) < w.acks {
				add("ack", i, func(w *world, i int) error { w.post(note{1 - i, w.on[i], MessageAck, w.ends[i].Ack()}); return nil })
			}
		} else if i == 1 && !e.Done() && w.posted(0, MessageLost)+w.posted(1, MessageGone) == 0 {
			add("tell of loss", i, func(w *world, i int) error { w.post(note{0, -1, MessageLost, w.ends[i].epoch}); return nil })
		}
		if w.wrote[i] <= len(w.frames[i]) {
			add("write", i, (*world).write)
		}
		if e.Done() && (w.on[i] < 0 || w.links[w.on[i]].eof[1-i] || w.links[w.on[i]].broken) {
			add("forget", i, func(w *world, i int) error { w.ends[i], w.on[i] = nil, -1; return nil })
		}
	}
	return all
}

// faults returns what may go wrong, or comes unasked.
func (w *world) faults(all []step) []step {
	add := func(name string, k int, do func(w *world, k int) error) { all = append(all, step{name, k, do}) }
	for k := range w.made {
		if w.links[k].broken || w.left.cuts == 0 {
			continue
		}
		add("cut", k, func(w *world, k int) error { w.left.cuts--; w.cut(k, false); return nil })
		if w.links[k].hello {
			add("cut behind hello", k, func(w *world, k int) error { w.left.cuts--; w.cut(k, true); return nil })
		}
	}
	if e := w.ends[0]; e != nil && e.err == nil && !e.Done() {
		if e.Attached() && w.left.moves > 0 {
			add("say hello", 0, func(w *world, k int) error { w.left.moves--; return w.hello(k) })
		}
		if !e.Attached() && w.left.resumes > 0 {
			add("say hello again", 0, func(w *world, k int) error { w.left.resumes--; return w.hello(k) })
		}
	}
	for i, e := range w.ends {
		if e == nil || e.err != nil || e.Done() {
			continue
		}
		if w.left.resets > 0 {
			add("reset", i, func(w *world, i int) error {
				w.left.resets--
				w.faulty = true
				w.ends[i].Reset(errors.New("enough"))
				w.post(note{1 - i, w.on[i], MessageReset, CodeReset})
				return nil
			})
		}
		if w.left.restarts > 0 {
			add("restart", i, func(w *world, i int) error {
				w.left.restarts--
				w.faulty = true
				w.leave(i)
				w.ends[i], w.state[i] = nil, restarted
				return nil
			})
		}
		if w.left.expiries > 0 && !e.Attached() {
			add("expire", i, func(w *world, i int) error {
				w.left.expiries--
				w.faulty = true
				w.ends[i].Expire(start.Add(worldLimit))
				return nil
			})
		}
	}
	return all
}

func (w *world) hello(int) error {
	if w.made == len(w.links) {
		return errors.New("too many carriers")
	}
	h := w.ends[0].Hello()
	if h.Epoch != uint64(w.made) {
		return fmt.Errorf("Hello = %+v, want epoch %d", h, w.made)
	}
	w.links[w.made] = link{made: true, hello: true, h: h}
	w.made++
	return nil
}

func (w *world) write(i int) error {
	e := w.ends[i]
	if w.wrote[i] == len(w.frames[i]) {
		e.CloseWrite()
	} else {
		at := 0
		for _, n := range w.frames[i][:w.wrote[i]] {
			at += n
		}
		p := make([]byte, w.frames[i][w.wrote[i]])
		for k := range p {
			p[k] = content(i, at+k)
		}
		if n := e.Append(p, start); n != len(p) {
			return fmt.Errorf("Append(%d bytes) = %d", len(p), n)
		}
	}
	w.wrote[i]++
	return nil
}

// send gives the carrier so many bytes at most; a broken one loses them.
func (w *world) send(i, limit int) error {
	e, l := w.ends[i], &w.links[w.on[i]]
	b := e.Next(start)
	b = b[:min(len(b), limit)]
	if !l.broken {
		l.wire[1-i] += string(b)
	}
	e.Sent(uint64(w.on[i]), len(b))
	return nil
}

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

// Whatever happens in whatever order, bytes arrive in order and once, and both ends
// come to know how it ended.
func TestExplore(t *testing.T) {
	for _, s := range []script{
		{name: "opening", frames: [2][]int{{2}, {1}}, opening: true, bytewise: true, acks: 2},
		{name: "a cut while it opens", frames: [2][]int{{1}, {}}, opening: true, acks: 1, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut", frames: [2][]int{{2}, {}}, acks: 1, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut, bytes back", frames: [2][]int{{}, {2}}, acks: 1, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut in a write", frames: [2][]int{{1}, {1}}, bytewise: true, budget: budget{cuts: 1, resumes: 1}},
		{name: "a cut in a long header", frames: [2][]int{{33}, {}}, budget: budget{cuts: 1}},
		{name: "two cuts", frames: [2][]int{{1}, {1}}, budget: budget{cuts: 2, resumes: 2}},
		{name: "two Hellos, and cuts", frames: [2][]int{{}, {1}}, budget: budget{cuts: 2, resumes: 1, moves: 1}},
		{name: "a move", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{moves: 1}},
		{name: "a move, several frames", frames: [2][]int{{2, 1}, {}}, acks: 1, budget: budget{moves: 1}},
		{name: "a move, several frames back", frames: [2][]int{{}, {1, 1}}, acks: 1, budget: budget{moves: 1}},
		{name: "two moves", frames: [2][]int{{1}, {}}, acks: 1, budget: budget{moves: 2}},
		{name: "two moves, bytes back", frames: [2][]int{{}, {1}}, acks: 1, budget: budget{moves: 2}},
		{name: "a reset and a move", frames: [2][]int{{1}, {}}, acks: 1, budget: budget{resets: 1, moves: 1}},
		{name: "two resets and a cut", frames: [2][]int{{1}, {}}, acks: 1, budget: budget{resets: 2, cuts: 1, resumes: 1}},
		{name: "a restart", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{restarts: 1, resumes: 1}},
		{name: "a restart and a move", frames: [2][]int{{}, {1}}, acks: 1, budget: budget{restarts: 1, moves: 1}},
		{name: "no carrier in time", frames: [2][]int{{1}, {}}, acks: 1, budget: budget{cuts: 1, resumes: 1, expiries: 1}},

		{name: "more bytes and a cut", frames: [2][]int{{2, 1}, {1}}, acks: 1, budget: budget{cuts: 1, resumes: 1}, deep: true},
		{name: "more bytes and a move", frames: [2][]int{{1}, {2, 1}}, acks: 1, budget: budget{moves: 1}, deep: true},
		{name: "a move and a cut", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{moves: 1, cuts: 1, resumes: 1}, deep: true},
		{name: "three moves", frames: [2][]int{{1}, {1}}, acks: 1, budget: budget{moves: 3}, deep: true},
		{name: "three cuts", frames: [2][]int{{1}, {1}}, bytewise: true, budget: budget{cuts: 3, resumes: 3}, deep: true},
		{name: "six bytes each way and a move", frames: [2][]int{{3, 2, 1}, {3, 2, 1}}, budget: budget{moves: 1}, deep: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			if s.deep && !*deep {
				t.Skip("takes minutes: -deep")
			}
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
