package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/crypto/cryptobyte"
)

// Two peers whose best connection goes through a relay look for a better one. Over
// that connection they tell each other all their addresses, private ones too, which
// the relay can't read, and then both try at the same time: what NATs and firewalls
// there are take packets that come in for answers to those that went out.

// upgradeProtocol is the exchange's name.
const upgradeProtocol = "/p2pnode/upgrade/1"

const (
	// upgradeTry bounds one try.
	upgradeTry = 3 * time.Second

	// upgradePatience bounds the exchange before it: a few round trips through a
	// relay, and a look from outside.
	upgradePatience = 10 * time.Second

	// upgradeEvery is how often it is tried again while the relayed connection is
	// in use.
	upgradeEvery = time.Minute

	// sightFresh is for how long a NAT is sure to keep a port (RFC 4787 requires
	// two minutes, and some give 30 seconds).
	sightFresh = 20 * time.Second

	// upgradeTryLeast bounds how short it is for peers that are near.
	upgradeTryLeast = time.Second

	maxUpgradeMessage = 4096
	maxOffered        = 48 // addresses
)

// upgradeWaits is how long to wait before each further try of the first round.
var upgradeWaits = []time.Duration{500 * time.Millisecond, 2 * time.Second, 5 * time.Second}

// An offer is what one end tells the other of itself.
type offer struct {
	nat   [2]NAT // of IPv4 and of IPv6; only what kind they are
	addrs []multiaddr.Multiaddr
	took  time.Duration // to find out, in microseconds
}

func (o offer) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	for _, n := range o.nat {
		b.AddUint8(uint8(n.Mapping))
		b.AddUint8(uint8(n.Filtering))
		b.AddUint8(uint8(n.UDP))
	}
	b.AddUint32(uint32(min(o.took.Microseconds(), 1<<32-1)))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, a := range o.addrs {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(a.Bytes()) })
		}
	})
	return b.Bytes()
}

var errUpgrade = errors.New("not a message of " + upgradeProtocol)

func parseOffer(data []byte) (o offer, err error) {
	s := cryptobyte.String(data)
	for i := range o.nat {
		var m, f, u uint8
		if !s.ReadUint8(&m) || !s.ReadUint8(&f) || !s.ReadUint8(&u) {
			return o, errUpgrade
		}
		if m > uint8(MappingDependent) || f > uint8(FilteringPort) || u > uint8(No) {
			return o, errUpgrade
		}
		o.nat[i] = NAT{Mapping: Mapping(m), Filtering: Filtering(f), UDP: Verdict(u)}
	}
	var took uint32
	var list cryptobyte.String
	if !s.ReadUint32(&took) || !s.ReadUint16LengthPrefixed(&list) || !s.Empty() {
		return o, errUpgrade
	}
	o.took = time.Duration(took) * time.Microsecond
	for !list.Empty() {
		var raw cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&raw) || len(o.addrs) == maxOffered {
			return o, errUpgrade
		}
		a, err := multiaddr.NewMultiaddrBytes(raw)
		if err != nil {
			return o, fmt.Errorf("%w: %w", errUpgrade, err)
		}
		o.addrs = append(o.addrs, a)
	}
	return o, nil
}

// An upgrades looks for better connections to peers.
type upgrades struct {
	node *Node

	mu         sync.Mutex
	loops      map[peer.ID]*upgradeLoop
	last       map[peer.ID]Upgrade
	following  map[peer.ID]int // by peers that lead
	followedAt map[peer.ID]time.Time
	leading    map[peer.ID]bool // peers that this end has told to try now
	probes     *prober
}

type upgradeLoop struct{ again chan struct{} }

// An Upgrade is how the last search for a better connection to a peer went.
type Upgrade struct {
	Peer      peer.ID
	At        time.Time
	Tries     int     // since the connection through the relay was made
	Path      Path    // the best there was afterwards
	Punchable Verdict // whether a hole can be punched through both NATs
	Here      [2]NAT  // of this end, for IPv4 and IPv6
	There     [2]NAT  // of the other end, as it says
	Err       error   // why it could not be tried
}

func newUpgrades(n *Node) *upgrades {
	return &upgrades{node: n, loops: map[peer.ID]*upgradeLoop{}, last: map[peer.ID]Upgrade{}, following: map[peer.ID]int{}, followedAt: map[peer.ID]time.Time{}, leading: map[peer.ID]bool{}, probes: newProber()}
}

// Upgraded returns how the last search for a better connection to a peer went, and
// false if there was none.
func (n *Node) Upgraded(id peer.ID) (Upgrade, bool) {
	n.upgrades.mu.Lock()
	defer n.upgrades.mu.Unlock()
	u, ok := n.upgrades.last[id]
	return u, ok
}

// Upgrade has a better connection to a peer looked for now, if the best there is goes
// through a relay.
func (n *Node) Upgrade(id peer.ID) { n.upgrades.start(id) }

// start has a better connection looked for, at once if it was about to be.
func (u *upgrades) start(id peer.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.loops[id]; l != nil {
		signal(l.again)
		return
	}
	l := &upgradeLoop{again: make(chan struct{}, 1)}
	u.loops[id] = l
	if !u.node.start(func() { u.run(id, l) }) {
		delete(u.loops, id)
	}
}

// connected has a better connection looked for by the end that has made one through a
// relay.
func (u *upgrades) connected(c network.Conn) {
	if pathTo(c.RemoteMultiaddr()) == PathRelay && dialer(c) == u.node.id {
		u.start(c.RemotePeer())
	}
}

// connClosed does so where that is what is left of a direct one.
func (u *upgrades) connClosed(c network.Conn) {
	if best := u.node.bestConn(c.RemotePeer()); best != nil && pathTo(c.RemoteMultiaddr()) != PathRelay {
		u.connected(best)
	}
}

// busy tells whether a better connection to a peer is looked for.
func (u *upgrades) busy(id peer.ID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.loops[id] != nil || u.following[id] > 0
}

// again has all that are relayed looked at anew, since the network has changed. It may
// be this node alone that knows.
func (u *upgrades) again() {
	for _, id := range u.node.kit.swarm.Peers() {
		if u.node.PathTo(id) == PathRelay {
			u.start(id)
		}
	}
}

// run looks for a better connection until there is one, or the relayed one is gone.
func (u *upgrades) run(id peer.ID, l *upgradeLoop) {
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.loops, id)
	}()
	for tries := 0; ; tries++ {
		c := u.node.bestConn(id)
		if c == nil || pathTo(c.RemoteMultiaddr()) != PathRelay {
			return
		}
		if tries <= len(upgradeWaits) || u.node.streamsTo(id) > 0 {
			u.try(c, tries)
		}
		wait := upgradeEvery
		if tries < len(upgradeWaits) {
			wait = upgradeWaits[tries]
		}
		if !u.sleep(id, wait, l) {
			return
		}
	}
}

// sleep waits for a time, or until it is to be tried at once, or there is nothing more
// to be done. It returns false if the node is closed.
func (u *upgrades) sleep(id peer.ID, wait time.Duration, l *upgradeLoop) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		changed := u.node.connsChanged()
		if u.node.PathTo(id) != PathRelay {
			return true
		}
		select {
		case <-timer.C:
			return true
		case <-l.again:
			return true
		case <-changed:
		case <-u.node.life.Done():
			return false
		}
	}
}

// try makes one try, over a connection through a relay.
func (u *upgrades) try(c network.Conn, tries int) {
	ctx, cancel := context.WithTimeout(u.node.life, upgradePatience+upgradeTry)
	defer cancel()
	id := c.RemotePeer()
	done := Upgrade{Peer: id, Tries: tries + 1}
	here, there, err := u.lead(ctx, c, tries)
	done.At, done.Here, done.There, done.Err = time.Now(), here.nat, there.nat, err
	done.Punchable = punchableAny(here, there)
	done.Path = u.node.PathTo(id)
	u.note(done)
	u.node.log.Debug("look for a better path", "peer", id, "try", tries+1, "path", done.Path, "err", err)
}

func (u *upgrades) note(done Upgrade) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.last) > maxMeters {
		clear(u.last)
	}
	if last, ok := u.last[done.Peer]; ok && done.At.Sub(last.At) < upgradeEvery {
		switch {
		case done.Err != nil && last.Err == nil:
			return // what was found out then tells more than that it can't be tried again at once
		case done.Path == PathRelay && last.Path == PathRelay && done.Tries < last.Tries:
			return // a later one has begun
		}
	}
	u.last[done.Peer] = done
}

func punchableAny(here, there offer) Verdict {
	v := Unknown
	for i := range here.nat {
		v = eitherVerdict(v, punchable(here.nat[i], there.nat[i]))
	}
	return v
}

// lead is the part of the end that begins.
func (u *upgrades) lead(ctx context.Context, c network.Conn, tries int) (here, there offer, err error) {
	s, err := u.node.openPlain(ctx, c, upgradeProtocol)
	if err != nil {
		return here, there, err
	}
	defer s.Close()
	stop := endWith(ctx, s)
	defer stop()
	tries = max(tries, u.followedBefore(c.RemotePeer()))
	fresh := u.freshPort(ctx, tries)
	defer u.release(fresh)
	here = fresh.in(u.offer(ctx, freshFor(tries)))
	data, err := here.marshal()
	began := time.Now()
	if err := sendMessage(s, data, err); err != nil {
		return here, there, orCause(ctx, err)
	}
	if data, err = receiveMessage(s, maxUpgradeMessage); err != nil {
		return here, there, orCause(ctx, err)
	}
	rtt := time.Since(began)
	if there, err = parseOffer(data); err != nil {
		s.Reset()
		return here, there, err
	}
	rtt = max(rtt-there.took, 0)
	if !u.mayLead(c.RemotePeer(), time.Now()) {
		return here, there, errBothLead
	}
	defer u.led(c.RemotePeer())
	client := clientRole(here, there, tries)
	if err := sendMessage(s, []byte{map[bool]byte{true: 0, false: 1}[client]}, nil); err != nil {
		return here, there, orCause(ctx, err)
	}
	if !u.node.pause(rtt / 2) { // now the other end hears of it
		return here, there, ErrClosed
	}
	u.node.sources.note(c.RemotePeer(), SourceRelay, there.addrs)
	ctx, cancel := context.WithTimeout(ctx, tryFor(rtt))
	defer cancel()
	u.attempt(ctx, c.RemotePeer(), here, there, client, fresh, nil)
	return here, there, nil
}

var errBothLead = errors.New("the peer looks for a better path itself")

// followFor is how long this end leaves it to a peer that has begun. In that time a try
// is over, or has not come about.
const followFor = upgradeTryLeast + 500*time.Millisecond

// mayLead tells whether the peer may be told to try now, and if so notes it. Where both
// ends lead, the one with the smaller ID does: what two tries at once cost would be
// missing for later ones, see maxProbes.
func (u *upgrades) mayLead(id peer.ID, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.following[id] > 0 && id < u.node.id && now.Sub(u.followedAt[id]) < followFor {
		return false
	}
	u.leading[id] = true
	return true
}

// led takes in that the try is over.
func (u *upgrades) led(id peer.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.leading, id)
}

// tryFor returns how long the end that leads tries: ten round trips, which are those
// through the relay.
func tryFor(rtt time.Duration) time.Duration {
	return min(max(10*rtt, upgradeTryLeast), upgradeTry)
}

// freshPort returns a port for a try that is not the first, where there is a NAT that a
// hole can be punched in.
func (u *upgrades) freshPort(ctx context.Context, tries int) *freshPort {
	if tries == 0 || u.node.eye.nat(false).Mapping != MappingSame || u.node.eye.socket(false) == nil {
		return nil
	}
	f, err := u.node.newFreshPort(ctx)
	if err != nil {
		u.node.log.Debug("punch again", "err", err)
		return nil
	}
	return f
}

// release lets go of a port once it is not needed any more.
func (u *upgrades) release(f *freshPort) {
	if f != nil && !u.node.start(f.release) {
		f.close()
	}
}

// in puts the port into an offer, in place of the one that the node always has.
func (f *freshPort) in(o offer) offer {
	if f == nil {
		return o
	}
	common := f.node.eye.nat(false).External
	o.addrs = slices.DeleteFunc(slices.Clone(o.addrs), func(a multiaddr.Multiaddr) bool { return common.IsValid() && a.Equal(quicAddr(common)) })
	o.addrs = append(o.addrs, f.addr)
	return o
}

// freshFor returns how old what peers saw may be for a try. When one has failed it may
// be for what is not so any more.
func freshFor(tries int) time.Duration {
	if tries == 0 {
		return sightFresh
	}
	return 2 * lookEvery
}

// clientRole tells whether this end should begin the QUIC handshake: the end whose
// ports can't be told has to, else the two take turns.
func clientRole(here, there offer, tries int) bool {
	for i := range here.nat {
		switch {
		case here.nat[i].Mapping == MappingDependent && there.nat[i].Mapping != MappingDependent:
			return true
		case there.nat[i].Mapping == MappingDependent && here.nat[i].Mapping != MappingDependent:
			return false
		}
	}
	return tries%2 == 0
}

// serve answers peers that begin.
func (u *upgrades) serve(l *Listener) {
	for {
		s, err := l.AcceptStream()
		if err != nil {
			return
		}
		u.node.start(func() {
			defer s.Close()
			if err := u.follow(s); err != nil {
				s.Reset()
				u.node.log.Debug("look for a better path with a peer", "peer", s.Peer(), "err", err)
			}
		})
	}
}

// follow is the part of the other end.
func (u *upgrades) follow(s *Stream) error {
	ctx, cancel := context.WithTimeout(u.node.life, upgradePatience+upgradeTry)
	defer cancel()
	stop := endWith(ctx, s)
	defer stop()
	if s.Path() != PathRelay {
		return fmt.Errorf("there is a %v path", s.Path())
	}
	if !u.mayFollow(s.Peer(), time.Now()) {
		return errUpgradesTooOften
	}
	defer u.followed(s.Peer())
	data, err := receiveMessage(s, maxUpgradeMessage)
	if err != nil {
		return orCause(ctx, err)
	}
	there, err := parseOffer(data)
	if err != nil {
		return err
	}
	began := time.Now()
	tries := u.followedBefore(s.Peer())
	fresh := u.freshPort(ctx, tries)
	defer u.release(fresh)
	here := fresh.in(u.offer(ctx, freshFor(tries)))
	here.took = time.Since(began)
	data, err = here.marshal()
	if err := sendMessage(s, data, err); err != nil {
		return orCause(ctx, err)
	}
	if data, err = receiveMessage(s, 1); err != nil || len(data) != 1 || data[0] > 1 {
		return cmp.Or(orCause(ctx, err), errUpgrade)
	}
	u.node.sources.note(s.Peer(), SourceRelay, there.addrs)
	// The next try may begin before this one is over.
	done := Upgrade{Peer: s.Peer(), At: time.Now(), Tries: tries + 1, Here: here.nat, There: there.nat, Punchable: punchableAny(here, there), Path: PathRelay}
	u.note(done)
	u.attempt(ctx, s.Peer(), here, there, data[0] == 1, fresh, u.staleTo(s.Peer()))
	done.At, done.Path = time.Now(), u.node.PathTo(s.Peer())
	u.note(done)
	return nil
}

const (
	// maxFollowing is how many exchanges of one peer there may be: one that goes on,
	// and one because a network has changed.
	maxFollowing = 2

	// followEvery bounds how often one peer may begin. It is less than the first of
	// upgradeWaits.
	followEvery = 250 * time.Millisecond
)

var errUpgradesTooOften = errors.New("asks too often for a better path")

// mayFollow tells whether a peer may lead now, and if so counts it.
func (u *upgrades) mayFollow(id peer.ID, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.leading[id] || u.following[id] >= maxFollowing || now.Sub(u.followedAt[id]) < followEvery {
		return false
	}
	if len(u.followedAt) > maxMeters {
		clear(u.followedAt)
	}
	u.following[id]++
	u.followedAt[id] = now
	return true
}

// followedBefore returns how often a path was looked for with a peer lately, and none found.
func (u *upgrades) followedBefore(id peer.ID) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, ok := u.last[id]; ok && time.Since(last.At) < upgradeEvery && last.Path == PathRelay {
		return last.Tries
	}
	return 0
}

// followed counts that a peer leads no more.
func (u *upgrades) followed(id peer.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.following[id]--; u.following[id] == 0 {
		delete(u.following, id)
	}
}

// offer returns what this node can be tried at, by what is known now.
func (u *upgrades) offer(ctx context.Context, fresh time.Duration) (o offer) {
	u.node.glance(ctx, fresh)
	for i, v6 := range []bool{false, true} {
		o.nat[i] = u.node.eye.nat(v6)
	}
	for _, a := range byUse(u.node.directAddrs()) {
		if len(o.addrs) == maxOffered || !u.beyondMachine(a) || len(a.Bytes()) > 255 {
			continue
		}
		o.addrs = append(o.addrs, a)
	}
	return o
}

// beyondMachine tells whether an address means the same to a peer elsewhere, and is a
// single machine's.
func (u *upgrades) beyondMachine(a multiaddr.Multiaddr) bool {
	_, ok := probeTarget(a)
	return ok && (!manet.IsIPLoopback(a) || u.node.outside(a))
}

// byUse puts the addresses first that are worth most to somebody who can't take all:
// those of the Internet, then by transport.
func byUse(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	sorted := slices.Clone(addrs)
	slices.SortStableFunc(sorted, func(a, b multiaddr.Multiaddr) int {
		return cmp.Or(-cmp.Compare(pathTo(a), pathTo(b)), cmp.Compare(transportRank(a), transportRank(b)))
	})
	return sorted
}

func isQUIC(a multiaddr.Multiaddr) bool {
	_, err := a.ValueForProtocol(multiaddr.P_QUIC_V1)
	return err == nil
}

// directAddrs returns where this node may be dialed without a relay.
func (n *Node) directAddrs() (out []multiaddr.Multiaddr) {
	for _, a := range n.Addrs() {
		if pathTo(a) != PathRelay {
			out = append(out, a)
		}
	}
	for _, v6 := range []bool{false, true} {
		if nat := n.eye.nat(v6); nat.External.IsValid() && nat.Mapping != MappingNone {
			if a := quicAddr(nat.External); !slices.ContainsFunc(out, a.Equal) {
				out = append(out, a)
			}
		}
	}
	return out
}

func quicAddr(at netip.AddrPort) multiaddr.Multiaddr {
	a, err := manet.FromNetAddr(net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil
	}
	return a.Encapsulate(quicSuffix)
}
