package p2p

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// A stream that outlives its connections and has shown to be bulk, or to go to and fro
// much, gets one of its own, see singles. For such a stream that is a carrier as others
// are, beside the connection over which the rest goes: notes go there, and with that it
// is lost.

const (
	// singleAfter is what a stream has to move before it gets a connection of its own,
	// in both directions, within singleWithin: to make that costs as much CPU as it saves
	// for so many bytes (docs/performance.md).
	singleAfter  = 8 << 20
	singleWithin = 4 * time.Second

	// singleTrip is how many bytes a round trip counts for: 512 of them save as much CPU
	// as is needed to make a connection (docs/performance.md), and each is a third
	// shorter on it.
	singleTrip = 16 << 10

	// singlePatience is how long a stream may stall on a connection of its own before it
	// goes back, also where the peer does not read.
	singlePatience = 3 * time.Second

	// maxSetbacks bounds how often singleAfter is doubled.
	maxSetbacks = 10
)

// single tells whether a carrier is a connection of its own.
func (c *durableCarrier) single() bool {
	_, ok := c.raw.(*singleStream)
	return ok
}

// weighLocked has a stream moved to a connection of its own once it has shown to be bulk,
// or to go to and fro much. Each that broke makes it harder.
func (d *durableStream) weighLocked() {
	moved, enough := d.end.Moved()-d.weighed, d.node.singles.after<<d.setbacks
	if !d.opener || d.carrier == nil || moved+d.trips*singleTrip < enough {
		return
	}
	began := d.weighedAt
	d.weighAgainLocked()
	if c := d.carrier; !c.single() && !c.stopped && !d.closed && !d.leaving && time.Since(began) <= singleWithin<<d.setbacks {
		d.leaving = d.node.start(func() { d.leave(c, moved >= enough/2) })
	}
}

func (d *durableStream) weighAgainLocked() {
	d.weighed, d.trips, d.weighedAt = d.end.Moved(), 0, time.Now()
}

// leave moves the stream from a carrier to a connection of its own, which is for bulk or
// not. If there is none to be had it stays.
func (d *durableStream) leave(c *durableCarrier, bulk bool) {
	raw, err := d.node.singles.open(d.node.life, c.conn, bulk)
	if err == nil {
		err = d.leaveBy(c, raw)
	}
	if err != nil && d.node.life.Err() == nil {
		d.node.log.Debug("no connection for a stream alone", "peer", d.peer, "err", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leaving = false
}

func (d *durableStream) leaveBy(c *durableCarrier, raw *singleStream) error {
	ctx, cancel := context.WithTimeout(d.node.life, lateAnswer)
	defer cancel()
	err := d.moveBy(ctx, c.conn, c, func(_ context.Context, hello []byte) (network.MuxedStream, error) {
		_, err := raw.Write(hello)
		return raw, err
	})
	if err == nil {
		return nil
	}
	if !errors.Is(err, errElsewhere) {
		d.node.singles.failed(c.conn)
	}
	_ = raw.Reset() // it may be so already
	d.mu.Lock()
	d.pumpLocked() // which may have waited for how this ends
	d.mu.Unlock()
	d.node.durables.move(d.peer)
	return err
}
