package unixsock

import "sync"

// A progress says how far a receiver is, for who has to know that it has taken in
// what was sent up to now.
type progress struct {
	mu    sync.Mutex
	idle  *sync.Cond // busy is false, or ended true
	busy  bool       // it reads, or takes in what it has read
	ended bool       // it has taken in that the connection has ended
}

func (p *progress) begin() { p.idle = sync.NewCond(&p.mu) }

func (p *progress) setBusy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = true
}

func (p *progress) setIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	p.idle.Broadcast()
}

func (p *progress) setEnded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.idle.Broadcast()
}

// await waits until nothing is pending and what is not is taken in.
func (p *progress) await(pending func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended && (p.busy || pending()) {
		p.idle.Wait()
	}
}
