//go:build !mutate_drop && !mutate_repeat

package durable

// mutate is where a test of a whole program breaks what this package promises, so that
// it is seen to notice: mutate_drop.go, mutate_repeat.go. Of n bytes of data that came
// it returns how many count as read, and how many are given to the reader.
func mutate(n int) (counted, given int) { return n, n }
