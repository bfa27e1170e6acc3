package main

import (
	"maps"
	"testing"
)

func TestMedians(t *testing.T) {
	got := medians([]figures{{"a": 1, "b": 5}, {"a": 3}, {"a": 2, "b": 7}})
	if want := (figures{"a": 2, "b": 6}); !maps.Equal(got, want) {
		t.Errorf("medians = %v, want %v", got, want)
	}
}

func TestRatios(t *testing.T) {
	for _, tt := range []struct {
		name         string
		rounds, base []figures
		want         []figures
	}{
		{"round by round", []figures{{"a": 6}, {"a": 8}}, []figures{{"a": 2}, {"a": 4}}, []figures{{"a": 3}, {"a": 2}}},
		{"the other ended early", []figures{{"a": 6}, {"a": 8}}, []figures{{"a": 2}}, []figures{{"a": 3}}},
		{"the other was not measured", []figures{{"a": 6}}, nil, nil},
		{"only one has the measure", []figures{{"a": 6, "b": 1}}, []figures{{"b": 2, "c": 1}}, []figures{{"b": 0.5}}},
		{"the other is zero", []figures{{"a": 6}}, []figures{{"a": 0}}, []figures{{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ratios(tt.rounds, tt.base)
			if len(got) != len(tt.want) {
				t.Fatalf("ratios = %v, want %v", got, tt.want)
			}
			for i := range got {
				if !maps.Equal(got[i], tt.want[i]) {
					t.Errorf("ratios, round %d = %v, want %v", i, got[i], tt.want[i])
				}
			}
		})
	}
}
