package durable

import (
	"errors"
	"fmt"
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
