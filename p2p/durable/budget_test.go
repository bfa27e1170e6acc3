package durable

import (
	"errors"
	"testing"
	"time"
)

// What a stream took of its budgets it gives back, however it ends.
func TestBudgetIsGivenBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, e *End)
	}{
		{"acknowledged", func(t *testing.T, e *End) {
			flush(e)
			if err := e.Acked(e.out.end, start); err != nil {
				t.Fatal(err)
			}
		}},
		{"acknowledged before it is given to this carrier", func(t *testing.T, e *End) {
			flush(e)
			h := e.Hello()
			if ok, err := e.Resumed(h.Epoch, Answer{Got: 10}, start); err != nil || !ok {
				t.Fatal(err)
			}
			if err := e.Acked(e.out.end, start); err != nil {
				t.Fatal(err)
			}
			if e.Held() == 0 {
				t.Error("Held = 0 before the other end has what it expects to come again")
			}
			flush(e)
		}},
		{"resumed where nothing is to be sent again", func(t *testing.T, e *End) {
			flush(e)
			h := e.Hello()
			if ok, err := e.Resumed(h.Epoch, Answer{Got: e.out.end}, start); err != nil || !ok {
				t.Fatal(err)
			}
		}},
		{"drained", func(t *testing.T, e *End) {
			e.CloseWrite()
			flush(e)
			take(t, e, frames{}.header(kindFin, 0))
			e.Drained()
		}},
		{"done by the end that came", func(t *testing.T, e *End) {
			e.CloseWrite()
			flush(e)
			take(t, e, frames{}.header(kindFin, e.out.end))
		}},
		{"reset", func(_ *testing.T, e *End) { e.Reset(errors.New("enough")) }},
		{"reset while it is written", func(_ *testing.T, e *End) {
			e.Next(start)
			e.Reset(errors.New("enough"))
			e.Sent(e.Epoch(), 1)
		}},
		{"reset with memory reserved", func(_ *testing.T, e *End) {
			e.Reserve(100, start)
			e.Reset(errors.New("enough"))
			e.Commit(50)
		}},
		{"reset by the peer", func(_ *testing.T, e *End) { e.PeerReset(CodeReset) }},
		{"not known to the peer", func(_ *testing.T, e *End) { e.Gone(CodeUnknown) }},
		{"out of time", func(_ *testing.T, e *End) {
			e.Lost(0, start)
			e.Expire(start.Add(time.Minute))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := NewBudget(1<<20, nil)
			peer := NewBudget(1<<20, node)
			e := Open(ID{1}, Config{Limit: time.Minute, Budget: peer})
			e.Append(make([]byte, 300<<10), start)
			for range 5 {
				e.Commit(copy(e.Reserve(10<<10, start), "bytes that were read"))
			}
			e.Append(make([]byte, 100), start)
			if peer.Used() == 0 || peer.Used() != node.Used() || int(peer.Used()) > e.Held() {
				t.Fatalf("of the budgets %d and %d are used, held are %d", peer.Used(), node.Used(), e.Held())
			}
			tt.do(t, e)
			if peer.Used() != 0 || node.Used() != 0 || e.Held() != 0 {
				t.Errorf("of the budgets %d and %d are used, held are %d, want 0", peer.Used(), node.Used(), e.Held())
			}
		})
	}
}

// A budget that is not taken in full is not taken at all, and that of a node bounds
// those of its peers.
func TestBudget(t *testing.T) {
	node := NewBudget(10, nil)
	a, b := NewBudget(8, node), NewBudget(8, node)
	for _, tt := range []struct {
		name       string
		of         *Budget
		n          int
		ok         bool
		usedA, all int64
	}{
		{"within", a, 5, true, 5, 5},
		{"beyond its own", a, 4, false, 5, 5},
		{"beyond the node's", b, 6, false, 5, 5},
		{"to the last byte of the node's", b, 5, true, 5, 10},
		{"nothing left", a, 1, false, 5, 10},
		{"without bounds", nil, 1 << 30, true, 5, 10},
	} {
		if ok := tt.of.take(tt.n); ok != tt.ok || a.Used() != tt.usedA || node.Used() != tt.all {
			t.Errorf("%s: take(%d) = %v, used %d, of the node %d, want %v, %d, %d", tt.name, tt.n, ok, a.Used(), node.Used(), tt.ok, tt.usedA, tt.all)
		}
	}
	a.give(5)
	b.give(5)
	if a.Used() != 0 || b.Used() != 0 || node.Used() != 0 {
		t.Errorf("used %d, %d, of the node %d, want 0", a.Used(), b.Used(), node.Used())
	}
}

// An end holds no more than its limit, which grows when the other end acknowledges half
// of it within a few round trips while there is no room, and not otherwise.
func TestLimit(t *testing.T) {
	for _, tt := range []struct {
		name string
		wait time.Duration // until an acknowledgement
		fill bool          // to the last byte
		want int
	}{
		{"the path is longer than the limit", 10 * time.Millisecond, true, lastLimit},
		{"the reader is slow", time.Hour, true, firstLimit},
		{"there is room", 10 * time.Millisecond, false, firstLimit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := Open(ID{1}, Config{})
			now := start
			for round := range 100 {
				p := make([]byte, 64<<10)
				for e.Append(p, now) == len(p) && tt.fill && round > 0 {
				}
				flushAt(e, now)
				if e.Held() > e.limit {
					t.Fatalf("held %d, want at most %d", e.Held(), e.limit)
				}
				if round == 0 {
					now = now.Add(10 * time.Millisecond)
				} else {
					now = now.Add(tt.wait)
				}
				if err := e.Acked(e.out.end, now); err != nil {
					t.Fatal(err)
				}
			}
			if e.limit != tt.want {
				t.Errorf("limit %d, want %d", e.limit, tt.want)
			}
		})
	}
}

// A carrier is to be looked at when the other end has been silent for a while about
// what it was given, and then only.
func TestStalled(t *testing.T) {
	e := Open(ID{1}, Config{})
	now := start
	check := func(name string, want bool) {
		t.Helper()
		if got := e.Stalled(now); got != want {
			t.Errorf("%s: Stalled = %v, want %v", name, got, want)
		}
	}
	now = now.Add(time.Hour)
	check("idle", false)
	e.Append([]byte("abc"), now)
	now = now.Add(time.Hour)
	check("not given to the carrier", false)
	flushAt(e, now)
	now = now.Add(stallAfter - 1)
	check("given to it a moment ago", false)
	now = now.Add(1)
	check("given to it a while ago", true)
	if err := e.Acked(1, now); err != nil {
		t.Fatal(err)
	}
	check("some is acknowledged", false)
	now = now.Add(stallAfter)
	check("the rest is not", true)
	e.Lost(0, now)
	check("without a carrier", false)
	h := e.Hello()
	if ok, err := e.Resumed(h.Epoch, Answer{Got: 1}, now); err != nil || !ok {
		t.Fatal(err)
	}
	check("with another carrier", false)
	if err := e.Acked(3, now); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	check("all is acknowledged", false)
}

// flushAt is flush at another time.
func flushAt(e *End, now time.Time) {
	for b := e.Next(now); b != nil; b = e.Next(now) {
		e.Sent(e.Epoch(), len(b))
	}
}
