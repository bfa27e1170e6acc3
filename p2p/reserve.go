package p2p

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/multiformats/go-multiaddr"
)

// A node that may not be reachable has others relay to it, before anybody asks for
// it: two, so that one can go. Those are peers that it could dial itself, at
// addresses that others can dial as well.

const (
	// wantRelays is how many relays a node has where there are as many.
	wantRelays = 2

	// reservationTTL is how long a relay keeps what a peer has reserved. It is
	// renewed at half of it.
	reservationTTL = time.Hour

	// relaySettle gathers what changes at once: connections come in bursts.
	relaySettle = 50 * time.Millisecond

	// relayAgainFirst and relayAgainLast bound the wait before a peer that has
	// refused to relay is asked again.
	relayAgainFirst = 10 * time.Second
	relayAgainLast  = 10 * time.Minute

	// relayProbeEvery is how often a relay is asked whether it is there: what
	// relies on it can't wait for TCP or QUIC to notice.
	relayProbeEvery = 2500 * time.Millisecond

	// maxRelayAddrs bounds the addresses that are told of one relay.
	maxRelayAddrs = 4
)

// relays are those that carry streams to this node. One goroutine, Node.runRelays,
// changes them.
type relays struct {
	node *Node

	mu      sync.Mutex
	held    map[peer.ID]*reservation
	refused map[peer.ID]*relayRefusal
	turn    int // which is probed next
	probed  time.Time
	wake    chan struct{} // asks for an update now
}

type reservation struct {
	renew time.Time
	addrs []multiaddr.Multiaddr // of this node, through the relay
}

type relayRefusal struct {
	wait   time.Duration
	at     time.Time
	until  time.Time
	err    error
	broken bool // it was the connection, and not the peer that said no
}

func newRelays(n *Node) *relays {
	return &relays{node: n, held: map[peer.ID]*reservation{}, refused: map[peer.ID]*relayRefusal{}, wake: make(chan struct{}, 1)}
}

// Relays returns the peers through which this node can be reached.
func (n *Node) Relays() []peer.ID {
	n.relays.mu.Lock()
	defer n.relays.mu.Unlock()
	return slices.Sorted(maps.Keys(n.relays.held))
}

// addrs returns the node's addresses through its relays.
func (r *relays) addrs() (out []multiaddr.Multiaddr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(r.held)) {
		out = append(out, r.held[id].addrs...)
	}
	return out
}

// runRelays sees to it that there are relays for as long as they are needed.
func (n *Node) runRelays() {
	r := n.relays
	for {
		changed := n.connsChanged()
		if r.update(n.life) {
			n.addrsChanged()
		}
		select {
		case <-n.life.Done():
			return
		case <-changed:
			if !n.pause(relaySettle) {
				return
			}
		case <-r.wake:
		case <-time.After(r.next()):
		}
	}
}

// now has the relays looked at at once.
func (r *relays) now() {
	signal(r.wake)
}

// next returns when something is to be done though nothing changes.
func (r *relays) next() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.held) == 0 && len(r.refused) == 0 {
		return reservationTTL
	}
	return relayProbeEvery*3/4 + rand.N(relayProbeEvery/2)
}

// update drops the relays that are gone and looks for others. It tells whether the
// node's addresses changed.
func (r *relays) update(ctx context.Context) (changed bool) {
	candidates := r.candidates()
	r.mu.Lock()
	for id := range r.held {
		if !slices.ContainsFunc(candidates, func(c network.Conn) bool { return c.RemotePeer() == id }) {
			r.dropLocked(id)
			changed = true
			r.connectAgain(id)
		}
	}
	r.mu.Unlock()
	if id, ok := r.due(); ok {
		if err := r.probe(ctx, id); err != nil && ctx.Err() == nil {
			r.node.log.Info("relay does not answer", "peer", id, "err", err)
			r.mu.Lock()
			r.dropLocked(id)
			r.mu.Unlock()
			r.node.eye.forget() // what it was is likely not its own alone
			r.node.checkAll([2]bool{})
			r.connectAgain(id)
			changed = true
		}
	}
	if !r.node.needsRelays() {
		return r.dropAll() || changed
	}
	for _, c := range candidates {
		if ctx.Err() != nil || r.count() >= wantRelays {
			break
		}
		if c.IsClosed() || !r.mayAsk(c.RemotePeer(), c.Stat().Opened) {
			continue
		}
		switch err := r.reserve(ctx, c); {
		case err == nil:
			changed = true
		case !errors.Is(err, errNoRelay) && ctx.Err() == nil:
			r.node.log.Debug("reserve at a relay", "peer", c.RemotePeer(), "err", err)
		}
	}
	return changed
}

// connectAgain connects to a relay that was lost: it may be there, and only the
// connection gone.
func (r *relays) connectAgain(id peer.ID) {
	r.node.start(func() {
		ctx, cancel := context.WithTimeout(r.node.life, relayPatience)
		defer cancel()
		_, _ = r.node.anyConn(ctx, id)
	})
}

// candidates returns connections to those who may relay, each peer once: this node
// has dialed them, so others can, too. The nearest come first.
func (r *relays) candidates() (out []network.Conn) {
	seen := map[peer.ID]bool{}
	for _, c := range r.node.kit.swarm.Conns() {
		id := c.RemotePeer()
		if seen[id] || c.IsClosed() || dialer(c) != r.node.id || mayBePunched(c) || !r.node.outside(c.RemoteMultiaddr()) {
			continue
		}
		seen[id] = true
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b network.Conn) int {
		return cmp.Or(cmp.Compare(r.holds(b.RemotePeer()), r.holds(a.RemotePeer())),
			cmp.Compare(r.node.RTT(a.RemotePeer()), r.node.RTT(b.RemotePeer())))
	})
	return out
}

// mayBePunched tells whether it may have taken the peer's help to make a connection.
func mayBePunched(c network.Conn) bool { return dialedBeside(c) && isQUIC(c.RemoteMultiaddr()) }

// conns returns the connections to the relays that there are.
func (r *relays) conns() (out []network.Conn) {
	for _, id := range r.node.Relays() {
		if c := r.node.bestConn(id); c != nil {
			out = append(out, c)
		}
	}
	return out
}

func (r *relays) holds(id peer.ID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[id] != nil {
		return 1
	}
	return 0
}

func (r *relays) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}

// mayAsk tells whether a peer may be asked to relay, over a connection that is so old. Where
// it was the connection that failed another one is reason enough.
func (r *relays) mayAsk(id peer.ID, opened time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.refused[id]
	return r.held[id] == nil && (f == nil || time.Now().After(f.until) || f.broken && opened.After(f.at))
}

// due returns the relay that is to be probed, each in its turn.
func (r *relays) due() (peer.ID, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.Sorted(maps.Keys(r.held))
	if len(ids) == 0 || time.Since(r.probed) < relayProbeEvery/2 {
		return "", false
	}
	r.probed = time.Now()
	r.turn++
	return ids[r.turn%len(ids)], true
}

// probe asks whether a relay is still there, or renews what is reserved there.
func (r *relays) probe(ctx context.Context, id peer.ID) error {
	r.mu.Lock()
	held := r.held[id]
	r.mu.Unlock()
	if held == nil {
		return nil
	}
	if time.Now().Before(held.renew) {
		c := r.node.bestConn(id)
		if c == nil {
			return network.ErrNoConn
		}
		return r.node.check(ctx, c)
	}
	ctx, cancel := context.WithTimeout(ctx, relayPatience)
	defer cancel()
	if err := r.ask(ctx, id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	held.renew = time.Now().Add(reservationTTL / 2)
	return nil
}

// errNoRelay says that a peer does not relay.
var errNoRelay = errors.New("peer does not relay")

// reserve has a peer relay to this node.
func (r *relays) reserve(ctx context.Context, c network.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, relayPatience)
	defer cancel()
	id := c.RemotePeer()
	err := r.node.Identified(ctx, id)
	if err == nil {
		err = r.supports(id)
	}
	if err == nil {
		err = r.ask(ctx, id)
	}
	if err != nil {
		r.refuse(id, err)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[id] = &reservation{renew: time.Now().Add(reservationTTL / 2), addrs: r.node.through(c)}
	delete(r.refused, id)
	r.node.kit.host.ConnManager().Protect(id, relayTag)
	return nil
}

// relayTag keeps connections to relays from being closed.
const relayTag = "relay"

func (r *relays) supports(id peer.ID) error {
	found, err := r.node.kit.host.Peerstore().SupportsProtocols(id, proto.ProtoIDv2Hop)
	if err == nil && len(found) == 0 {
		err = errNoRelay
	}
	return err
}

// ask asks a peer to relay to this node.
func (r *relays) ask(ctx context.Context, id peer.ID) error {
	s, err := r.node.kit.host.NewStream(network.WithNoDial(ctx, "relay"), id, proto.ProtoIDv2Hop)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := askRelay(s, &circuitpb.HopMessage{Type: circuitpb.HopMessage_RESERVE.Enum()}); err != nil {
		_ = s.Reset()
		return orCause(ctx, err)
	}
	return s.Close()
}

// refuse takes in that a peer does not relay, or not any more.
func (r *relays) refuse(id peer.ID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked(id)
	f := r.refused[id]
	if f == nil {
		f = &relayRefusal{wait: relayAgainFirst / 2}
		r.refused[id] = f
	}
	f.wait = min(2*f.wait, relayAgainLast)
	f.at, f.err = time.Now(), err
	f.until = f.at.Add(f.wait)
	f.broken = !errors.Is(err, errNoRelay) && !errors.As(err, new(*RelayError))
	maps.DeleteFunc(r.refused, func(id peer.ID, f *relayRefusal) bool { return time.Since(f.until) > relayAgainLast })
}

func (r *relays) dropLocked(id peer.ID) {
	if r.held[id] != nil {
		delete(r.held, id)
		r.node.kit.host.ConnManager().Unprotect(id, relayTag)
	}
}

func (r *relays) dropAll() (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.held {
		r.dropLocked(id)
		changed = true
	}
	return changed
}

// through returns addresses at which peers may be reached through one that there is
// a connection to: the one that was dialed first, then others of other kinds.
func (n *Node) through(c network.Conn) (out []multiaddr.Multiaddr) {
	id, err := multiaddr.NewComponent("p2p", c.RemotePeer().String())
	if err != nil {
		return nil
	}
	seen := map[rank]bool{}
	bases := append([]multiaddr.Multiaddr{c.RemoteMultiaddr()}, n.KnownAddrs(c.RemotePeer())...)
	for _, families := range []bool{false, true} { // first one of each transport: some networks let out one alone
		for _, base := range bases {
			kind := dialRank(base)
			alike := kind
			alike.family = -1
			if len(out) == maxRelayAddrs || seen[kind] || !families && seen[alike] || !n.outside(base) {
				continue
			}
			seen[kind], seen[alike] = true, true
			out = append(out, base.AppendComponent(id).Encapsulate(circuitAddr))
		}
	}
	return out
}

// needsRelays tells whether the node may be out of reach of others.
func (n *Node) needsRelays() bool { return n.networked && !n.reachable.Load() }

// relayIdentify bounds the wait for peers that have just been connected to, to say
// whether they relay.
const relayIdentify = 500 * time.Millisecond

// throughRelays returns addresses at which a peer may be, if it is reached through
// the same relays as this node, or through a peer that this node has dialed.
func (n *Node) throughRelays(ctx context.Context, id peer.ID) (out []multiaddr.Multiaddr) {
	if !n.networked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, relayIdentify)
	defer cancel()
	for _, c := range n.relays.candidates() {
		if len(out) >= maxRelayAddrs {
			break
		}
		if c.RemotePeer() == id {
			continue
		}
		select {
		case <-n.kit.host.IDService().IdentifyWait(c):
		case <-ctx.Done():
		}
		if n.relays.supports(c.RemotePeer()) == nil {
			out = append(out, n.through(c)[:1]...)
		}
	}
	return out
}
