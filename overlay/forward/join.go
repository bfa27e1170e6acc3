package forward

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/p2pnode/p2pnode/p2p/kernel"
)

// Join passes what comes in at one connection out at the other, both ways, as
// the package comment tells, until both directions have ended, one has broken,
// or ctx ends. Then both are closed. It returns why they broke, or nil if they
// ended cleanly.
func Join(ctx context.Context, a, b net.Conn) error {
	return join(ctx, a, b, new(meter))
}

// joinUntilIdle is join that breaks the two off when nothing has gone through for
// some time. What has is counted when it is looked for.
func joinUntilIdle(ctx context.Context, accepted, dialled net.Conn, m *meter, limit time.Duration) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var own meter
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { own.watch(m, limit, over, func() { stop(fmt.Errorf("%w: %v", errIdle, limit)) }) })
	err := join(ctx, accepted, dialled, &own)
	close(over)
	wg.Wait()
	return err
}

// watch moves what m counts to another meter until over is closed, and calls idle
// when that was nothing for a time.
func (m *meter) watch(to *meter, limit time.Duration, over <-chan struct{}, idle func()) {
	tick := time.NewTicker(max(limit/4, 1))
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-over:
			m.moveTo(to)
			return
		case now := <-tick.C:
			if m.moveTo(to) {
				last = now
			} else if now.Sub(last) >= limit {
				idle()
			}
		}
	}
}

// moveTo adds the bytes that m has counted to another meter, and returns whether
// there were any.
func (m *meter) moveTo(to *meter) bool {
	out, in := m.toDialled.Swap(0), m.toAccepted.Swap(0)
	to.toDialled.Add(out)
	to.toAccepted.Add(in)
	return out+in > 0
}

// A joint is two connections made into one. Two goroutines run it, one for each
// direction.
type joint struct {
	a, b *side

	ended   atomic.Int32 // directions that came to a clean end
	endOnce sync.Once
	over    atomic.Bool // end has been called
	err     error       // set in endOnce
}

// join passes what comes in at one connection out at the other, both ways, until
// both directions have ended or one has broken. Then both connections are
// closed. It returns why the joint broke, or nil if it ended cleanly.
func join(ctx context.Context, accepted, dialled net.Conn, m *meter) error {
	j := &joint{a: newSide(accepted), b: newSide(dialled)}
	stop := context.AfterFunc(ctx, func() { j.end(context.Cause(ctx)) })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { j.carry(j.b, j.a, &m.toDialled) })
	j.carry(j.a, j.b, &m.toAccepted)
	wg.Wait()
	j.end(nil) // waits for the call that decided, which may still be at it
	return j.err
}

// carry runs one direction. It returns when nothing more can come of it: the
// other direction may still be going.
func (j *joint) carry(dst, src *side, moved *atomic.Uint64) {
	err := transfer(dst, src, moved)
	if err == nil {
		err = src.checkEnd()
	}
	if err == nil && !(j.ended.Load() == 1 && dst.endsWithClose()) {
		err = dst.closeWrite()
	}
	if err == nil && j.ended.Add(1) == 2 {
		j.end(nil)
		return
	}
	if err == nil {
		// Nobody reads src any more, so nobody would see it break.
		err = awaitReset(src)
	}
	if err != nil && !j.over.Load() {
		err = cmp.Or(dst.cause(), src.cause(), reason(err))
		j.end(fmt.Errorf("%v to %v: %w", src.RemoteAddr(), dst.RemoteAddr(), err))
	}
}

// end lets go of both connections, in peace if err is nil. That wakes whoever
// waits on them. The first call decides; later ones wait for it.
func (j *joint) end(err error) {
	j.over.Store(true)
	j.endOnce.Do(func() {
		j.err = err
		if err != nil {
			reset(j.a.Conn)
			reset(j.b.Conn)
			return
		}
		// The ends have been told each other: there is nothing left to lose.
		_ = j.a.Close()
		_ = j.b.Close()
	})
}

// A side is one of the two connections of a joint.
type side struct {
	net.Conn
	socket syscall.RawConn // the connection if it is a kernel socket, else nil
	told   atomic.Bool     // closeWrite has been called
}

func newSide(c net.Conn) *side { return &side{Conn: c, socket: kernel.Socket(c)} }

// checkEnd tells whether the end that was read is one. The kernel reports a reset
// once: if it did so to a write in the other direction, which is about to end the
// joint, then a read meets what looks like an end. So does the death of the process
// at the other end of a stream that is a socket, and the stream knows.
func (s *side) checkEnd() error {
	if c, ok := s.Conn.(interface{ Ended() error }); ok && s.socket != nil {
		if err := c.Ended(); err != nil {
			return err
		}
	}
	// A connection that both ends have ended is gone as well. But had a write
	// failed, closeWrite would not have been called.
	if s.told.Load() {
		return nil
	}
	if s.socket != nil && kernel.Gone(s.socket) && !s.told.Load() { // not: it may be told, and then gone, in between
		return syscall.ECONNRESET
	}
	return nil
}

// cause returns why a stream was broken off at this end, which its socket can't
// tell.
func (s *side) cause() error {
	if c, ok := s.Conn.(interface{ Cause() error }); ok && s.socket != nil {
		return reason(c.Cause())
	}
	return nil
}

// closeWrite tells the far end that nothing more will come. A connection that
// has no way of telling gets there with the Close that follows the other
// direction.
func (s *side) closeWrite() error {
	s.told.Store(true)
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// endsWithClose tells whether Close tells the far end what closeWrite does, as it
// does of a socket that has been read to its end and that no other process has.
func (s *side) endsWithClose() bool {
	switch s.Conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// reset breaks c off in such a way that its far end sees an error and not an
// end, where c has such a way. The errors are of no use: c is given up.
func reset(c net.Conn) {
	switch c := c.(type) {
	case interface{ Reset() error }:
		_ = c.Reset()
		return
	case interface{ SetLinger(sec int) error }:
		_ = c.SetLinger(0) // makes Close send a RST
	}
	_ = c.Close()
}
