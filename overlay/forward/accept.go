package forward

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// An acceptor is what a Forward and an Expose have in common: it accepts
// connections on one side, dials the other side for each, and joins the two.
type acceptor struct {
	// Set by newAcceptor and never changed.
	ln   net.Listener
	dial dialling
	near near // the other end if it is at hand, else the zero near
	cfg  Config

	ctx   context.Context // ends with close
	stop  context.CancelFunc
	slots chan struct{} // an element for each open connection, and one while accepting
	wg    sync.WaitGroup
	meter meter

	mu       sync.Mutex            // guards the fields below
	lent     map[net.Conn]struct{} // streams whose targets were handed over
	returned chan struct{}         // closed when there are none; nil unless takeBack waits

	closeOnce sync.Once
	closeErr  error
}

type dialling func(context.Context) (net.Conn, error)

func newAcceptor(ln net.Listener, dial dialling, at near, c Config) *acceptor {
	a := &acceptor{ln: ln, dial: dial, near: at, cfg: c, slots: make(chan struct{}, c.MaxOpen), lent: map[net.Conn]struct{}{}}
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.wg.Go(a.run)
	return a
}

func (a *acceptor) stats() Stats { return a.meter.stats() }

func (a *acceptor) close() error {
	a.closeOnce.Do(func() {
		a.stop()
		if err := a.ln.Close(); !errors.Is(err, net.ErrClosed) {
			a.closeErr = err
		}
		a.takeBack()
		a.wg.Wait()
	})
	return a.closeErr
}

// run accepts until the listener is closed. Any other failure may pass, such as
// a want of file descriptors, and is outlasted.
func (a *acceptor) run() {
	delay := minAcceptDelay
	for a.takeSlot() {
		conn, err := a.ln.Accept()
		switch {
		case err == nil:
			delay = minAcceptDelay
			a.wg.Go(func() {
				defer a.freeSlot()
				a.handle(conn)
			})
		case a.ctx.Err() != nil:
			return
		case errors.Is(err, net.ErrClosed): // by whoever has the listener, or its mesh
			a.freeSlot()
			a.meter.failure(err)
			a.cfg.Logger.Info("listener is closed", "err", err)
			return
		default:
			a.freeSlot()
			a.complain("accept failed", err)
			if !sleep(a.ctx, delay) {
				return
			}
			delay = min(2*delay, maxAcceptDelay)
		}
	}
}

// takeSlot waits until one more connection may be open. It returns false if the
// acceptor is closed first.
func (a *acceptor) takeSlot() bool {
	select {
	case a.slots <- struct{}{}:
		return true
	case <-a.ctx.Done():
		return false
	}
}

func (a *acceptor) freeSlot() { <-a.slots }

// tryTakeSlot is takeSlot that does not wait.
func (a *acceptor) tryTakeSlot() bool {
	select {
	case a.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (a *acceptor) handle(accepted net.Conn) {
	a.meter.opened()
	defer a.meter.closed()

	a.debug(a.serve(accepted))
}

func (a *acceptor) debug(broke error) {
	if broke != nil {
		a.cfg.Logger.Debug("connection broke", "err", broke)
	}
}

// serve returns why the connection broke, or nil if it ended cleanly or its other
// end is out of reach, which it logs.
func (a *acceptor) serve(accepted net.Conn) error {
	if u, ok := accepted.(unanswered); ok && u.Unanswered() {
		return a.serveAsker(accepted, u, a.dial)
	}
	dialled, err := a.dialOther(a.dial)
	if err != nil {
		reset(accepted)
		return nil
	}
	return join(a.ctx, accepted, dialled, &a.meter)
}

// dialOther dials the other end for a connection, and logs if it can't.
func (a *acceptor) dialOther(dial dialling) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(a.ctx, a.cfg.DialTimeout)
	defer cancel()
	dialled, err := dial(ctx)
	if err != nil {
		a.meter.failed.Add(1)
		if a.ctx.Err() == nil {
			a.complain("connection reset: its other end is out of reach", err)
		}
		return nil, err
	}
	a.meter.recovered()
	return dialled, nil
}

// complain logs a failure, unless it is the one before it over again: a service
// that is down fails for every client in the same way.
func (a *acceptor) complain(what string, err error) {
	if a.meter.failure(err) {
		a.cfg.Logger.Warn(what, "err", err)
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
