package forward

import (
	"context"
	"sync"
	"time"
)

// A crew runs work in goroutines that it keeps for a while: their stacks, which a dial
// through a mesh makes large, have grown already, and to grow one costs more than to
// start a goroutine.
type crew struct {
	ctx  context.Context // ends those that wait
	wg   *sync.WaitGroup
	work chan func()
}

// crewIdle is how long one waits for more work.
const crewIdle = time.Second

func newCrew(ctx context.Context, wg *sync.WaitGroup) crew {
	return crew{ctx, wg, make(chan func())}
}

// do has somebody do f, and does not wait.
func (c crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		c.wg.Go(func() { c.serve(f) })
	}
}

// serve does f, and then what comes.
func (c crew) serve(f func()) {
	idle := time.NewTimer(crewIdle)
	defer idle.Stop()
	for {
		f()
		f = nil // so that what it has is let go of
		idle.Reset(crewIdle)
		select {
		case f = <-c.work:
		case <-idle.C:
			return
		case <-c.ctx.Done():
			return
		}
	}
}
