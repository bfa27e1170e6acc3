package p2p

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"
)

// A Report is what a node knows of the network it is in, by what its peers saw.
type Report struct {
	NAT4, NAT6 NAT
	Reachable  Verdict   // whether others have connected to this node from the Internet
	Relays     []peer.ID // through which it can be reached
	Refused    []Refused // peers that were asked to relay to it and don't
	Relaying   Relaying  // what it carries for others
	Addrs      []multiaddr.Multiaddr
}

// Refused is why a peer does not relay to this node.
type Refused struct {
	Peer peer.ID
	Err  error
}

// Relaying is what a node carries for others.
type Relaying struct {
	Off   bool
	Bytes uint64 // so far, both ways
}

// Report returns what is known now.
func (n *Node) Report() Report {
	r := Report{
		NAT4: n.eye.nat(false), NAT6: n.eye.nat(true), Relays: n.Relays(), Refused: n.relays.refusals(),
		Relaying: Relaying{Off: n.carrier == nil}, Addrs: n.Addrs(),
	}
	if n.reachable.Load() {
		r.Reachable = Yes
	}
	if n.carrier != nil {
		r.Relaying.Bytes = n.carrier.host.total.Load()
	}
	return r
}

// Look has peers say again how they see this node, and waits for what they say.
func (n *Node) Look(ctx context.Context) { n.lookAround(ctx, 0) }

// An Outcome is what came of dialing an address.
type Outcome string

// The outcomes.
const (
	NotTried    Outcome = "not-tried"
	Connected   Outcome = "connected"
	Refusing    Outcome = "refused"      // somebody is there, and nobody listens
	TimedOut    Outcome = "timed-out"    // nobody answered
	WrongKey    Outcome = "wrong-key"    // another peer is there
	NotAdmitted Outcome = "not-admitted" // one end did not let the other in
	NoRoute     Outcome = "no-route"     // this machine, or a router, has no way there
	Blocked     Outcome = "blocked"      // this machine does not let it out
	NoRelay     Outcome = "not-at-relay" // the relay does not have the peer
	Failed      Outcome = "failed"
)

// outcomeOf tells in one word what an attempt came to.
func outcomeOf(err error) Outcome {
	var mismatch sec.ErrPeerIDMismatch
	var refused *RefusedError
	var relay *RelayError
	switch {
	case err == nil:
		return Connected
	case errors.As(err, &mismatch):
		return WrongKey
	case errors.As(err, &refused), errors.Is(err, swarm.ErrGaterDisallowedConnection):
		return NotAdmitted
	case errors.As(err, &relay):
		return NoRelay
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, errNobodyThere):
		return Refusing
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return NoRoute
	case errors.Is(err, os.ErrPermission):
		return Blocked
	case errors.Is(plain(err), errNoAnswer), isNoAnswer(plain(err)):
		return TimedOut
	}
	return Failed
}

func isNoAnswer(err error) bool {
	var n noAnswer
	return errors.As(err, &n)
}

// An AddrReport is what is known of one address of a peer.
type AddrReport struct {
	Addr    multiaddr.Multiaddr
	Path    Path
	Source  string    // who told of it first; empty if that is not known
	Tried   time.Time // when last; zero if not
	Took    time.Duration
	Outcome Outcome
	Err     error
}

// A PeerReport is what is known of the ways to a peer.
type PeerReport struct {
	Peer        peer.ID
	Connections []Connection
	Addrs       []AddrReport // the best first
	Upgrade     *Upgrade     // how the last search for a better path went; nil if there was none
	RTT         time.Duration
}

// Why returns what is known of the ways to a peer: why it is reached as it is, or not.
func (n *Node) Why(id peer.ID) PeerReport {
	r := PeerReport{Peer: id, RTT: n.RTT(id)}
	for _, c := range n.Connections() {
		if c.Peer == id {
			r.Connections = append(r.Connections, c)
		}
	}
	if u, ok := n.Upgraded(id); ok {
		r.Upgrade = &u
	}
	tried := n.dials.of(id)
	known := n.KnownAddrs(id)
	for _, t := range tried {
		if !slices.ContainsFunc(known, t.addr.Equal) {
			known = append(known, t.addr)
		}
	}
	for _, ranked := range rankDials(known, nil) {
		a := AddrReport{Addr: ranked.Addr, Path: pathTo(ranked.Addr), Source: n.sources.of(id, ranked.Addr), Outcome: NotTried}
		if i := slices.IndexFunc(tried, func(t try) bool { return t.addr.Equal(ranked.Addr) }); i >= 0 {
			t := tried[i]
			if reason := n.gate.reason(id); t.err == nil && reason != nil { // a connection was made, and came to nothing
				t.err = reason
			}
			attempt := t.attempt()
			a.Tried, a.Took, a.Err, a.Outcome = t.began, attempt.Took, attempt.Err, outcomeOf(t.err)
		}
		r.Addrs = append(r.Addrs, a)
	}
	return r
}

// of returns the last attempts at a peer's addresses, the newest first.
func (l *dialLog) of(id peer.ID) (out []try) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, t := range l.tries {
		if key.id == id {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b try) int { return cmp.Or(b.began.Compare(a.began), a.compare(b)) })
	return out
}

func (r *relays) refusals() (out []Refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, f := range r.refused {
		if !errors.Is(f.err, errNoRelay) {
			out = append(out, Refused{id, f.err})
		}
	}
	slices.SortFunc(out, func(a, b Refused) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// Sources of addresses.
const (
	SourcePeer  = "peer"  // the peer itself, over a connection
	SourceRelay = "relay" // the peer itself, over a connection through a relay
	SourceLAN   = "lan"   // an announcement on the local network
	SourceDHT   = "dht"   // others
	SourceStart = "start" // an invite, a command or the last run
)

// addrSources remembers from where addresses are known.
type addrSources struct {
	mu sync.Mutex
	by map[dialKey]string
}

func newAddrSources() *addrSources { return &addrSources{by: map[dialKey]string{}} }

func (s *addrSources) note(id peer.ID, source string, addrs []multiaddr.Multiaddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addrs {
		key := dialKey{id, a.String()}
		if len(s.by) >= maxSources {
			clear(s.by)
		}
		if s.by[key] == "" {
			s.by[key] = source
		}
	}
}

// maxSources bounds the addresses of which the source is remembered.
const maxSources = 4096

func (s *addrSources) of(id peer.ID, a multiaddr.Multiaddr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[dialKey{id, a.String()}]
}

// NoteSource takes in from where addresses of a peer are known, for Why.
func (n *Node) NoteSource(id peer.ID, source string, addrs ...multiaddr.Multiaddr) {
	n.sources.note(id, source, addrs)
}

// A PathChange tells that streams to a peer go another way from now on.
type PathChange struct {
	Peer     peer.ID
	From, To Path    // PathUnknown is without a connection
	Relay    peer.ID // of To, if it is a relay's
	Why      string
}

// pathWatch notes when the best path to a peer changes.
type pathWatch struct {
	mu    sync.Mutex
	paths map[peer.ID]Path
	rtts  map[peer.ID]time.Duration
}

func (w *pathWatch) rtt(id peer.ID) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rtts[id]
}

// measured takes in a round trip. A new one counts for a fourth.
func (w *pathWatch) measured(id peer.ID, rtt time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.rtts[id]; old > 0 {
		rtt = old + (rtt-old)/4
	}
	w.rtts[id] = rtt
}

// addrText returns a connection's address for people.
func addrText(c network.Conn) string {
	if unixConn(c) != nil {
		return "a socket on this machine"
	}
	return c.RemoteMultiaddr().String()
}

// notePath takes in that a connection to a peer has come or gone, and tells if the
// best path is another.
func (n *Node) notePath(c network.Conn, why string) {
	id := c.RemotePeer()
	// All of it under the lock: of two changes at once the later one has to count, and
	// to be told later.
	n.paths.mu.Lock()
	defer n.paths.mu.Unlock()
	path, relay := PathUnknown, peer.ID("")
	if best := n.bestConn(id); best != nil {
		path, relay = pathTo(best.RemoteMultiaddr()), relayOf(best)
	}
	from := n.paths.paths[id]
	if from == path {
		return
	}
	delete(n.paths.rtts, id)
	if path == PathUnknown {
		delete(n.paths.paths, id)
	} else {
		n.paths.paths[id] = path
	}
	if n.onPath != nil {
		n.onPath(PathChange{Peer: id, From: from, To: path, Relay: relay, Why: why})
	}
}
