package durable

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Sizes of chunks, powers of two.
const (
	minChunk = 4 << 10
	maxChunk = 256 << 10
)

// A Budget bounds the memory that streams hold for what is not acknowledged. It may
// be used by several goroutines at once; nil is one without bounds.
type Budget struct {
	max    int64
	parent *Budget
	used   atomic.Int64
}

// NewBudget returns a budget of so many bytes. What is taken of it is taken of its
// parent too, unless that is nil.
func NewBudget(size int64, parent *Budget) *Budget { return &Budget{max: size, parent: parent} }

// Used returns how many bytes are taken.
func (b *Budget) Used() int64 { return b.used.Load() }

// take takes bytes unless there are too few left.
func (b *Budget) take(n int) bool {
	if b == nil {
		return true
	}
	if b.used.Add(int64(n)) > b.max || !b.parent.take(n) {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

func (b *Budget) give(n int) {
	for ; b != nil; b = b.parent {
		b.used.Add(int64(-n))
	}
}

// A chunk is a piece of memory with frames in it, as they go out.
type chunk struct {
	buf      []byte
	from, to int    // where the frames are
	start    uint64 // the offset of the first frame
	taken    bool   // of the budget
	reserved bool   // somebody reads into it
}

// room is what data a frame in the chunk may have.
func (c *chunk) room() int { return len(c.buf) - c.to - headerRoom }

// headerRoom is for the header of a frame that fits a chunk.
const headerRoom = 3

var chunks [32]sync.Pool // by the logarithm of the size

func newChunk(size int) []byte {
	if b, ok := chunks[bits.Len(uint(size))].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

func freeChunk(b []byte) { chunks[bits.Len(uint(len(b)))].Put(&b) }

// chunkSize returns the size of the chunk for n bytes of data.
func chunkSize(n int) int {
	n = min(max(n+headerRoom, minChunk), maxChunk)
	return 1 << bits.Len(uint(n-1))
}

// A replay holds the frames that the other end has not acknowledged.
type replay struct {
	budget *Budget
	chunks []chunk // oldest first
	held   int     // bytes of memory
	free   int     // of them not taken of the budget
	short  bool    // the budget had no room
	end    uint64  // the offset behind the last frame

	// Where the carrier goes on: the first byte that it was not given. head comes
	// before that, for the rest of a frame that is not sent from its beginning.
	at, pos int
	head    []byte
	lent    *byte // the first of the chunk that is being written, wherever the carrier goes on
}

// own is the memory that a stream may have beyond any budget, so that none is kept
// from going on by others.
const own = 16 << 10

// grow adds a chunk for n bytes of data, or a smaller one if memory is short, unless
// that would be more than limit in all.
func (r *replay) grow(n, limit int) bool {
	for size := chunkSize(n); ; size = max(size/4, minChunk) {
		room := r.held == 0 || r.held+size <= limit
		free := room && size == minChunk && r.free+size <= own
		if room && !free {
			r.short = !r.budget.take(size)
		}
		taken := room && !free && !r.short
		if !free && !taken {
			if size == minChunk {
				return false
			}
			continue
		}
		if free {
			r.free += size
		}
		r.held += size
		r.chunks = append(r.chunks, chunk{buf: newChunk(size), start: r.end, taken: taken})
		return true
	}
}

// append takes in as much of p as there is memory for, as one frame at most.
func (r *replay) append(p []byte, limit int, kind func(n int) int) int {
	if len(r.chunks) == 0 || r.last().room() <= 0 || r.last().room() < len(p) && r.last().room() < minChunk/2 {
		if !r.grow(len(p), limit) && (len(r.chunks) == 0 || r.last().room() <= 0) {
			return 0
		}
	}
	c := r.last()
	n := min(len(p), c.room())
	b := appendHeader(c.buf[:c.to], kind(n), uint64(n))
	c.to = len(append(b, p[:n]...))
	r.end += uint64(n)
	return n
}

// reserve returns memory for data that is to be read, up to n bytes, in a chunk of
// its own; commit says how much was read.
func (r *replay) reserve(n, limit int) []byte {
	if len(r.chunks) > 0 && r.last().to == r.last().from {
		return r.space() // from last time
	}
	if !r.grow(n, limit) {
		return nil
	}
	return r.space()
}

func (r *replay) space() []byte {
	c := r.last()
	c.from, c.to, c.reserved = headerRoom, headerRoom, true
	return c.buf[headerRoom:]
}

func (r *replay) commit(n int, kind func(n int) int) {
	if len(r.chunks) == 0 || !r.last().reserved {
		return // nothing is
	}
	c := r.last()
	if c.reserved = false; n == 0 {
		return
	}
	h := appendHeader(nil, kind(n), uint64(n))
	c.from = headerRoom - len(h)
	copy(c.buf[c.from:], h)
	c.to = headerRoom + n
	if r.at == len(r.chunks)-1 {
		r.pos = c.from
	}
	r.end += uint64(n)
}

// mark appends a frame without data, for which there is memory always: it may make a
// chunk that is in no budget.
func (r *replay) mark(kind int, value uint64) {
	if len(r.chunks) == 0 || r.last().reserved || len(r.last().buf)-r.last().to < maxHeader {
		r.chunks = append(r.chunks, chunk{buf: make([]byte, 16), start: r.end})
	}
	c := r.last()
	c.to = len(appendHeader(c.buf[:c.to], kind, value))
	r.end++
}

func (r *replay) last() *chunk { return &r.chunks[len(r.chunks)-1] }

// endOf returns the offset behind a chunk.
func (r *replay) endOf(i int) uint64 {
	if i+1 < len(r.chunks) {
		return r.chunks[i+1].start
	}
	return r.end
}

// next returns what the carrier is to be given.
func (r *replay) next() []byte {
	if len(r.head) > 0 {
		return r.head
	}
	for r.at < len(r.chunks) {
		c := &r.chunks[r.at]
		if r.pos = max(r.pos, c.from); r.pos < c.to {
			return c.buf[r.pos:c.to]
		}
		if r.at == len(r.chunks)-1 {
			break // more may come in here
		}
		r.at, r.pos = r.at+1, 0
	}
	return nil
}

// lend says that what next returned is being read.
func (r *replay) lend() {
	if r.at < len(r.chunks) {
		r.lent = &r.chunks[r.at].buf[0]
	}
}

// sent moves on after n bytes of what next returned.
func (r *replay) sent(n int) {
	if len(r.head) > 0 {
		r.head = r.head[n:]
		return
	}
	r.pos += n
}

// drop frees what lies before an offset, but for what the carrier is still to be given:
// the other end may have from another carrier what it expects to come again.
func (r *replay) drop(before uint64) {
	for len(r.chunks) > 0 && r.endOf(0) <= before {
		c := &r.chunks[0]
		if r.at == 0 && (len(r.head) > 0 || r.pos < c.to) || c.from == c.to {
			break // the last is of an empty one that is reserved
		}
		r.release(c)
		r.chunks[0] = chunk{}
		r.chunks = r.chunks[1:]
		if r.at--; r.at < 0 {
			r.at, r.pos, r.head = 0, 0, nil
		}
	}
	if len(r.chunks) == 0 {
		r.chunks = nil
	}
}

// release gives the memory of a chunk back, but not for others to use if it is just
// being read.
func (r *replay) release(c *chunk) {
	if len(c.buf) < minChunk {
		return // of mark
	}
	r.held -= len(c.buf)
	if c.taken {
		r.budget.give(len(c.buf))
	} else {
		r.free -= len(c.buf)
	}
	if &c.buf[0] != r.lent && !c.reserved {
		freeChunk(c.buf)
	}
}

// clear frees all.
func (r *replay) clear() {
	for i := range r.chunks {
		r.release(&r.chunks[i])
	}
	r.chunks, r.at, r.pos, r.head = nil, 0, 0, nil
}

// rewind has the carrier go on at an offset that was not dropped.
func (r *replay) rewind(to uint64) {
	r.head, r.at, r.pos = nil, len(r.chunks), 0
	for i := range r.chunks {
		if to >= r.endOf(i) {
			continue
		}
		c := &r.chunks[i]
		r.at, r.pos = i, c.from
		for off := c.start; r.pos < c.to; {
			kind, value, n, _ := header(c.buf[r.pos:c.to]) // of our own making
			size := value
			if kind >= kindFin {
				size = 1
			}
			if off+size > to {
				if off < to {
					r.head = appendHeader(nil, kind, off+size-to)
					r.pos += n + int(to-off)
				}
				return
			}
			off += size
			r.pos += n
			if kind < kindFin {
				r.pos += int(size)
			}
		}
		return
	}
	if r.at > 0 { // at the end, where more may come in
		r.at--
		r.pos = r.last().to
	}
}
