package durable

import (
	"fmt"
	"slices"
)

// post sends a note, in an order that does not tell when it was sent.
func (w *world) post(n note) {
	at, _ := slices.BinarySearchFunc(w.notes, n, func(a, b note) int {
		return slices.Compare([]int{a.to, a.link, int(a.kind), int(a.value)}, []int{b.to, b.link, int(b.kind), int(b.value)})
	})
	w.notes = slices.Insert(slices.Clone(w.notes), at, n)
}

func (w *world) unpost(k int) note {
	n := w.notes[k]
	w.notes = slices.Delete(slices.Clone(w.notes), k, k+1)
	return n
}

// posted counts the notes of a kind to an end.
func (w *world) posted(to int, kind byte) (count int) {
	for _, n := range w.notes {
		if n.to == to && n.kind == kind {
			count++
		}
	}
	return count
}

// cut breaks a link, with what is on its way. A Hello may have arrived all the same.
func (w *world) cut(k int, hello bool) {
	if k < 0 {
		return
	}
	l := &w.links[k]
	if l.hello && !hello {
		w.faulty = w.faulty || k == 0
		l.hello = false
	}
	l.broken, l.answer, l.wire, l.eof = true, false, [2]string{}, [2]bool{}
}

// leave has an end be without a carrier.
func (w *world) leave(i int) {
	w.cut(w.on[i], true)
	w.on[i] = -1
}

// arrive delivers the Hello of a link.
func (w *world) arrive(k int) error {
	l := &w.links[k]
	l.hello = false
	if k == 0 {
		if w.state[1] == never {
			w.ends[1], w.state[1], w.on[1] = newWorldEnd(false), running, 0
		} else {
			w.cut(k, false)
		}
		return nil
	}
	w.faulty = w.faulty || w.state[1] == never // the first Hello is late, or lost
	answer, ok := Answer{Gone: true, Code: CodeUnknown}, true
	if e := w.ends[1]; e != nil {
		var err error
		if answer, ok, err = e.Resume(l.h, start); err != nil {
			return err
		}
		if ok && !answer.Gone {
			w.leave(1)
			w.on[1] = k
		}
	}
	if !ok {
		w.cut(k, false)
	}
	l.answer, l.a = !l.broken, answer
	return nil
}

// hear delivers the answer of a link.
func (w *world) hear(k int) error {
	l := &w.links[k]
	l.answer = false
	e := w.ends[0]
	if e == nil || e.err != nil {
		w.cut(k, false)
		return nil
	}
	ok, err := e.Resumed(uint64(k), l.a, start)
	if err != nil && !l.a.Gone {
		return err
	}
	if ok {
		w.leave(0)
		w.on[0] = k
	} else {
		w.cut(k, false)
	}
	return nil
}

// get delivers a note.
func (w *world) get(n note) error {
	e := w.ends[n.to]
	switch {
	case e == nil && n.kind == MessageLost:
		w.post(note{1 - n.to, -1, MessageGone, CodeUnknown})
	case e == nil:
	case n.kind == MessageAck:
		return e.Acked(n.value, start)
	case n.kind == MessageReset:
		e.PeerReset(uint32(n.value))
	case n.kind == MessageGone:
		e.Gone(uint32(n.value))
	case n.kind == MessageLost && e.err != nil:
		w.post(note{1 - n.to, -1, MessageGone, uint64(CodeOf(e.err))})
	case n.kind == MessageLost:
		if e.Lost(n.value, start) {
			w.leave(n.to)
		}
	}
	return nil
}

// takeOne has an end read as little as it can.
func (w *world) takeOne(i int) error {
	e, l := w.ends[i], &w.links[w.on[i]]
	var p [64]byte
	if i == 1 && e.Direct(1) == 1 {
		p[0] = l.wire[i][0]
		n := e.Took(1)
		l.wire[i] = l.wire[i][1:]
		return w.got(i, p[:n])
	}
	for k := 1; k <= len(l.wire[i]); k++ {
		used, n, err := e.Take([]byte(l.wire[i][:k]), p[:])
		if err != nil {
			return err
		}
		if l.wire[i] = l.wire[i][used:]; used > 0 {
			return w.got(i, p[:n])
		}
	}
	return nil
}

// got checks what an end has read.
func (w *world) got(i int, data []byte) error {
	for _, c := range data {
		if want := content(1-i, w.read[i]); c != want {
			return fmt.Errorf("end %d read %#x at %d, want %#x", i, c, w.read[i], want)
		}
		w.read[i]++
	}
	return nil
}

// content is what an end writes at an offset.
func content(i, at int) byte { return byte(100*i + at + 1) }

func (w *world) total(i int) (sum int) {
	for _, n := range w.frames[i] {
		sum += n
	}
	return sum
}
