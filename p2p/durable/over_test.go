package durable

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// closed returns two ends that each wrote a little, read the other's, closed, and read
// that: what acknowledges it is still to come.
func closed(t testing.TB) (a, b *End) {
	t.Helper()
	a, b = Open(ID{1}, Config{Limit: time.Minute}), Accept(ID{1}, Config{Limit: time.Minute})
	a.Append([]byte("abc"), start)
	b.Append([]byte("abc"), start)
	take(t, b, flush(a))
	take(t, a, flush(b))
	a.CloseWrite()
	b.CloseWrite()
	take(t, b, flush(a))
	take(t, a, flush(b))
	return a, b
}

// What an end makes of it that the other does not have the stream any more depends on
// whether all was closed, and on why the other has not.
func TestGone(t *testing.T) {
	open := func(t testing.TB) (a, b *End) {
		return Open(ID{1}, Config{}), Accept(ID{1}, Config{})
	}
	half := func(t testing.TB) (a, b *End) {
		a, b = open(t)
		a.CloseWrite()
		take(t, b, flush(a))
		return a, b
	}
	for _, tt := range []struct {
		name  string
		state func(testing.TB) (a, b *End)
		code  uint32
		err   error
	}{
		{"open, not known", open, CodeUnknown, ErrUnknown},
		{"open, reset", open, CodeReset, &ResetError{CodeReset}},
		{"closed here, not known", half, CodeUnknown, ErrUnknown},
		{"closed, not known: it is done", closed, CodeUnknown, nil},
		{"closed, given up for want of a carrier", closed, CodeTimeLimit, &ResetError{CodeTimeLimit}},
		{"closed, reset", closed, CodeReset, &ResetError{CodeReset}},
	} {
		for _, how := range []string{"message", "answer"} {
			t.Run(tt.name+", by "+how, func(t *testing.T) {
				a, _ := tt.state(t)
				if how == "message" {
					a.Gone(tt.code)
				} else if ok, err := a.Resumed(a.Hello().Epoch, Answer{Gone: true, Code: tt.code}, start); ok || !errors.Is(err, a.Err()) {
					t.Errorf("Resumed = %v, %v, want false, %v", ok, err, a.Err())
				}
				if fmt.Sprint(a.Err()) != fmt.Sprint(tt.err) {
					t.Errorf("Err = %v, want %v", a.Err(), tt.err)
				}
				if a.Done() != (tt.err == nil) {
					t.Errorf("Done = %v, want %v", a.Done(), tt.err == nil)
				}
				if a.Held() != 0 || a.Next(start) != nil || a.Outstanding() {
					t.Error("it is over, and something is kept, to be sent, or outstanding")
				}
			})
		}
	}
}

// The end of a carrier says that the other end has all only where it could have.
func TestDrained(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, a, b *End)
		done bool
	}{
		{"all was sent and read", func(t *testing.T, a, b *End) {
			a.CloseWrite()
			flush(a)
			b.CloseWrite()
			take(t, a, flush(b))
		}, true},
		{"the end is still to be sent", func(t *testing.T, a, b *End) {
			a.CloseWrite()
			b.CloseWrite()
			take(t, a, flush(b))
		}, false},
		{"this end has not closed", func(t *testing.T, a, b *End) {
			b.CloseWrite()
			take(t, a, flush(b))
		}, false},
		{"the other end has not closed", func(_ *testing.T, a, _ *End) {
			a.CloseWrite()
			flush(a)
		}, false},
		{"the carrier is lost", func(t *testing.T, a, b *End) {
			a.CloseWrite()
			flush(a)
			b.CloseWrite()
			take(t, a, flush(b))
			a.Lost(0, start)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := Open(ID{1}, Config{}), Accept(ID{1}, Config{})
			tt.do(t, a, b)
			if a.Drained(); a.Done() != tt.done || a.Told() != tt.done || a.Err() != nil {
				t.Errorf("Done = %v, Told = %v, Err = %v, want %v", a.Done(), a.Told(), a.Err(), tt.done)
			}
		})
	}
}
