package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	role := roleOf(os.Args)
	if len(os.Args) > 1 && os.Args[1] == parentRole {
		role = parent
	}
	if role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestPercentile(t *testing.T) {
	twenty := figure{}
	for i := range 20 {
		twenty.Values = append(twenty.Values, float64(20-i))
	}
	for _, tt := range []struct {
		name string
		f    figure
		p    int
		want float64
	}{
		{"of nothing", figure{}, 50, 0},
		{"of one", figure{Values: []float64{7}}, 50, 7},
		{"the middle", twenty, 50, 10},
		{"near the end", twenty, 95, 19},
		{"the largest", twenty, 100, 20},
		{"of an odd number", figure{Values: []float64{3, 1, 2}}, 50, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.f.percentile(tt.p); got != tt.want {
				t.Errorf("percentile(%d) of %v = %v, want %v", tt.p, tt.f.Values, got, tt.want)
			}
		})
	}
}

// What admission costs is the difference of two noisy figures: on a busy machine it is
// measured again.
func TestMeasureAdmission(t *testing.T) {
	const tries = 3
	for try := 1; ; try++ {
		figures, err := measureAdmission(2, 20)(t.Context(), nil)
		if err != nil || len(figures) != 6 {
			t.Fatalf("measureAdmission = %v, %v, want 6 figures", figures, err)
		}
		trips := figures[2].percentile(50)
		if 0.5 <= trips && trips <= 1.5 {
			return
		}
		if try == tries {
			t.Fatalf("%s = %v, want about 1", figures[2].Name, trips)
		}
	}
}

// That there are figures, whatever they are.
func TestMeasures(t *testing.T) {
	for _, tt := range []struct {
		name    string
		measure measurement
		figures int
		values  int
		long    bool
	}{
		{"start", measureStart(2), 3, 2, false},
		{"streams", measureStreams, 7, 3, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.long && testing.Short() {
				t.Skip("opens thousands of streams")
			}
			figures := take(t, tt.measure)
			if len(figures) != tt.figures {
				t.Fatalf("figures = %v, want %d", figures, tt.figures)
			}
			for _, f := range figures {
				if len(f.Values) != tt.values || f.percentile(1) <= 0 {
					t.Errorf("%s = %v, want %d values above 0", f.Name, f.Values, tt.values)
				}
			}
		})
	}
}

// take measures at a site that is gone when the test ends.
func take(t *testing.T, measure measurement) []figure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := newSite(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	figures, err := measure(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return figures
}

func TestChosen(t *testing.T) {
	good := options{rounds: 1, idle: time.Second}
	for _, tt := range []struct {
		name string
		o    options
		args []string
		want int
		err  string // substring; empty means success
	}{
		{"one", good, []string{"start"}, 1, ""},
		{"all of local", good, []string{"local"}, len(localNames), ""},
		{"a part of local", good, []string{"local-peers"}, 1, ""},
		{"with processes", good, []string{"local-many", "20"}, 1, ""},
		{"with connections", good, []string{"services-open", "1000"}, 1, ""},
		{"nothing", good, nil, 0, "nothing"},
		{"unknown", good, []string{"pigeons"}, 0, `no measurement "pigeons"`},
		{"two", good, []string{"start", "memory"}, 0, "want one"},
		{"with peers", good, []string{"local-peers", "40"}, 1, ""},
		{"with few processes", good, []string{"local-many", "2"}, 1, ""},
		{"too few processes", good, []string{"local-many", "1"}, 0, `local-many "1"`},
		{"too few peers", good, []string{"local-peers", "10"}, 0, `local-peers "10"`},
		{"processes that are no number", good, []string{"local-many", "all"}, 0, `local-many "all"`},
		{"no rounds", options{idle: time.Second}, []string{"start"}, 0, "above 0"},
		{"no idle time", options{rounds: 1}, []string{"start"}, 0, "above 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.o.chosen(tt.args)
			checkErr(t, err, tt.err)
			if len(got) != tt.want {
				t.Errorf("chosen(%q) = %d measurements, want %d", tt.args, len(got), tt.want)
			}
		})
	}
}

// checkErr wants an error that contains a text, or none.
func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error = %v, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error = %v, want one with %q", err, want)
	}
}
