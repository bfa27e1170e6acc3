package durable

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// start is when all tests begin that have a time.
var start = time.Unix(1e9, 0)

// flush has an end's carrier take all that there is, and returns it.
func flush(e *End) (wire []byte) {
	for b := e.Next(start); b != nil; b = e.Next(start) {
		wire = append(wire, b...)
		e.Sent(e.Epoch(), len(b))
	}
	return wire
}

// A stream that finds its budget used up by others goes on with memory of its own,
// however much it wants at once.
func TestOwnMemory(t *testing.T) {
	for size := 1; size <= 1<<20; size *= 2 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			budget := NewBudget(0, nil)
			e := Open(ID{1}, Config{Budget: budget})
			if n := e.Append(make([]byte, size), start); n == 0 {
				t.Errorf("Append(%d bytes) = 0, want some", size)
			}
			e = Open(ID{1}, Config{Budget: budget})
			if b := e.Reserve(size, start); len(b) == 0 {
				t.Errorf("Reserve(%d) = %d bytes, want some", size, len(b))
			}
			for range 100 {
				e.Append(make([]byte, size), start)
			}
			if e.Held() > own || budget.Used() != 0 {
				t.Errorf("held %d, of the budget %d, want at most %d and 0", e.Held(), budget.Used(), own)
			}
		})
	}
}

// What Next returned is nobody else's until Sent, though the stream has gone on with
// another carrier and the other end has it.
func TestLentIsKept(t *testing.T) {
	a := Open(ID{1}, Config{})
	a.Append(bytes.Repeat([]byte{'x'}, maxChunk-headerRoom), start)
	lent := a.Next(start)
	want := bytes.Clone(lent)
	a.Append(make([]byte, 1000), start) // in a chunk of its own
	h := a.Hello()
	if ok, err := a.Resumed(h.Epoch, Answer{Got: maxChunk - headerRoom}, start); !ok || err != nil {
		t.Fatalf("Resumed = %v, %v, want true", ok, err)
	}
	for range 100 {
		other := Open(ID{2}, Config{})
		for range 3 {
			other.Append(make([]byte, maxChunk), start)
		}
	}
	if !bytes.Equal(lent, want) {
		t.Error("memory that a carrier is being given was given to others")
	}
	a.Sent(0, len(lent))
}

// A stream without room in the budget does not wait, with the little that it has, for
// acknowledgements that nobody has asked for.
func TestShortMemoryAsks(t *testing.T) {
	for _, size := range []int{100, 64 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, b := Open(ID{1}, Config{Budget: NewBudget(0, nil)}), Accept(ID{1}, Config{})
			waited := 0
			for sent := 0; sent < 1<<20; {
				for n := 1; n > 0; sent += n {
					n = a.Append(make([]byte, size), start)
				}
				take(t, b, flush(a))
				if _, urgent := b.AckDue(); !urgent {
					waited++
				}
				ack(t, b, a)
			}
			if waited > 1 {
				t.Errorf("waited %d times, want once at most", waited)
			}
		})
	}
}

// Half of what may be held is acknowledged at once, and less is not.
func TestQuarterAsks(t *testing.T) {
	a, b := Open(ID{1}, Config{}), Accept(ID{1}, Config{})
	for sent := 0; ; {
		sent += a.Append(make([]byte, 1000), start)
		take(t, b, flush(a))
		if _, urgent := b.AckDue(); urgent != (sent >= firstLimit/2) {
			t.Fatalf("after %d bytes urgent = %v", sent, urgent)
		} else if urgent {
			break
		}
	}
	ack(t, b, a)
	if due, urgent := b.AckDue(); due || urgent {
		t.Errorf("AckDue = %v, %v, want false, false", due, urgent)
	}
}

// The end of what an end writes finds room however full the memory is.
func TestEndFindsRoom(t *testing.T) {
	for rest := range maxHeader + 2 {
		a, b := Open(ID{1}, Config{Budget: NewBudget(0, nil)}), Accept(ID{1}, Config{})
		b.Append(make([]byte, minChunk), start)
		take(t, a, flush(b)) // so that the frame of the end has several bytes
		for range own/minChunk - 1 {
			a.Append(make([]byte, minChunk-headerRoom), start)
		}
		a.Append(make([]byte, minChunk-headerRoom-rest), start)
		a.CloseWrite()
		wire := flush(a)
		if n := len(take(t, b, wire)); n != own-own/minChunk*headerRoom-rest || !b.Finished() {
			t.Errorf("with %d bytes to spare %d were read, Finished = %v, want %d, true", rest, n, b.Finished(), own-own/minChunk*headerRoom-rest)
		}
	}
}
