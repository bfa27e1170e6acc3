package main

import "testing"

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []float64
		want float64
	}{
		{"one", []float64{7}, 7},
		{"odd, unsorted", []float64{9, 1, 4}, 4},
		{"even", []float64{1, 10, 2, 4}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.in); got != tt.want {
				t.Errorf("median(%v) = %v, want %v", tt.in, got, tt.want)
			}
		})
	}
}

func TestMedianLeavesItsInput(t *testing.T) {
	in := []float64{3, 1, 2}
	median(in)
	if in[0] != 3 || in[1] != 1 || in[2] != 2 {
		t.Errorf("median sorted its input to %v", in)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for _, tt := range []struct {
		name string
		in   []int
		p    int
		want int
	}{
		{"half of a hundred", hundred, 50, 50},
		{"99 of a hundred", hundred, 99, 99},
		{"all of a hundred", hundred, 100, 100},
		{"99 of one", []int{5}, 99, 5},
		{"half of three", []int{3, 1, 2}, 50, 2},
		{"99 of three", []int{3, 1, 2}, 99, 3},
		{"1 of three", []int{3, 1, 2}, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := percentile(tt.in, tt.p); got != tt.want {
				t.Errorf("percentile(%v, %d) = %d, want %d", tt.in, tt.p, got, tt.want)
			}
		})
	}
}
