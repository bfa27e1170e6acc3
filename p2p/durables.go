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

	bell   bell // rung when a stream goes over another carrier, or has none
	spares *spares

	mu       sync.Mutex // guards the fields below; taken after that of a stream
	peers    map[peer.ID]*durablePeer
	links    map[network.Conn]*notes
	gaveUp   endedStreams // by this end: a peer that did not hear of it asks why
	done     endedStreams // that peers had opened: a hello that is late begins none again
	watched  map[*durableStream]struct{}
	watching bool                 // somebody does
	suspect  map[network.Conn]int // connections that are just looked at
	closing  bool
}

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
		node: n, limit: c.StreamLimit, budget: durable.NewBudget(c.StreamMemory, nil), spares: &spares{start: n.start},
		peers: map[peer.ID]*durablePeer{}, links: map[network.Conn]*notes{}, watched: map[*durableStream]struct{}{}, suspect: map[network.Conn]int{},
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
	errSameID      = errors.New("there is a stream of that ID, or was")
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
	_, ended := ds.whyEndedLocked(endedKey{id, sid})
	switch {
	case p.streams[sid] != nil || ended:
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
	ds.node.streamOpened(id, nil)
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
	switch code := d.codeLocked(); {
	case code != durable.CodeUnknown:
		ds.gaveUp.add(endedKey{d.peer, d.id}, code)
	case !d.opener:
		ds.done.add(endedKey{d.peer, d.id}, code)
	}
	if p := ds.peers[d.peer]; p != nil {
		delete(p.streams, d.id)
		if len(p.streams) == 0 && !p.moving {
			delete(ds.peers, d.peer)
		}
	}
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
	link := ds.links[c]
	delete(ds.links, c)
	ds.mu.Unlock()
	if link != nil {
		link.close()
	}
	ds.spares.drop(c)
	for _, d := range ds.of(c.RemotePeer()) {
		d.mu.Lock()
		if d.carrier != nil && d.carrier.conn == c {
			d.lostLocked(d.carrier)
		}
		epoch := d.end.Epoch()
		d.mu.Unlock()
		d.leftBroken(c, epoch)
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
		l := ds.links[c]
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
	tell := ds.spares.giveUp(ds.node.kit.swarm.Conns())
	ds.spares.close()
	deadline := time.Now().Add(closePatience)
	for _, d := range ds.all() {
		tell = true
		d.mu.Lock()
		for d.closed && !d.gone && !d.end.Told() && d.waitLocked(deadline) == nil {
		}
		d.mu.Unlock()
	}
	for _, d := range ds.all() {
		d.mu.Lock()
		d.failLocked(ErrClosed, durable.CodeClosed)
		d.mu.Unlock()
	}
	if tell {
		ds.settle(ds.node.kit.swarm.Conns())
	}
}

// carries counts the streams that a connection carries.
func (n *Node) carries(c network.Conn, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.streamsOn[c] += by; n.streamsOn[c] == 0 {
		delete(n.streamsOn, c)
	}
}
