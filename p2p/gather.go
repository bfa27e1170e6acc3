package p2p

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
)

// A relay copies what it has read, 32 KiB at a time. While one piece is on its way more
// comes, and to send that at once costs less here and where it is read. So pieces that
// filled the buffer are gathered as long as another is being written.

// gatherMost is how much of one direction is gathered. The memory is held only while more
// comes than goes.
const gatherMost = 128 << 10

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, gatherMost); return &b }}

// A gatherer writes to a stream. Write and Flush are one goroutine's, which is the one that
// copies.
type gatherer struct {
	stream network.Stream

	mu      sync.Mutex
	changed sync.Cond // when there is room again, or writing has ended
	waiting *[]byte   // to be written; nil if nothing is
	writing bool
	err     error // of a write that was not waited for
}

func newGatherer(s network.Stream) *gatherer {
	g := &gatherer{stream: s}
	g.changed.L = &g.mu
	return g
}

// Write returns when the bytes are written, or more than gatherMost are not waiting. An
// error may be of bytes before.
func (g *gatherer) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.err == nil && g.writing && g.waiting != nil && len(*g.waiting)+len(b) > gatherMost {
		g.changed.Wait()
	}
	switch {
	case g.err != nil:
		return 0, g.err
	case !g.writing && len(b) < relayBuffer || len(b) > gatherMost: // no more has come yet
		for g.writing {
			g.changed.Wait()
		}
		g.mu.Unlock()
		n, err := g.stream.Write(b)
		g.mu.Lock()
		return n, err
	}
	if g.waiting == nil {
		g.waiting = gatherBuffers.Get().(*[]byte)
	}
	*g.waiting = append(*g.waiting, b...)
	if !g.writing {
		g.writing = true
		go g.run() // it ends with what there is to write, at the latest with the stream
	}
	return len(b), nil
}

// run writes until nothing is waiting any more.
func (g *gatherer) run() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.waiting != nil && g.err == nil {
		b := g.waiting
		g.waiting = nil
		g.changed.Broadcast()
		g.mu.Unlock()
		_, err := g.stream.Write(*b)
		*b = (*b)[:0]
		gatherBuffers.Put(b)
		g.mu.Lock()
		g.err = err
	}
	g.writing = false
	g.changed.Broadcast()
}

// Flush waits until all is written.
func (g *gatherer) Flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.writing {
		g.changed.Wait()
	}
	return g.err
}
