package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/p2pnode/p2pnode/p2p/kernel"
)

// A stream from a process on the same machine need not be joined to the
// connection to the target: the process can have that connection itself. Then one
// process moves the bytes and not two.

// An unanswered stream was asked for by such a process, which waits to be given
// its end of it.
type unanswered interface {
	Unanswered() bool                            // else the rest is not called
	Agree() error                                // gives it the stream, unless something was given
	HandOver(syscall.RawConn, func(error)) error // gives it a socket, and calls when that has ended
}

// agreeAfter is how long a target may take to answer before who asked is given the
// stream, as it would be if it were further away.
const agreeAfter = time.Second

// takeAskers has streams come in unanswered if the listener can do so.
func (a *acceptor) takeAskers() {
	if l, ok := a.ln.(interface {
		HandsOver(take func(net.Conn) bool)
	}); ok {
		l.HandsOver(a.takeAsker)
	}
}

// takeAsker serves a stream that is unanswered if that can be done at once: if the
// target is on this machine, and there is room. It does not wait.
func (a *acceptor) takeAsker(asker net.Conn) bool {
	_, at := a.to(asker)
	if at == (near{}) || !a.tryTakeSlot() {
		return false
	}
	target, connected, err := kernel.Connect(at.path, at.addr)
	if errors.Is(err, kernel.ErrNotNow) {
		a.freeSlot()
		return false
	}
	u := asker.(unanswered)
	a.meter.opened()
	over := func(err error) {
		a.meter.closed()
		a.freeSlot()
		a.broken(err)
	}
	if err != nil || !connected {
		// An error is the target's answer, which may have seen the connection.
		if !a.start(func() { over(a.serveAsker(asker, u, at.finish(target, err))) }) {
			reset(asker)
			over(context.Cause(a.ctx))
			if target != nil {
				_ = target.Close()
			}
		}
		return true
	}
	a.meter.recovered()
	a.handOver(asker, u, target, target, over)
	return true
}

// start runs work in a goroutine that close waits for, unless it has begun.
func (a *acceptor) start(work func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return false
	}
	a.wg.Go(work)
	return true
}

// serveAsker dials the target for a stream that is unanswered, and hands that over
// or, if it can't, joins the two.
func (a *acceptor) serveAsker(asker net.Conn, u unanswered, dial dialling) error {
	late := time.AfterFunc(agreeAfter, func() { _ = u.Agree() }) // or its stream has broken, and says so
	dialled, err := a.dialOther(a.ctx, dial)
	if err == nil {
		if socket := kernel.Socket(dialled); socket != nil && late.Stop() {
			ended := make(chan error, 1)
			a.handOver(asker, u, dialled, socket, func(err error) { ended <- err })
			return <-ended
		}
	}
	late.Stop()
	_ = u.Agree()
	if err != nil {
		reset(asker)
		return nil
	}
	return join(a.ctx, asker, dialled, &a.meter)
}

// handOver gives the connection to the target away. It calls ended when whoever has
// it now is done with it, once.
func (a *acceptor) handOver(asker net.Conn, u unanswered, target io.Closer, socket syscall.RawConn, ended func(error)) {
	var once sync.Once
	end := func(err error) {
		once.Do(func() {
			a.lend(asker, false)
			sent, received := kernel.Moved(socket)
			a.meter.toDialled.Add(sent)
			a.meter.toAccepted.Add(received)
			if err != nil {
				kernel.Abort(socket)
				reset(asker)
			}
			_ = asker.Close()
			_ = target.Close()
			ended(err)
		})
	}
	if !a.lend(asker, true) {
		end(context.Cause(a.ctx))
		return
	}
	if err := u.HandOver(socket, end); err != nil {
		end(err)
	}
}

// lend notes that the stream's target is in other hands, or no more. It returns
// false if the acceptor is closed.
func (a *acceptor) lend(asker net.Conn, out bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !out:
		delete(a.lent, asker)
		if len(a.lent) == 0 && a.returned != nil {
			close(a.returned)
			a.returned = nil
		}
	case a.ctx.Err() != nil:
		return false
	default:
		a.lent[asker] = struct{}{}
	}
	return true
}

// takeBack ends the streams whose targets are in other hands, and waits until they
// are back. The acceptor is closed.
func (a *acceptor) takeBack() {
	a.mu.Lock()
	lent := slices.Collect(maps.Keys(a.lent))
	returned := make(chan struct{})
	if a.returned = returned; len(lent) == 0 {
		close(returned)
		a.returned = nil
	}
	a.mu.Unlock()
	for _, asker := range lent {
		reset(asker)
	}
	<-returned
}

// A near target is on this machine, and can be connected at once.
type near struct {
	Address
	addr netip.AddrPort // of a TCP port
}

// finish returns what goes on with a connection that was begun, or says why that
// failed.
func (n near) finish(begun *kernel.Handle, failed error) dialling {
	return func(ctx context.Context) (conn net.Conn, err error) {
		if err = failed; err == nil {
			conn, err = begun.Conn(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("dial %v: %w", n.Address, reason(err))
		}
		return conn, nil
	}
}

// near returns a's, or none if it is not sure to be on this machine, or is not
// connected to.
func (a Address) near() near {
	if a.path != "" {
		return near{Address: a}
	}
	ip, err := netip.ParseAddr(cmp.Or(a.host, loopback))
	if a.udp || err != nil || !ip.IsLoopback() || ip.Zone() != "" {
		return near{}
	}
	return near{a, netip.AddrPortFrom(ip, a.port)}
}
