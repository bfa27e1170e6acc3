package main

import (
	"slices"
	"testing"
	"time"
)

// Enough happens, of each kind, within its bounds, and to one thing only one thing at a
// time; and the same from the same seed.
func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pace  pace
		long  time.Duration
		least int
	}{
		{"an hour", usualPace, time.Hour, 500},
		{"in CI", briskPace, 4 * time.Minute, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(50) {
				plan := tt.pace.plan(seed, tt.long, 2)
				if !slices.Equal(plan, tt.pace.plan(seed, tt.long, 2)) {
					t.Fatalf("seed %d: the plan is another the second time", seed)
				}
				if len(plan) < tt.least {
					t.Errorf("seed %d: %d faults in %v, want at least %d", seed, len(plan), tt.long, tt.least)
				}
				checkPlan(t, tt.pace, plan)
			}
		})
	}
}

func checkPlan(t *testing.T, p pace, plan []soakFault) {
	t.Helper()
	longest := [faultKinds]time.Duration{linkDown: p.down, stopped: p.stop, relayKilled: longestOutside, lossyLink: p.last}
	busy, kinds, last := map[[2]int]time.Duration{}, map[faultKind]int{}, time.Duration(0)
	for _, f := range plan {
		kinds[f.kind]++
		if pause := f.at - last; pause < p.first || pause > p.last+p.calm {
			t.Errorf("%v comes %v after the one before", f, pause)
		}
		if f.length > longest[f.kind] || f.length == 0 && longest[f.kind] > 0 || f.loss > maxLoss || (f.loss > 0) != (f.kind == lossyLink) {
			t.Errorf("%v is out of bounds", f)
		}
		if busy[f.thing()] > f.at {
			t.Errorf("%v comes before what happened to the same thing is over", f)
		}
		busy[f.thing()], last = f.at+f.length, f.at
	}
	if len(kinds) != int(faultKinds) {
		t.Errorf("there are faults of %d kinds only: %v", len(kinds), kinds)
	}
}
