//go:build mutate_repeat && !mutate_drop

package durable

import "sync/atomic"

// repeatEvery is after how many bytes, read of all streams of a program, some are to be
// repeated.
const repeatEvery = 4 << 20

var toRepeat atomic.Int64

// mutate forgets now and then that the data of a frame was read, or as much of it as
// came together. It comes again with the next carrier.
func mutate(n int) (counted, given int) {
	now := toRepeat.Add(int64(n))
	if now/repeatEvery > (now-int64(n))/repeatEvery {
		return 0, n
	}
	return n, n
}
