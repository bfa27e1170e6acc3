package forward

import "sync"

// A bufferSize is an index into bufferSizes. The zero bufferSize is the smallest.
type bufferSize int

// The smallest is what a connection may hold while idle, of which a node may have
// thousands. From the next on steps of four get a stream to the largest in two reads. Twice or half of that is slower by a seventh and more:
// a muxer's frame of 256 KiB has its header and what the largest buffer holds, so that
// there is no second frame for a rest of some bytes.
var bufferSizes = [...]int{1 << 10, 16 << 10, 64 << 10, 256<<10 - frameHeader}

// frameHeader is yamux's.
const frameHeader = 12

var bufferPools [len(bufferSizes)]sync.Pool

// after returns the size for the next read, after one that gave n bytes: larger
// if they filled the buffer, smaller if they would have fitted the next smaller
// one with room to spare.
func (s bufferSize) after(n int) bufferSize {
	switch {
	case n == bufferSizes[s] && int(s) < len(bufferSizes)-1:
		return s + 1
	case s > 0 && n < bufferSizes[s-1]/2:
		return s - 1
	}
	return s
}

type buffer struct {
	bytes []byte
	size  bufferSize
}

func newBuffer(size bufferSize) *buffer {
	if b, ok := bufferPools[size].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, bufferSizes[size]), size}
}

func (b *buffer) release() { bufferPools[b.size].Put(b) }
