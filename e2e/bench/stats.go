package main

import (
	"cmp"
	"slices"
)

// median returns the middle of xs, or the mean of the two in the middle. There
// must be one at least.
func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	n := len(xs)
	return (xs[(n-1)/2] + xs[n/2]) / 2
}

// percentile returns the least of xs that is not below p percent of them. There
// must be one at least, and p must be within 1 to 100.
func percentile[T cmp.Ordered](xs []T, p int) T {
	xs = slices.Sorted(slices.Values(xs))
	return xs[(len(xs)*p+99)/100-1]
}
