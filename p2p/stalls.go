package p2p

import (
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// Connections on which a durable stream stalls are looked at, long before the system
// would give them up.

// Stalls are looked for this often, and a connection on which there is one not more
// often than that.
const (
	stallTick  = 100 * time.Millisecond
	stallAgain = 3 * time.Second

	// stallPatience is how long the peer may take to answer then, having been silent for a
	// second. With that, another way is found within three seconds of when one is gone.
	stallPatience = time.Second
)

// watchLocked has a stream looked after while the peer has not acknowledged what it
// was sent.
func (d *durableStream) watchLocked() {
	if d.watched {
		return
	}
	d.watched = true
	ds := d.node.durables
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.watched[d] = struct{}{}; !ds.watching && !ds.closing {
		ds.watching = d.node.start(ds.watch)
	}
}

// watch has connections looked at on which a stream stalls, while there are any on
// which it could.
func (ds *durables) watch() {
	tick := time.NewTicker(stallTick)
	defer tick.Stop()
	looked := map[network.Conn]time.Time{}
	for {
		select {
		case <-ds.node.life.Done():
			return
		case <-tick.C:
		}
		ds.mu.Lock()
		watched := slices.Collect(maps.Keys(ds.watched))
		ds.mu.Unlock()
		now := time.Now()
		maps.DeleteFunc(looked, func(_ network.Conn, at time.Time) bool { return now.Sub(at) > stallAgain })
		for _, d := range watched {
			c := d.stalled(now)
			if c == nil || unixConn(c) != nil || !looked[c].IsZero() {
				continue
			}
			for _, c := range append(ds.node.relays.conns(), c) { // or the way round is found broken only then
				if looked[c].IsZero() {
					looked[c] = now
					ds.node.start(func() { _ = ds.node.checkFor(ds.node.life, c, stallPatience) }) // it is closed, and that is told
				}
			}
		}
		if ds.unwatch() {
			return
		}
	}
}

// inspect has a connection looked at, and all go by others meanwhile, if there are any.
func (ds *durables) inspect(c network.Conn, patience time.Duration) {
	ds.mu.Lock()
	ds.suspect[c]++
	first := ds.suspect[c] == 1
	ds.mu.Unlock()
	ds.node.change() // in what is best
	over := func() {
		ds.mu.Lock()
		if ds.suspect[c]--; ds.suspect[c] == 0 {
			delete(ds.suspect, c)
		}
		ds.mu.Unlock()
		ds.move(c.RemotePeer())
	}
	if !first || !ds.node.start(func() {
		_ = ds.node.checkFor(ds.node.life, c, patience) // it is closed, and that is told
		over()
	}) {
		over()
		return
	}
	ds.move(c.RemotePeer())
}

// suspected tells whether a connection is just looked at.
func (ds *durables) suspected(c network.Conn) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.suspect[c] > 0
}

// unwatch ends the watch if there is nothing to watch, and tells whether it has.
func (ds *durables) unwatch() bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.watching = len(ds.watched) > 0
	return !ds.watching
}

// stalled returns the connection on which a stream stalls, nil if it doesn't.
func (d *durableStream) stalled(now time.Time) network.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.end.Outstanding() || d.gone {
		d.watched, d.stalling = false, false
		ds := d.node.durables
		ds.mu.Lock()
		delete(ds.watched, d)
		ds.mu.Unlock()
		return nil
	}
	was := d.stalling
	if d.stalling = d.carrier != nil && d.end.Stalled(now); !d.stalling {
		return nil
	}
	if !was {
		d.stalls++
		d.node.durables.stalls.Add(1)
		d.stalledAt = now
	}
	c := d.carrier
	if c.single() && now.Sub(d.stalledAt) >= d.node.singles.patience {
		d.lostLocked(c) // what it is beside was looked at meanwhile
	}
	return c.conn
}
