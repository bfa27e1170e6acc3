package p2p

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/network"
)

// A writeGate is a stream that writes when it is let.
type writeGate struct {
	network.Stream
	let chan error // what the next write returns

	mu     sync.Mutex
	writes [][]byte
}

func (s *writeGate) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.writes = append(s.writes, bytes.Clone(b))
	s.mu.Unlock()
	if err := <-s.let; err != nil {
		return 0, err
	}
	return len(b), nil
}

func TestGatherer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &writeGate{let: make(chan error, 100)}
		g := newGatherer(s)
		write := func(n int, fill byte) {
			t.Helper()
			if got, err := g.Write(bytes.Repeat([]byte{fill}, n)); got != n || err != nil {
				t.Errorf("Write of %d = %d, %v", n, got, err)
			}
		}
		s.let <- nil
		write(100, 'a') // at once: the test would stop here else
		if len(s.writes) != 1 {
			t.Errorf("%d writes after one that is small, want 1", len(s.writes))
		}
		write(relayBuffer, 'b')
		synctest.Wait() // it is being written
		write(relayBuffer, 'c')
		write(10, 'd')
		for range 3 {
			s.let <- nil
		}
		if err := g.Flush(); err != nil {
			t.Errorf("Flush = %v, want nil", err)
		}
		var lengths []int
		for _, w := range s.writes {
			lengths = append(lengths, len(w))
		}
		if len(lengths) != 3 || lengths[1] != relayBuffer || lengths[2] != relayBuffer+10 {
			t.Errorf("writes of %v bytes, want the last two at once", lengths)
		}
		want := append(bytes.Repeat([]byte{'c'}, relayBuffer), bytes.Repeat([]byte{'d'}, 10)...)
		if got := s.writes[len(s.writes)-1]; !bytes.Equal(got, want) {
			t.Error("the last write has other bytes, or another order")
		}
	})
}

func TestGathererHasRoomAndAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &writeGate{let: make(chan error)}
		g := newGatherer(s)
		var taken int
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			for err == nil {
				var n int
				n, err = g.Write(make([]byte, relayBuffer))
				taken += n
			}
		}()
		synctest.Wait()
		if taken <= gatherMost || taken > 2*gatherMost {
			t.Errorf("%d bytes are taken while the first are written, want more than %d and no more than twice that", taken, gatherMost)
		}
		broken := errors.New("broken")
		s.let <- broken
		<-done
		checkIs(t, "Write after one has failed", err, broken)
		checkIs(t, "Flush", g.Flush(), broken)
	})
}
