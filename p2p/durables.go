package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// How much memory all durable streams of a node may hold for what peers have not
// acknowledged, and those to one peer, beyond some kilobytes that each has by itself.
const (
	defaultStreamMemory = 256 << 20
	peerShare           = 4 // the part of it that one peer's streams may have
)

// defaultStreamLimit is how long a stream waits for its peer.
const defaultStreamLimit = 5 * time.Minute

// durables are a node's streams that outlive their connections.
type durables struct {
	node   *Node
	limit  time.Duration
	budget *durable.Budget

	// What has happened since the node began; see [StreamTotals].
	moves, resumes, stalls, replayed, expired, unknown atomic.Uint64

	mu      sync.Mutex // guards the fields below; taken after that of a stream
	peers   map[peer.ID]*durablePeer
	links   map[string]*notes // by the connection's ID
	ended   map[endedKey]uint32
	oldest  []endedKey // of ended
	watched map[*durableStream]struct{}
	suspect map[string]int // connections that are just looked at, by ID
	closing bool
}

// What streams that this end has given up are remembered with the code for, so that a
// peer that did not hear of it is told why when it asks for them.
type endedKey struct {
	peer peer.ID
	id   durable.ID
}

// maxEnded bounds how many.
const maxEnded = 1 << 12

// A durablePeer is what there is of one peer.
type durablePeer struct {
	streams map[durable.ID]*durableStream
	budget  *durable.Budget
	moving  bool               // somebody sees to carriers
	kick    chan struct{}      // has it look again
	dialing context.CancelFunc // ends a dial that it waits for; nil if there is none
}

func newDurables(n *Node, c Config) *durables {
	return &durables{
		node: n, limit: c.StreamLimit, budget: durable.NewBudget(c.StreamMemory, nil),
		peers: map[peer.ID]*durablePeer{}, links: map[string]*notes{}, ended: map[endedKey]uint32{}, watched: map[*durableStream]struct{}{}, suspect: map[string]int{},
	}
}

// open has the node take in durable streams.
func (ds *durables) open() {
	h := ds.node.kit.host
	h.SetStreamHandler(carrierProtocol, ds.node.receiveDurable)
	h.SetStreamHandler(noteProtocol, func(s network.Stream) { ds.node.receiveNotes(s.Conn(), s) })
}

func newStreamID() (id durable.ID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

var (
	errSameID      = errors.New("there is a stream of that ID")
	errManyStreams = errors.New("too many streams")
)

// add makes an end of a stream.
func (ds *durables) add(id peer.ID, sid durable.ID, proto string, opener bool) (*durableStream, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.closing {
		return nil, ErrClosed
	}
	p := ds.peers[id]
	if p == nil {
		p = &durablePeer{streams: map[durable.ID]*durableStream{}, kick: make(chan struct{}, 1)}
		p.budget = durable.NewBudget(ds.node.streamMemory/peerShare, ds.budget)
		ds.peers[id] = p
	}
	switch {
	case p.streams[sid] != nil:
		return nil, errSameID
	case len(p.streams) >= maxPeerStreams:
		return nil, errManyStreams
	}
	d := &durableStream{node: ds.node, peer: id, id: sid, proto: proto, opener: opener, began: time.Now(), code: durable.CodeUnknown}
	c := durable.Config{Limit: ds.limit, Budget: p.budget}
	if d.end = durable.Accept(sid, c); opener {
		d.end = durable.Open(sid, c)
	}
	p.streams[sid] = d
	ds.node.streamOpened(id, "")
	return d, nil
}

func (ds *durables) find(id peer.ID, sid durable.ID) *durableStream {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if p := ds.peers[id]; p != nil {
		return p.streams[sid]
	}
	return nil
}

func (ds *durables) forget(d *durableStream) {
	switch err := d.errLocked(); {
	case errors.Is(err, durable.ErrTimeLimit):
		ds.expired.Add(1)
	case errors.Is(err, durable.ErrUnknown):
		ds.unknown.Add(1)
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.watched, d)
	if code := d.codeLocked(); code != durable.CodeUnknown {
		ds.rememberLocked(endedKey{d.peer, d.id}, code)
	}
	if p := ds.peers[d.peer]; p != nil {
		delete(p.streams, d.id)
		if len(p.streams) == 0 && !p.moving {
			delete(ds.peers, d.peer)
		}
	}
}

func (ds *durables) rememberLocked(k endedKey, code uint32) {
	if len(ds.oldest) == maxEnded {
		delete(ds.ended, ds.oldest[0])
		ds.oldest = ds.oldest[1:]
	}
	ds.ended[k] = code
	ds.oldest = append(ds.oldest, k)
}

// whyEnded returns the code that a peer is told for a stream that there is not.
func (ds *durables) whyEnded(id peer.ID, sid durable.ID) uint32 {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if code, ok := ds.ended[endedKey{id, sid}]; ok {
		return code
	}
	return durable.CodeUnknown
}

// of returns the streams to a peer.
func (ds *durables) of(id peer.ID) []*durableStream {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if p := ds.peers[id]; p != nil {
		return slices.Collect(maps.Values(p.streams))
	}
	return nil
}

func (ds *durables) all() (out []*durableStream) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, p := range ds.peers {
		out = slices.AppendSeq(out, maps.Values(p.streams))
	}
	return out
}

// connected has streams go over a new connection if it is better.
func (ds *durables) connected(c network.Conn) {
	ds.mu.Lock()
	p := ds.peers[c.RemotePeer()]
	if p != nil && p.dialing != nil {
		p.dialing() // the peer was faster
	}
	ds.mu.Unlock()
	if p != nil {
		ds.move(c.RemotePeer())
	}
}

// connClosed has the streams on a connection look for others.
func (ds *durables) connClosed(c network.Conn) {
	ds.mu.Lock()
	link := ds.links[c.ID()]
	delete(ds.links, c.ID())
	ds.mu.Unlock()
	if link != nil {
		link.close()
	}
	for _, d := range ds.of(c.RemotePeer()) {
		d.mu.Lock()
		if d.carrier != nil && d.carrier.conn == c {
			d.lostLocked(d.carrier)
		}
		d.mu.Unlock()
	}
}

// end ends the streams to a peer, and tells whether there were any.
func (ds *durables) end(id peer.ID, why error) bool {
	all := ds.of(id)
	for _, d := range all {
		d.mu.Lock()
		d.failLocked(why, durable.CodeReset)
		d.mu.Unlock()
	}
	return len(all) > 0
}

// goodbye is how long connections that are to be closed are kept for the peer to hear
// that its streams have ended.
const goodbye = 200 * time.Millisecond

// settle waits until peers have heard what they are to hear on connections that will be
// closed, for a moment at most.
func (ds *durables) settle(conns []network.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range conns {
		ds.mu.Lock()
		l := ds.links[c.ID()]
		ds.mu.Unlock()
		if l != nil {
			wg.Go(func() { l.settle(ctx) })
		}
	}
	wg.Wait()
}

// closePatience is how long Close waits for peers to get what was written before.
const closePatience = 2 * time.Second

// close ends all streams: those that were closed once the peer has all, for as long as
// it may take.
func (ds *durables) close() {
	ds.mu.Lock()
	ds.closing = true
	ds.mu.Unlock()
	deadline := time.Now().Add(closePatience)
	for _, d := range ds.all() {
		d.mu.Lock()
		for d.closed && !d.gone && !d.end.Told() && d.waitLocked(deadline) == nil {
		}
		d.mu.Unlock()
	}
	left := ds.all()
	for _, d := range left {
		d.mu.Lock()
		d.failLocked(ErrClosed, durable.CodeClosed)
		d.mu.Unlock()
	}
	if len(left) > 0 {
		ds.settle(ds.node.kit.swarm.Conns())
	}
}

// Stalls are looked for this often, and a connection on which there is one not more
// often than that.
const (
	stallTick  = 250 * time.Millisecond
	stallAgain = 3 * time.Second
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
	if ds.watched[d] = struct{}{}; len(ds.watched) == 1 && !ds.closing {
		d.node.start(ds.watch)
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
					ds.node.start(func() { _ = ds.node.check(ds.node.life, c) }) // it is closed, and that is told
				}
			}
		}
		ds.mu.Lock()
		idle := len(ds.watched) == 0
		ds.mu.Unlock()
		if idle && ds.unwatch() {
			return
		}
	}
}

// inspect has a connection looked at, and all go by others meanwhile, if there are any.
func (ds *durables) inspect(c network.Conn, patience time.Duration) {
	ds.mu.Lock()
	ds.suspect[c.ID()]++
	first := ds.suspect[c.ID()] == 1
	ds.mu.Unlock()
	over := func() {
		ds.mu.Lock()
		if ds.suspect[c.ID()]--; ds.suspect[c.ID()] == 0 {
			delete(ds.suspect, c.ID())
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
	return ds.suspect[c.ID()] > 0
}

// unwatch tells whether there is still nothing to watch.
func (ds *durables) unwatch() bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return len(ds.watched) == 0
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
	}
	return d.carrier.conn
}

// carries counts the streams that a connection carries.
func (n *Node) carries(c network.Conn, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.streamsOn[c.ID()] += by; n.streamsOn[c.ID()] == 0 {
		delete(n.streamsOn, c.ID())
	}
}

// Between tries to find a carrier for streams.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second

	// lateAnswer is after how long a connection is looked at over which streams have
	// not been moved: well above the time that it takes.
	lateAnswer = time.Second

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
	late := time.AfterFunc(lateAnswer, func() { ds.inspect(best, checkPatience) })
	defer late.Stop()
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
			if err := d.moveTo(n.life, best); err != nil && n.life.Err() == nil {
				n.log.Debug("move a stream", "peer", id, "err", err)
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	if failed.Load() {
		_ = n.check(n.life, best) // it is closed, and that is told
	}
	return len(ds.wanting(id, n.bestConn(id))) == 0, !failed.Load()
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
			out = append(out, d)
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
	if d.gone || d.carrier != nil || d.lostAt == c.ID() && time.Since(d.lostTold) < tellAgain {
		d.mu.Unlock()
		return
	}
	d.lostAt, d.lostTold = c.ID(), time.Now()
	m := durable.Message{Kind: durable.MessageLost, ID: d.id, Value: d.end.Epoch()}
	d.mu.Unlock()
	d.node.durables.notes(c).send(m)
}
