package forward

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// A runner is what all that ties sockets to services has in common: a life, counts,
// and a log.
type runner struct {
	cfg   Config          // set by begin and never changed
	ctx   context.Context // ends with stop
	stop  context.CancelFunc
	wg    sync.WaitGroup
	meter meter

	dialers crew // so that who goes on with a connection, perhaps for days, has a small stack
}

func (r *runner) begin(c Config) {
	r.cfg = c
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.dialers = newCrew(r.ctx, &r.wg)
}

func (r *runner) stats() Stats { return r.meter.stats() }

// dialOther dials the other end for a connection, and logs if it can't.
func (r *runner) dialOther(ctx context.Context, dial dialling) (net.Conn, error) {
	timed, cancel := context.WithTimeout(ctx, r.cfg.DialTimeout)
	defer cancel()
	dialled, err := r.apart(timed, dial)
	for errors.Is(err, syscall.EMFILE) && sleep(timed, filesDelay) {
		dialled, err = r.apart(timed, dial)
	}
	if err != nil {
		r.meter.failed.Add(1)
		r.meter.reasons.add(err)
		if ctx.Err() == nil {
			r.complain("connection reset: its other end is out of reach", err)
		}
		return nil, err
	}
	r.meter.recovered()
	return dialled, nil
}

// apart dials on another's stack.
func (r *runner) apart(ctx context.Context, dial dialling) (conn net.Conn, err error) {
	done := make(chan struct{})
	r.dialers.do(func() {
		defer close(done)
		conn, err = dial(ctx)
	})
	<-done
	return conn, err
}

// complain logs a failure, unless it is the one before it over again: a service
// that is down fails for every client in the same way.
func (r *runner) complain(what string, err error) {
	if r.meter.failure(err) {
		r.cfg.Logger.Warn(what, "err", err)
	}
}

// broken counts why a connection broke, and tells whoever debugs.
func (r *runner) broken(broke error) {
	if broke != nil {
		r.meter.reasons.add(broke)
		r.cfg.Logger.Debug("connection broke", "err", broke)
	}
}

// sleep returns true after d, or false as soon as ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
