package forward

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p2pnode/p2pnode/p2p/kernel"
)

const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second

	// filesDelay is how often it is looked whether there are descriptors again.
	filesDelay = 50 * time.Millisecond
)

// An acceptor is what a Forward, an Expose and a Proxy have in common: it accepts
// connections, and serves so many at a time. Those of the first two are served by
// dialling the other side for each, and joining the two.
type acceptor struct {
	runner

	// Set by newAcceptor and never changed.
	ln  net.Listener
	how func(accepted net.Conn) error // a connection is served; it returns why that broke
	to  route
	tie tie

	undialled atomic.Int32  // accepted sockets whose other ends are being dialled, for awaitFiles
	slots     chan struct{} // an element for each open connection, and one while accepting

	mu       sync.Mutex            // guards the fields below
	lent     map[net.Conn]struct{} // streams whose targets were handed over
	returned chan struct{}         // closed when there are none; nil unless takeBack waits

	closeOnce sync.Once
	closeErr  error
}

// errFiles says that the process has nearly as many descriptors as it may.
var errFiles = errors.New("as many files are open as may be: raise the limit (ulimit -n)")

type dialling func(context.Context) (net.Conn, error)

// A route tells of an accepted connection how its other end is dialled and, if that is
// at hand, where it is; else there is the zero near.
type route func(accepted net.Conn) (dialling, near)

// always is the route to one other end for all.
func always(dial dialling, at near) route {
	return func(net.Conn) (dialling, near) { return dial, at }
}

// A tie makes one connection of two that an acceptor has.
type tie func(a *acceptor, accepted, dialled net.Conn) error

func newAcceptor(ln net.Listener, to route, tie tie, c Config) *acceptor {
	a := makeAcceptor(ln, c)
	a.how, a.to, a.tie = a.serve, to, tie
	a.wg.Go(a.run)
	return a
}

func (a *acceptor) addr() net.Addr { return a.ln.Addr() }

// makeAcceptor returns an acceptor that is yet to be told how it serves, and to run.
func makeAcceptor(ln net.Listener, c Config) *acceptor {
	a := &acceptor{ln: ln, slots: make(chan struct{}, c.MaxOpen), lent: map[net.Conn]struct{}{}}
	a.begin(c)
	return a
}

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
			short := false
			if socket := kernel.Socket(conn); socket != nil && a.to != nil {
				short = kernel.FilesShort(socket, int(a.undialled.Add(1)))
			}
			a.wg.Go(func() {
				defer a.freeSlot()
				a.handle(conn)
			})
			if short && !a.awaitFiles() {
				return
			}
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

// awaitFiles waits until there are descriptors for more than what is open: who is not
// accepted waits too, and is not turned away. It returns false if the acceptor is closed
// first.
func (a *acceptor) awaitFiles() bool {
	for kernel.FilesShort(nil, int(a.undialled.Load())) {
		a.complain("accepts no more for now", errFiles)
		if !sleep(a.ctx, filesDelay) {
			return false
		}
	}
	return true
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

	a.broken(a.how(accepted))
}

// serve returns why the connection broke, or nil if it ended cleanly or its other
// end is out of reach, which it logs.
func (a *acceptor) serve(accepted net.Conn) error {
	dial, _ := a.to(accepted)
	if u, ok := accepted.(unanswered); ok && u.Unanswered() {
		return a.serveAsker(accepted, u, dial)
	}
	dialled, err := a.dialOther(a.ctx, dial)
	if kernel.Socket(accepted) != nil {
		a.undialled.Add(-1)
	}
	if err != nil {
		reset(accepted)
		return nil
	}
	return a.tie(a, accepted, dialled)
}

// tieBytes joins the two.
func (a *acceptor) tieBytes(accepted, dialled net.Conn) error {
	if a.cfg.ProxyProtocol {
		if err := writeHeader(dialled, accepted); err != nil {
			reset(accepted)
			reset(dialled)
			return err
		}
	}
	if a.cfg.IdleTimeout > 0 {
		return joinUntilIdle(a.ctx, accepted, dialled, &a.meter, a.cfg.IdleTimeout)
	}
	return join(a.ctx, accepted, dialled, &a.meter)
}
