package p2p

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// Durable streams of one peer that have no carrier, or not the best, are moved by one
// goroutine for all.

// Between tries to find a carrier for streams.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second

	// lateAnswer is after how long a connection is looked at over which streams have
	// not been moved: above the time that it takes, and looking costs little.
	lateAnswer = 500 * time.Millisecond

	// movesAtOnce bounds how many streams of a peer ask for a carrier at a time.
	movesAtOnce = 32

	// tellAgain is how long a peer may take to resume a stream of its own that it was
	// told has lost its carrier.
	tellAgain = 2 * time.Second
)

// move has somebody see to carriers for the streams to a peer.
func (ds *durables) move(id peer.ID) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	p := ds.peers[id]
	if p == nil || ds.closing {
		return
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
	if !p.moving {
		p.moving = ds.node.start(func() { ds.mover(id, p) })
	}
}

// again has carriers looked for at once, since the network has changed.
func (ds *durables) again() {
	ds.mu.Lock()
	peers := slices.Collect(maps.Keys(ds.peers))
	ds.mu.Unlock()
	for _, id := range peers {
		ds.move(id)
	}
}

// mover sees to carriers until all streams to the peer have the best there is.
func (ds *durables) mover(id peer.ID, p *durablePeer) {
	pause := firstPause
	for {
		changed := ds.node.connsChanged()
		done, progress := ds.moveAll(id, p)
		if progress {
			pause = firstPause
		} else {
			pause = min(2*pause, lastPause)
		}
		if done && ds.stopMoving(id, p) {
			return
		}
		if done {
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-p.kick:
			pause = firstPause
		case <-timer.C:
		case <-ds.node.life.Done():
		}
		timer.Stop()
		if ds.node.alive() != nil {
			return
		}
	}
}

// stopMoving ends a mover unless there is more to do.
func (ds *durables) stopMoving(id peer.ID, p *durablePeer) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	select {
	case <-p.kick:
		return false
	default:
	}
	if p.moving = false; len(p.streams) == 0 {
		delete(ds.peers, id)
	}
	return true
}

// moveAll tries once to give the streams to a peer the best carrier that there is. It
// tells whether all have it, and whether it came further.
func (ds *durables) moveAll(id peer.ID, p *durablePeer) (done, progress bool) {
	n := ds.node
	best := n.bestConn(id)
	todo := ds.wanting(id, best)
	if len(todo) == 0 {
		return true, true
	}
	if best == nil {
		return false, ds.dial(id, p)
	}
	ctx, giveUp := context.WithCancel(n.life)
	defer giveUp()
	late := time.AfterFunc(lateAnswer, func() { ds.inspect(best, checkPatience) })
	defer late.Stop()
	go ds.outdone(ctx, id, best, giveUp)
	var wg sync.WaitGroup
	var failed atomic.Bool
	turns := make(chan struct{}, movesAtOnce)
	for _, d := range todo {
		if !d.opener {
			d.tellLost(best)
			continue
		}
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if failed.Load() {
				return
			}
			if err := d.moveTo(ctx, best); err != nil && n.life.Err() == nil {
				n.log.Debug("move a stream", "peer", id, "err", err)
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	if failed.Load() && ctx.Err() == nil {
		_ = n.check(n.life, best) // it is closed, and that is told
	}
	return len(ds.wanting(id, n.bestConn(id))) == 0, !failed.Load() || ctx.Err() != nil
}

// outdone gives up moving streams to a connection once another is to be taken, until
// ctx ends.
func (ds *durables) outdone(ctx context.Context, id peer.ID, c network.Conn, giveUp func()) {
	for {
		changed := ds.node.connsChanged()
		if ds.node.bestConn(id) != c {
			giveUp()
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// dial connects to a peer, and tells whether there is a connection then.
func (ds *durables) dial(id peer.ID, p *durablePeer) bool {
	ctx, cancel := context.WithTimeout(ds.node.life, helloPatience)
	defer cancel()
	dialing := func(stop context.CancelFunc) {
		ds.mu.Lock()
		defer ds.mu.Unlock()
		p.dialing = stop
	}
	dialing(cancel)
	defer dialing(nil)
	_, err := ds.node.anyConn(ctx, id) // which looks first whether there is one
	if final(err) {
		ds.end(id, err)
	}
	return ds.node.bestConn(id) != nil
}

// wanting returns the streams to a peer that have no carrier, or that this end is to
// move to a better one.
func (ds *durables) wanting(id peer.ID, best network.Conn) (out []*durableStream) {
	for _, d := range ds.of(id) {
		d.mu.Lock()
		switch {
		case d.gone || d.moving:
		case d.carrier == nil:
			if !d.end.Attached() { // else it has yet to begin, or has left its carrier
				out = append(out, d)
			}
		case d.opener && best != nil && !d.carrier.stopped && d.carrier.conn != best && (better(best, d.carrier.conn) || ds.suspected(d.carrier.conn)):
			out = append(out, d)
		}
		d.mu.Unlock()
	}
	return out
}

// tellLost tells the peer that a stream of its has no carrier, once for each
// connection and while.
func (d *durableStream) tellLost(c network.Conn) {
	d.mu.Lock()
	if d.gone || d.end.Attached() || d.lostAt == c.ID() && time.Since(d.lostTold) < tellAgain {
		d.mu.Unlock()
		return
	}
	d.lostAt, d.lostTold = c.ID(), time.Now()
	m := durable.Message{Kind: durable.MessageLost, ID: d.id, Value: d.end.Epoch()}
	d.mu.Unlock()
	d.node.durables.notes(c).send(m)
}
