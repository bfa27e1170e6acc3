package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

// A stream of blocks follows from a seed. A block is its number, bytes that follow from
// the seed and the number, and the hash of all before it and itself. So whoever reads
// them can tell bytes that are missing from bytes that came again, and both from bytes
// that are others.
const (
	blockNumber = 8
	blockData   = blockSize - blockNumber - sha256.Size
	blockSize   = 1 << 10
)

// blocks writes blocks, one after the other.
type blocks struct {
	seed uint64
	next uint64            // the number of the next one
	sum  [sha256.Size]byte // the hash so far
}

// write appends the next block.
func (b *blocks) write(to []byte) []byte {
	at := len(to)
	to = numbered(to, b.seed, b.next)
	h := sha256.New()
	h.Write(b.sum[:])
	h.Write(to[at:])
	h.Sum(b.sum[:0])
	b.next++
	return append(to, b.sum[:]...)
}

// numbered appends the part of a block that does not depend on those before it.
func numbered(to []byte, seed, number uint64) []byte {
	to = binary.BigEndian.AppendUint64(to, number)
	r := rand.NewPCG(seed, number)
	for range blockData / 8 {
		to = binary.BigEndian.AppendUint64(to, r.Uint64())
	}
	return to
}

// A verdict is what was wrong with the bytes of a stream.
type verdict struct {
	Blocks  uint64 // that came as awaited
	Gaps    int    // places where bytes were missing
	Repeats int    // places where bytes came that had been before
	Wrong   int    // places where bytes were others
	Bytes   int64  // that were missing, or came again
}

// bad counts what was wrong.
func (v verdict) bad() int { return v.Gaps + v.Repeats + v.Wrong }

// farAhead is how many blocks one may be ahead of what is awaited and still be taken
// for a block: more than any buffer holds.
const farAhead = 1 << 20

// A checker reads a stream of blocks. After something wrong it looks for the next
// block, wherever that is, so that each wrong place counts once.
type checker struct {
	verdict
	want  blocks // what is to come
	at    int64  // how far what was read is in what was written
	rest  []byte // not looked at yet
	lost  bool   // looking for a block
	block []byte // scratch
}

func newChecker(seed uint64) *checker { return &checker{want: blocks{seed: seed}} }

// Write takes in bytes as they come. It never fails.
func (c *checker) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	for len(c.rest) >= blockSize && (c.lost && c.find() || !c.lost && c.take()) {
	}
	c.rest = append([]byte(nil), c.rest...) // so that it does not keep all that ever came
	return len(p), nil
}

// take takes the block that is to come. It returns false when something else came.
func (c *checker) take() bool {
	next := c.want
	c.block = next.write(c.block[:0])
	if !bytes.Equal(c.block, c.rest[:blockSize]) {
		c.lost = true
		return true
	}
	c.want = next
	c.Blocks++
	c.skip(blockSize)
	return true
}

func (c *checker) skip(n int) {
	c.rest = c.rest[n:]
	c.at += int64(n)
}

// find looks for a block, and goes on from there. It returns false if there is none.
func (c *checker) find() bool {
	for i := 0; i+blockSize <= len(c.rest); i++ {
		number := binary.BigEndian.Uint64(c.rest[i:])
		if number > c.want.next+farAhead {
			continue
		}
		c.block = numbered(c.block[:0], c.want.seed, number)
		if !bytes.Equal(c.block, c.rest[i:i+len(c.block)]) {
			continue
		}
		c.skip(i)
		c.found(number)
		return true
	}
	c.skip(len(c.rest) - blockSize + 1)
	return false
}

// found goes on with the block that is first in rest.
func (c *checker) found(number uint64) {
	switch ahead := int64(number)*blockSize - c.at; {
	case ahead > 0:
		c.Gaps++
		c.Bytes += ahead
	case ahead < 0:
		c.Repeats++
		c.Bytes -= ahead
	default:
		c.Wrong++
	}
	c.want.next = number + 1
	copy(c.want.sum[:], c.rest[blockSize-sha256.Size:]) // as who wrote it had it
	c.lost = false
	c.at = int64(number+1) * blockSize
	c.rest = c.rest[blockSize:]
}

// torn tells whether what came last is no whole block.
func (c *checker) torn() bool { return c.lost || len(c.rest) > 0 }

// end returns the verdict about a stream of which no more comes, given how many blocks
// were written, what was awaited last, and whether the last was torn.
func (v verdict) end(written, awaited uint64, torn bool) verdict {
	if torn || written != awaited {
		v.Gaps++
	}
	return v
}
