package main

import (
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

var (
	soakFor  = flag.Duration("soak", 4*time.Minute, "how long TestSoak has faults happen")
	soakSeed = flag.Uint64("soakseed", uint64(time.Now().Unix()), "what TestSoak's faults follow from")
)

// soakRate is little, so that other tests have the machine.
const soakRate = 128 << 10

// soakIn runs a soak, or skips where there is no lab.
func soakIn(t *testing.T, k soak) ([]figure, error) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes minutes")
	}
	s, err := newSite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	k.rate, k.log = soakRate, t.Output()
	figures, err := k.measure(t.Context(), s)
	if errors.Is(err, lab.ErrUnavailable) {
		t.Skip(err)
	}
	for _, f := range figures {
		t.Logf("%s: %v %s %s", f.Name, f.Values, f.Unit, f.Note)
	}
	return figures, err
}

// Where nothing happens all arrives.
func TestSoakWithoutFaults(t *testing.T) {
	t.Parallel()
	quiet := pace{first: time.Hour, last: 2 * time.Hour, down: time.Second, stop: time.Second}
	if _, err := soakIn(t, soak{long: 5 * time.Second, seed: 1, pace: quiet}); err != nil {
		t.Error(err)
	}
}

// Streams go through a hundred faults and more without a gap, a repeat or an end.
func TestSoak(t *testing.T) {
	t.Parallel()
	figures, err := soakIn(t, soak{long: *soakFor, seed: *soakSeed, pace: briskPace})
	if err != nil {
		t.Fatalf("seed %d: %v", *soakSeed, err)
	}
	if least := 100 * soakFor.Minutes() / 4; figures[0].Values[0] < least {
		t.Errorf("%v faults in %v, want at least %.0f", figures[0].Values, *soakFor, least)
	}
}

// Nodes that lose a frame, or send one twice, are found out.
func TestSoakFindsMutants(t *testing.T) {
	t.Parallel()
	for _, tags := range mutants {
		t.Run(tags, func(t *testing.T) {
			if _, err := soakIn(t, soak{long: time.Minute, seed: 1, pace: briskPace, tags: tags}); err == nil {
				t.Error("nothing was found wrong")
			} else if !errors.Is(err, errUnsound) {
				t.Error(err)
			}
		})
	}
}
