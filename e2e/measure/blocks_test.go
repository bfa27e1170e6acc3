package main

import (
	"bytes"
	"slices"
	"testing"
)

// What each kind of damage is taken for, wherever in a block it is and however the
// bytes come.
func TestChecker(t *testing.T) {
	const count = 20
	var whole []byte
	w := blocks{seed: 7}
	for range count {
		whole = w.write(whole)
	}
	for _, tt := range []struct {
		name   string
		damage func([]byte) []byte
		want   verdict
	}{
		{"none", func(b []byte) []byte { return b }, verdict{Blocks: 20}},
		{"a byte is another", func(b []byte) []byte { b[5000] ^= 1; return b }, verdict{Blocks: 18, Wrong: 1}},
		{"a number is another", func(b []byte) []byte { b[4*blockSize] = 1; return b }, verdict{Blocks: 18, Wrong: 1}},
		{"a byte is missing", func(b []byte) []byte { return slices.Delete(b, 5000, 5001) }, verdict{Blocks: 18, Gaps: 1, Bytes: 1}},
		{"a frame is missing", func(b []byte) []byte { return slices.Delete(b, 5000, 7500) }, verdict{Blocks: 15, Gaps: 1, Bytes: 2500}},
		{"a block is missing", func(b []byte) []byte { return slices.Delete(b, 5*blockSize, 6*blockSize) }, verdict{Blocks: 18, Gaps: 1, Bytes: blockSize}},
		{"a byte comes again", func(b []byte) []byte { return slices.Insert(b, 5000, b[4999]) }, verdict{Blocks: 18, Repeats: 1, Bytes: 1}},
		{"a frame comes again", func(b []byte) []byte { return slices.Insert(b, 7500, slices.Clone(b[5000:7500])...) }, verdict{Blocks: 21, Repeats: 1, Bytes: 2500}},
		{"a block comes again", func(b []byte) []byte {
			return slices.Insert(b, 6*blockSize, slices.Clone(b[5*blockSize:6*blockSize])...)
		}, verdict{Blocks: 20, Repeats: 1, Bytes: blockSize}},
		{"two places", func(b []byte) []byte { return slices.Delete(slices.Delete(b, 15000, 15100), 5000, 5100) }, verdict{Blocks: 16, Gaps: 2, Bytes: 200}},
		{"the end is missing", func(b []byte) []byte { return b[:19*blockSize] }, verdict{Blocks: 19, Gaps: 1}},
		{"the last byte is missing", func(b []byte) []byte { return b[:len(b)-1] }, verdict{Blocks: 19, Gaps: 1}},
		{"all is missing", func([]byte) []byte { return nil }, verdict{Gaps: 1}},
	} {
		for _, size := range []int{1, 100, blockSize, len(whole)} {
			c := newChecker(7)
			for piece := range slices.Chunk(tt.damage(slices.Clone(whole)), size) {
				c.Write(piece)
			}
			if got := c.end(count, c.want.next, c.torn()); got != tt.want {
				t.Errorf("%s, in pieces of %d: verdict = %+v, want %+v", tt.name, size, got, tt.want)
			}
		}
	}
}

// Blocks of another seed are none of this stream's.
func TestCheckerOfAnotherSeed(t *testing.T) {
	other := blocks{seed: 8}
	c := newChecker(7)
	c.Write(other.write(nil))
	if got := c.end(1, c.want.next, c.torn()); got != (verdict{Gaps: 1}) {
		t.Errorf("verdict = %+v, want a gap", got)
	}
	if a, b := (&blocks{seed: 8}).write(nil), (&blocks{seed: 8}).write(nil); !bytes.Equal(a, b) || len(a) != blockSize {
		t.Errorf("a block = %x, and once more %x, want the same %d bytes", a, b, blockSize)
	}
}
