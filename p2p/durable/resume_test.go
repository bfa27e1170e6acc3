package durable

import (
	"testing"
)

// take has an end read all of wire, and returns the data.
func take(t testing.TB, e *End, wire []byte) []byte {
	t.Helper()
	p := make([]byte, len(wire))
	used, n, err := e.Take(wire, p)
	if err != nil || used != len(wire) {
		t.Fatalf("Take(%x) = %d, %v, want all", wire, used, err)
	}
	return p[:n]
}

// ack tells an end how far the other has read.
func ack(t testing.TB, from, to *End) {
	t.Helper()
	if due, _ := from.AckDue(); !due {
		t.Fatal("AckDue = false, want true")
	}
	if err := to.Acked(from.Ack(), start); err != nil {
		t.Fatal(err)
	}
}

// resume has two ends go on with another carrier, to whose answer the opener listens
// only when between has been called.
func resume(t testing.TB, a, b *End, between func()) {
	t.Helper()
	h := a.Hello()
	between()
	answer, ok, err := b.Resume(h, start)
	if !ok || err != nil {
		t.Fatalf("Resume(%+v) = %v, %v, want true", h, ok, err)
	}
	if ok, err := a.Resumed(h.Epoch, answer, start); !ok || err != nil {
		t.Fatalf("Resumed(%+v) = %v, %v, want true", answer, ok, err)
	}
}

// While a Hello is on its way the opener reads on, and may acknowledge more than what
// the Hello says.
func TestAckOvertakesHello(t *testing.T) {
	a, b := Open(ID{1}, Config{}), Accept(ID{1}, Config{})
	b.Append([]byte("one"), start)
	take(t, a, flush(b))
	got := ""
	resume(t, a, b, func() {
		b.Append([]byte("two"), start)
		got = string(take(t, a, flush(b)))
		ack(t, a, b)
	})
	b.Append([]byte("three"), start)
	got += string(take(t, a, flush(b)))
	if got != "twothree" {
		t.Errorf("read %q, want %q", got, "twothree")
	}
}

// An acknowledgement that was lost with the carrier is given again, also if no more
// bytes come.
func TestAckIsLostWithCarrier(t *testing.T) {
	a, b := Open(ID{1}, Config{}), Accept(ID{1}, Config{})
	resume(t, a, b, func() {
		b.Append([]byte("one"), start)
		take(t, a, flush(b))
		a.Ack() // does not arrive
	})
	take(t, a, flush(b))
	ack(t, a, b)
	if b.Outstanding() || b.Held() != 0 {
		t.Errorf("Outstanding = %v, Held = %d, want false, 0", b.Outstanding(), b.Held())
	}
}
