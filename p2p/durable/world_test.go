package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What has become of an end.
const (
	running   = iota
	never     // the opener's first Hello has not come
	done      // both ends closed
	failed    // with an error
	restarted // it knows nothing more
)

// A link is a carrier, with a connection of its own. What comes to end i is at i.
type link struct {
	made, broken  bool
	wire          [2]string // on its way
	eof           [2]bool   // what comes is all
	hello, answer bool      // on their way
	h             Hello
	a             Answer
}

// A note is a Message on its way to an end. It is lost only with the link, if any, whose
// connection it goes on; until then, and even later, it may come at any time.
type note struct {
	to, link int // -1 is no link
	kind     byte
	value    uint64
}

// A world is two ends and all that is between them: the opener is 0. It is copied by
// clone alone.
type world struct {
	ends   [2]*End
	state  [2]int
	on     [2]int // the link that the end goes on with, or -1
	wrote  [2]int // of the script
	read   [2]int // bytes
	links  [8]link
	made   int
	notes  []note // not changed in place
	left   budget
	faulty bool // an end was reset, restarted, or out of time; or the first Hello was lost
	*script
}

// budget is what may still go wrong.
type budget struct{ cuts, moves, resumes, resets, restarts, expiries byte }

// script is what the ends write, in frames of so many bytes, before they close.
type script struct {
	name     string
	frames   [2][]int
	opening  bool // the first Hello is yet to arrive
	bytewise bool // writes are cut anywhere
	acks     int  // on their way each way
	budget   budget
}

const worldLimit = time.Minute

func newWorld(s *script) *world {
	w := &world{script: s, left: s.budget, made: 1, on: [2]int{0, -1}, state: [2]int{running, never}}
	w.ends[0] = newWorldEnd(true)
	w.links[0] = link{made: true, hello: true}
	if !s.opening {
		w.arrive(0)
	}
	return w
}

func newWorldEnd(opener bool) *End {
	e := newEnd(ID{1}, opener, Config{Limit: worldLimit})
	e.limit = 16 // so that every fourth byte is to be acknowledged at once
	return e
}

func (w *world) clone() *world {
	c := *w
	for i, e := range w.ends {
		if e != nil {
			c.ends[i] = e.clone()
		}
	}
	return &c
}

func (e *End) clone() *End {
	c := *e
	c.out.lent = nil
	c.out.chunks = slices.Clone(e.out.chunks)
	for i := range c.out.chunks {
		k := &c.out.chunks[i]
		old := k.buf
		if k.buf = make([]byte, 16); len(old) >= minChunk {
			k.buf = newChunk(len(old))
		}
		copy(k.buf[k.from:], old[k.from:k.to])
	}
	return &c
}

// free lets the memory be used for other clones.
func (w *world) free() {
	for _, e := range w.ends {
		if e != nil {
			e.out.clear()
		}
	}
}

// key returns what tells w from others, but for what may still go wrong.
func (w *world) key(b []byte) []byte {
	num := func(v ...int) {
		for _, v := range v {
			b = binary.AppendVarint(b, int64(v))
		}
	}
	flag := func(v ...bool) {
		for _, v := range v {
			if v {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	for i, e := range w.ends {
		num(w.state[i], w.on[i], w.wrote[i], w.read[i])
		if e == nil {
			continue
		}
		num(int(e.epoch), int(e.asked), int(e.from), int(e.acked), int(e.given), e.toAsk)
		num(int(e.got), int(e.skip), e.body, int(e.told), int(e.out.end), e.out.at, e.out.pos, len(e.out.head))
		flag(e.attached, e.closed, e.ask, e.finished, e.urgent)
		b = append(b, e.out.head...)
		for _, c := range e.out.chunks {
			num(int(c.start), c.to-c.from)
			b = append(b, c.buf[c.from:c.to]...)
		}
		if e.err != nil {
			b = append(b, e.err.Error()...)
		}
	}
	for k := range w.made {
		l := &w.links[k]
		flag(l.broken, l.hello, l.answer, l.eof[0], l.eof[1])
		if l.hello {
			num(int(l.h.Got))
		}
		if l.answer {
			num(int(l.a.Got), int(l.a.From), int(l.a.Code))
		}
		for _, s := range l.wire {
			num(len(s))
			b = append(b, s...)
		}
	}
	for _, n := range w.notes {
		num(n.to, n.link, int(n.kind), int(n.value))
	}
	flag(w.faulty)
	return b
}

// settle tells what has become of the ends, and finds what must not be.
func (w *world) settle() error {
	for i, e := range w.ends {
		if e == nil {
			continue
		}
		switch {
		case e.err != nil:
			if w.state[i] == running {
				w.leave(i)
			}
			w.state[i] = failed
			if !w.faulty {
				return fmt.Errorf("end %d is over: %w", i, e.err)
			}
			if errors.Is(e.err, ErrProtocol) {
				return e.err
			}
		case e.Done():
			w.state[i] = done
			// An end that was started anew can't be told from one that was done.
			if other := w.ends[1-i]; w.read[1-i] != w.total(i) || other != nil && !other.Finished() {
				if w.state[1-i] != restarted {
					return fmt.Errorf("end %d is done, and the other has %d bytes of %d", i, w.read[1-i], w.total(i))
				}
			}
		case w.state[1-i] == done && w.read[i] != w.total(1-i):
			return fmt.Errorf("end %d does not have all, and the other is done", i)
		}
		if over := e.err != nil || e.Done(); over && e.Held() != 0 || e.Held() > 2*minChunk {
			return fmt.Errorf("end %d holds %d bytes", i, e.Held())
		}
		if err := w.checkLeft(i); err != nil {
			return err
		}
		if e.acked > e.given || e.given > e.out.end || e.told > e.got {
			return fmt.Errorf("end %d acked %d, given %d of %d; told %d of %d", i, e.acked, e.given, e.out.end, e.told, e.got)
		}
	}
	return nil
}

// checkLeft checks that a carrier which an end may leave to another stream carries no
// more of this one.
func (w *world) checkLeft(i int) error {
	e, k := w.ends[i], w.on[i]
	if k < 0 || w.links[k].broken || !e.Through() || !e.Done() && (i == 0 || !e.Flushed()) {
		return nil
	}
	l := &w.links[k]
	if l.wire[i] != "" || l.answer && i == 0 {
		return fmt.Errorf("end %d leaves a carrier that brings %q", i, l.wire[i])
	}
	if w.on[1-i] != k {
		return nil
	}
	other := w.ends[1-i]
	if other.Pending() {
		return fmt.Errorf("end %d leaves a carrier to which the other has more to give", i)
	}
	rest, body := []byte(l.wire[1-i]), other.body
	for len(rest) > body {
		kind, value, n, _ := header(rest[body:])
		if n == 0 {
			break
		}
		if rest, body = rest[body+n:], 0; kind < kindFin {
			body = int(value)
		}
	}
	if len(rest) != body {
		return fmt.Errorf("end %d leaves a carrier within a frame, with %q to come", i, l.wire[1-i])
	}
	return nil
}
