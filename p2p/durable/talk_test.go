package durable

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A talk writes down what two ends say to each other, and what comes of it. Carriers
// have the numbers of their epochs.
type talk struct {
	t     *testing.T
	log   strings.Builder
	now   time.Time
	ends  [2]*End
	wires [2]map[uint64][]byte // to each end, on its way
	told  [2]bool              // that it is over
}

var names = [2]string{"opener", "other"}

func (k *talk) line(format string, args ...any) { fmt.Fprintf(&k.log, format+"\n", args...) }

// open has the opener's Hello arrive, unless nobody listens.
func (k *talk) open(listens bool) {
	h := Hello{ID: ID{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7}, Protocol: "/echo/1"}
	config := Config{Limit: 5 * time.Minute}
	k.ends[0] = Open(h.ID, config)
	k.line("opener > 0: %x", h.Append(nil))
	got, err := ReadHello(bytes.NewReader(h.Append(nil)))
	if err != nil || got != h {
		k.t.Fatalf("ReadHello = %+v, %v, want %+v", got, err, h)
	}
	if listens {
		k.line("other: a stream for %s", got.Protocol)
		k.ends[1] = Accept(got.ID, config)
		return
	}
	refusal := AppendReset(nil, CodeNoListener)
	k.line("other > 0: %x", refusal)
	k.put(1, 0, refusal)
}

func (k *talk) put(from int, epoch uint64, b []byte) {
	to := 1 - from
	if k.wires[to] == nil {
		k.wires[to] = map[uint64][]byte{}
	}
	k.wires[to][epoch] = append(k.wires[to][epoch], b...)
}

// write has an end take in text, and give the carrier all it has.
func (k *talk) write(i int, text string) {
	if n := k.ends[i].Append([]byte(text), k.now); n != len(text) {
		k.t.Fatalf("Append(%d bytes) = %d", len(text), n)
	}
	k.line("%s: writes %q", names[i], text)
	k.send(i)
}

func (k *talk) close(i int) {
	k.ends[i].CloseWrite()
	k.line("%s: closes", names[i])
	k.send(i)
}

func (k *talk) send(i int) {
	e := k.ends[i]
	for b := e.Next(k.now); b != nil; b = e.Next(k.now) {
		k.line("%s > %d: %x", names[i], e.Epoch(), b)
		k.put(i, e.Epoch(), b)
		e.Sent(e.Epoch(), len(b))
	}
}

// read has an end take so many bytes of what its carrier brings, or all.
func (k *talk) read(i, limit int) {
	e := k.ends[i]
	wire := k.wires[i][e.Epoch()]
	if limit < 0 {
		limit = len(wire)
	}
	before := e.Finished()
	p := make([]byte, limit)
	used, n, err := e.Take(wire[:limit], p)
	k.wires[i][e.Epoch()] = wire[used:]
	what := fmt.Sprintf("reads %q", p[:n])
	if e.Finished() && !before {
		what += " and the end"
	}
	k.line("%s takes %d: %s", names[i], used, what)
	if err != nil {
		k.line("%s: %v", names[i], err)
	}
	k.over(i)
}

// over tells how the stream has ended for an end, if it has.
func (k *talk) over(i int) {
	e := k.ends[i]
	if k.told[i] {
		return
	}
	k.told[i] = e.Err() != nil || e.Done()
	switch {
	case e.Err() != nil:
		k.line("%s: it is over: %v", names[i], e.Err())
	case e.Done():
		k.line("%s: done", names[i])
	}
}

// say sends a message beside the carriers.
func (k *talk) say(from int, m Message) {
	b := m.Append(nil)
	m, n, err := ParseMessage(b)
	if err != nil || n != len(b) {
		k.t.Fatalf("ParseMessage(%x) = %d, %v", b, n, err)
	}
	k.line("%s > message: %x (%s %d)", names[from], b, map[byte]string{MessageAck: "ack", MessageReset: "reset", MessageLost: "lost", MessageGone: "gone"}[m.Kind], m.Value)
	e := k.ends[1-from]
	switch {
	case e == nil:
		return
	case m.Kind == MessageAck:
		err = e.Acked(m.Value, k.now)
	case m.Kind == MessageReset:
		e.PeerReset(uint32(m.Value))
	case m.Kind == MessageLost:
		e.Lost(m.Value, k.now)
	case m.Kind == MessageGone:
		e.Gone(uint32(m.Value))
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.over(1 - from)
}

func (k *talk) ack(i int) { k.say(i, Message{MessageAck, k.ends[0].ID(), k.ends[i].Ack()}) }

// lost breaks the carrier for both.
func (k *talk) lost() {
	k.line("carrier %d: breaks", k.ends[0].Epoch())
	for _, e := range k.ends {
		if e != nil {
			e.Lost(e.Epoch(), k.now)
		}
	}
}

// hello has the opener ask to go on.
func (k *talk) hello() Hello {
	h := k.ends[0].Hello()
	k.line("opener > %d: %x (epoch %d, got %d)", h.Epoch, h.Append(nil), h.Epoch, h.Got)
	return h
}

// answer has the other end answer, and the opener hear it.
func (k *talk) answer(h Hello) {
	a := Answer{Gone: true, Code: CodeUnknown}
	if k.ends[1] != nil {
		var ok bool
		var err error
		if a, ok, err = k.ends[1].Resume(h, k.now); err != nil || !ok {
			k.t.Fatalf("Resume(%+v) = %v, %v", h, ok, err)
		}
	}
	got, err := ReadAnswer(bytes.NewReader(a.Append(nil)))
	if err != nil || got != a {
		k.t.Fatalf("ReadAnswer = %+v, %v, want %+v", got, err, a)
	}
	if a.Gone {
		k.line("other > %d: %x (gone, code %d)", h.Epoch, a.Append(nil), a.Code)
	} else {
		k.line("other > %d: %x (got %d, from %d)", h.Epoch, a.Append(nil), a.Got, a.From)
	}
	ok, err := k.ends[0].Resumed(h.Epoch, a, k.now)
	if !ok && !errors.Is(err, k.ends[0].Err()) {
		k.t.Fatalf("Resumed(%+v) = %v", a, err)
	}
	k.over(0)
}

// drained has an end see the end of the carrier, which the other has closed.
func (k *talk) drained(i int) {
	if e := k.ends[1-i]; !e.Flushed() || !e.Finished() {
		k.t.Fatalf("%s may not close the carrier", names[1-i])
	}
	k.line("%s > %d: closes the carrier", names[1-i], k.ends[i].Epoch())
	k.ends[i].Drained()
	k.over(i)
}
