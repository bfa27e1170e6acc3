package main

import (
	"errors"
	"testing"
	"time"
)

// What is made of an end of a stream, given what the other has written.
func TestSoakJudges(t *testing.T) {
	whole := flowStatus{Awaited: 7, Done: true, Verdict: verdict{Blocks: 7}}
	with := func(change func(*flowStatus)) flowStatus {
		f := whole
		change(&f)
		return f
	}
	for _, tt := range []struct {
		name   string
		spoilt bool
		f      flowStatus
		want   verdict
		dead   int
	}{
		{"all of it", false, whole, verdict{}, 0},
		{"a block too few", false, with(func(f *flowStatus) { f.Awaited = 6 }), verdict{Gaps: 1}, 0},
		{"a block too many", false, with(func(f *flowStatus) { f.Awaited = 8 }), verdict{Gaps: 1}, 0},
		{"a torn end", false, with(func(f *flowStatus) { f.Torn = true }), verdict{Gaps: 1}, 0},
		{"a repeat", false, with(func(f *flowStatus) { f.Verdict.Repeats, f.Verdict.Bytes = 1, 5 }), verdict{Repeats: 1, Bytes: 5}, 0},
		{"an error", false, with(func(f *flowStatus) { f.Done, f.Err = false, "reset" }), verdict{}, 1},
		{"no end", false, with(func(f *flowStatus) { f.Done = false }), verdict{}, 1},
		{"none at all", false, flowStatus{}, verdict{}, 1},
		{"no end, and none was to be", true, with(func(f *flowStatus) { f.Done = false }), verdict{}, 0},
		{"an end before that", true, whole, verdict{}, 1},
		{"a gap before that", true, with(func(f *flowStatus) { f.Done, f.Verdict.Gaps = false, 2 }), verdict{Gaps: 2}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := soakResult{spoilt: tt.spoilt}
			r.add(0, 3, tt.f, flowStatus{Sent: 7}, time.Now())
			if r.verdict != tt.want || len(r.dead) != tt.dead {
				t.Errorf("verdict = %+v, dead %q, want %+v and %d dead", r.verdict, r.dead, tt.want, tt.dead)
			}
			if sound := tt.want == (verdict{}) && tt.dead == 0 && !tt.spoilt; (r.err() == nil) != sound || !sound && !errors.Is(r.err(), errUnsound) {
				t.Errorf("err() = %v, want one: %v", r.err(), !sound)
			}
		})
	}
}
