package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
	"golang.org/x/sync/errgroup"
)

const (
	// enterTimeout bounds how long a start waits for those it knew. A member
	// that is up answers within a second or not at all.
	enterTimeout = 10 * time.Second

	// enterTell is by how much a dial ends before, so that there is time to tell
	// what was tried.
	enterTell = 250 * time.Millisecond

	// enterPatience bounds it where somebody says that it is busy: hundreds of
	// nodes may start at once from one, on a machine with few cores.
	enterPatience = time.Minute

	// enterWidth is how many are dialed at once.
	enterWidth = 8

	// retryBusyFirst and retryBusyLast bound the wait between two tries at those
	// who are busy.
	retryBusyFirst = 250 * time.Millisecond
	retryBusyLast  = 4 * time.Second
)

// enter connects to those to start from and to those known from before, and
// waits until one has let the node in and has told who else is there. If none
// does the error is ErrNoMemberReached, unless this node was refused for what it
// is, which trying again can't help.
func (m *Mesh) enter(caller context.Context) error {
	ctx, cancel := context.WithTimeout(caller, enterPatience)
	defer cancel()
	first, tried, err := m.reachFirst(ctx)
	defer func() { m.wg.Go(func() { m.finishCatchUp(tried) }) }()
	switch {
	case err == nil:
	case caller.Err() != nil:
		return context.Cause(caller)
	case wasRefused(err):
		return explain(err)
	case errors.Is(err, ErrNoMemberReached), errors.Is(err, credential.ErrUnredeemed):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrNoMemberReached, err)
	}
	m.hearFrom(ctx, first)
	if err := m.alive(); err != nil {
		return err // it was revoked in the meantime
	}
	if err := m.fetchRoster(ctx, first); err != nil {
		m.log.Warn("fetch roster", "peer", first, "err", err)
	}
	return m.known.save()
}

// reachFirst returns the first of those to start from that has let this node in.
// It tries again while any of them is there and has no time. The channel is closed
// when all have been tried.
func (m *Mesh) reachFirst(ctx context.Context) (first peer.ID, tried <-chan struct{}, err error) {
	began := time.Now()
	for wait := retryBusyFirst; ; wait = min(2*wait, retryBusyLast) {
		first, tried, err = m.reachOnce(ctx)
		again := wasBusy(err) || wasCut(err) && time.Since(began) < enterTimeout
		if err == nil || wasRefused(err) || !again {
			return first, tried, err
		}
		m.log.Debug("those to start from are busy", "err", err)
		select {
		case <-time.After(jitter(wait)):
		case <-ctx.Done():
			return "", tried, err
		}
	}
}

// reachOnce tries each of those to start from once.
func (m *Mesh) reachOnce(ctx context.Context) (_ peer.ID, tried <-chan struct{}, _ error) {
	dialing, cancel := context.WithTimeout(ctx, enterTimeout)
	defer cancel()
	first, tried, err := m.connectAny(dialing, m.candidates())
	switch {
	case err != nil:
		return "", tried, err
	case first == "": // there are none
		return "", tried, ErrNoMemberReached
	case m.isUnredeemed(): // by one that let it in and gave it nothing
		return "", tried, credential.ErrUnredeemed
	}
	m.note(first)
	if err := m.awaitTable(ctx); err != nil {
		return "", tried, fmt.Errorf("enter: %w", err)
	}
	return first, tried, nil
}

// candidates returns those to start from, those known from before and some of those
// on this machine, each once.
func (m *Mesh) candidates() []peer.AddrInfo {
	out := slices.Concat(m.start, m.known.infos())
	if m.isUnredeemed() {
		return out // those who can give it what it lacks are named in the invite
	}
	for _, info := range m.nearby() {
		if !slices.ContainsFunc(out, func(o peer.AddrInfo) bool { return o.ID == info.ID }) {
			out = append(out, info)
		}
	}
	return out
}

// errGone says that whoever had let this node in was gone right after.
var errGone = errors.New("connection ended")

// wasBusy tells whether somebody who was reached has no time for this node yet, or
// had and was gone before it told who else is there.
func wasBusy(err error) bool {
	busy := errorWhere(err, func(r *p2p.RefusedError) bool { return !r.Here && errors.Is(r, p2p.RefusedBusy) })
	return busy != nil || errors.Is(err, errGone)
}

// wasCut tells whether there is somebody at an address that was tried, or seems to
// be: who hung up, as one does to whom too many come at once, or did not answer on
// this machine, whose kernel answers for those who are not there.
func wasCut(err error) bool {
	return nil != errorWhere(err, func(d *p2p.DialError) bool {
		return slices.ContainsFunc(d.Attempts, func(a p2p.Attempt) bool {
			var timeout net.Error
			return hungUp(a.Err) || manet.IsIPLoopback(a.Addr) && errors.As(a.Err, &timeout) && timeout.Timeout()
		})
	})
}

// hungUp tells whether the other end closed a connection that there was.
func hungUp(err error) bool {
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, network.ErrReset, p2p.ErrReset},
		func(one error) bool { return errors.Is(err, one) })
}

// awaitTable waits until there is somebody in the DHT to ask. Whoever let this
// node in may go before that.
func (m *Mesh) awaitTable(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.wg.Go(func() {
		for conns := range m.node.Watch(ctx) {
			if len(conns) == 0 {
				cancel(fmt.Errorf("%w: %w", ErrNoMemberReached, errGone))
			}
		}
	})
	return m.table.Ready(ctx)
}

// wasRefused tells whether a peer that was reached did not let this node in, for a
// reason that stays.
func wasRefused(err error) bool {
	return errorWhere(err, func(r *p2p.RefusedError) bool { return !r.Here && !errors.Is(r, p2p.RefusedBusy) }) != nil
}

// errorWhere returns an error of a type for which ok is true, of all that an error
// has in it, or nil: several peers may have been tried.
func errorWhere[E any, P interface {
	*E
	error
}](err error, ok func(P) bool) P {
	if found, is := err.(P); is && ok(found) {
		return found
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return errorWhere(e.Unwrap(), ok)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if found := errorWhere(one, ok); found != nil {
				return found
			}
		}
	}
	return nil
}

// wasRevoked tells whether a peer that was reached says that this node is revoked.
// It may lie, so that counts only where nobody else is to be reached.
func wasRevoked(err error) bool {
	return wasRefused(err) && errors.Is(explain(err), credential.ErrRevoked)
}

// connectAny dials peers until one has let the node in. Dials that go on then
// are left to end by themselves, and may give further connections; the channel is
// closed when all have.
func (m *Mesh) connectAny(ctx context.Context, peers []peer.AddrInfo) (_ peer.ID, tried <-chan struct{}, _ error) {
	type result struct {
		id  peer.ID
		err error
	}
	results := make(chan result, len(peers))
	all := make(chan struct{})
	m.wg.Go(func() {
		defer close(all)
		var g errgroup.Group
		g.SetLimit(enterWidth)
		for _, info := range peers {
			if info.ID == m.node.ID() {
				results <- result{"", nil}
				continue
			}
			g.Go(func() error {
				ctx, cancel := context.WithTimeout(m.ctx, enterTimeout-enterTell)
				defer cancel()
				results <- result{info.ID, m.node.Connect(ctx, info.ID, info.Addrs...)}
				return nil
			})
		}
		_ = g.Wait()
	})
	var errs []error
	for range peers {
		select {
		case r := <-results:
			if r.err == nil && r.id != "" {
				return r.id, all, nil
			}
			if r.err != nil {
				errs = append(errs, r.err)
			}
		case <-ctx.Done():
			return "", all, errors.Join(append(errs, context.Cause(ctx))...)
		}
	}
	return "", all, errors.Join(errs...)
}
