package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if role := roleOf(os.Args); role != nil {
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

// What admission costs is the difference of two noisy figures, and may be nothing.
func TestMeasureAdmission(t *testing.T) {
	figures, err := measureAdmission(2, 20)(t.Context(), nil)
	if err != nil || len(figures) != 6 {
		t.Fatalf("measureAdmission = %v, %v, want 6 figures", figures, err)
	}
	if trips := figures[2].percentile(50); trips < 0.5 || trips > 1.5 {
		t.Errorf("%s = %v, want about 1", figures[2].Name, trips)
	}
}

// That there are figures, whatever they are.
func TestMeasures(t *testing.T) {
	for _, tt := range []struct {
		name    string
		measure func(context.Context, *site) ([]figure, error)
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
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			s, err := newSite(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			figures, err := tt.measure(ctx, s)
			if err != nil || len(figures) != tt.figures {
				t.Fatalf("figures = %v, %v, want %d", figures, err, tt.figures)
			}
			for _, f := range figures {
				if len(f.Values) != tt.values || f.percentile(1) <= 0 {
					t.Errorf("%s = %v, want %d values above 0", f.Name, f.Values, tt.values)
				}
			}
		})
	}
}
