package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// inLab measures in networks of namespaces, or skips and says why.
func inLab(t *testing.T, measure measurement) []figure {
	t.Helper()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	s, err := newSite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	figures, err := measure(t.Context(), s)
	if errors.Is(err, lab.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return figures
}

// Some of the matrix, once: a hole that can be punched, through a router that takes in
// what nobody asked for too; one that can't; one network; and no UDP at all.
func TestNetwork(t *testing.T) {
	t.Parallel() // with TestSoak, which takes long and little
	for _, filter := range []string{"port+port", "symmetric+symmetric", "same-lan+", "udp-blocked+udp-blocked"} {
		t.Run(filter, func(t *testing.T) {
			for _, f := range inLab(t, measureNetwork(1, filter, false)) {
				if len(f.Values) != 1 {
					t.Errorf("%s: no value; %s", f.Name, f.Note)
				}
			}
		})
	}
}

// Two of one local network that have met over a relay leave it, and not a byte more goes
// there.
func TestNetworkLAN(t *testing.T) {
	figures := inLab(t, measureNetworkLAN(1, "same-lan+"))
	if len(figures) != 3 {
		t.Fatalf("%d figures, want 3", len(figures))
	}
	if before, after := figures[1].percentile(100), figures[2].percentile(100); before == 0 || after != 0 {
		t.Errorf("%v bytes go through the relay, and %v once there is a better path; want some and none", before, after)
	}
}

// Each fault, once: a stream that is opened afterwards works, both ways.
func TestFaults(t *testing.T) {
	t.Parallel() // with TestSoak, which takes long and little
	for _, f := range inLab(t, measureFaults(1, "")) {
		if len(f.Values) != 1 || strings.Contains(f.Note, "never") {
			t.Errorf("%s: %v %s", f.Name, f.Values, f.Note)
		}
	}
}

func TestMatrix(t *testing.T) {
	if got, want := len(matrix("", true)), len(places)*len(places)+len(together); got != want {
		t.Errorf("%d cells in order, want %d", got, want)
	}
	if got, want := len(matrix("", false)), len(places)*(len(places)+1)/2+len(together); got != want {
		t.Errorf("%d cells, want %d", got, want)
	}
	best := map[string]string{}
	for _, c := range matrix("", true) {
		best[c.name()] = c.best
	}
	for name, want := range map[string]string{
		"none+udp-blocked": "direct", "port+port": "direct", "symmetric+address": "direct", "address+symmetric": "direct",
		"symmetric+port": "relay", "cgnat+symmetric": "relay", "symmetric+symmetric": "relay", "udp-blocked+full-cone": "relay",
		"same-lan+same-lan": "lan",
	} {
		if best[name] != want {
			t.Errorf("the best path of %s = %q, want %q", name, best[name], want)
		}
	}
}
