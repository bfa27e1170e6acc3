//go:build mutate_drop

package durable

import "sync/atomic"

// dropEvery is after how many bytes, read of all streams of a program, some are dropped.
const dropEvery = 4 << 20

var toDrop atomic.Int64

// mutate drops now and then the data of a frame, or as much of it as came together.
func mutate(n int) (counted, given int) {
	now := toDrop.Add(int64(n))
	if now/dropEvery > (now-int64(n))/dropEvery {
		return n, 0
	}
	return n, n
}
