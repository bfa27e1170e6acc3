package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/p2pnode/p2pnode/p2p/lan"
	"github.com/p2pnode/p2pnode/p2p/netwatch"
	"github.com/p2pnode/p2pnode/p2p/portmap"
)

// LAN has a node find others of its kind on the local network, by multicast.
type LAN struct {
	// Secret is what the nodes that are to meet have in common. Without it, what they
	// say says nothing.
	Secret []byte

	// Hidden has the node say nothing before [Node.Appear].
	Hidden bool
}

// A surroundings is the network that a node is in, as far as the machine tells.
type surroundings struct {
	node *Node

	mu      sync.Mutex        // guards the fields below
	watch   *netwatch.Watcher // nil before open
	state   netwatch.State
	finder  *lan.Finder     // nil if the node does not look on the local network
	ports   *portmap.Mapper // nil until there is a NAT
	mapped  []portmap.Mapping
	nearby  map[peer.ID]peer.AddrInfo
	changed chan struct{} // closed and replaced when nearby changes

	// era ends when the network changes.
	era    context.Context
	endEra context.CancelFunc
}

func newSurroundings(n *Node) *surroundings {
	s := &surroundings{node: n, nearby: map[peer.ID]peer.AddrInfo{}, changed: make(chan struct{})}
	s.era, s.endEra = context.WithCancel(context.Background())
	return s
}

// now returns a context that ends when the network changes.
func (s *surroundings) now() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.era
}

// nextEra ends what was begun before the network has changed.
func (s *surroundings) nextEra() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endEra()
	s.era, s.endEra = context.WithCancel(context.Background())
}

// open starts to follow the network.
func (s *surroundings) open() error {
	watch, err := netwatch.New()
	if err != nil {
		return fmt.Errorf("follow the network: %w", err)
	}
	s.mu.Lock()
	s.watch, s.state = watch, watch.State()
	s.mu.Unlock()
	s.node.start(func() { s.run(watch) })
	return nil
}

// known tells whether the machine's addresses are.
func (s *surroundings) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watch != nil
}

func (s *surroundings) close() {
	s.mu.Lock()
	watch, finder, ports := s.watch, s.finder, s.ports
	s.finder, s.ports = nil, nil
	s.mu.Unlock()
	if watch != nil {
		_ = watch.Close() // it returns nil
	}
	if finder != nil {
		_ = finder.Close() // the node is going either way
	}
	if ports != nil {
		_ = ports.Close() // as it says
	}
}

func (s *surroundings) run(watch *netwatch.Watcher) {
	for state := range watch.Watch(s.node.life) {
		s.mu.Lock()
		old := s.state
		s.state = state
		finder, ports := s.finder, s.ports
		s.mu.Unlock()
		if old.Equal(state) {
			continue
		}
		s.node.log.Info("the network has changed", "addrs", addrsOf(state))
		if ports != nil {
			_ = ports.Refresh() // it fails when the mapper is closed
		}
		s.node.networkChanged(anotherHost(old, state))
		if finder != nil {
			finder.Refresh()
		}
	}
}

// addrsOf returns all addresses of a machine.
func addrsOf(state netwatch.State) (out []netip.Addr) {
	for _, i := range state.Interfaces {
		for _, p := range i.Addrs {
			out = append(out, p.Addr())
		}
	}
	return out
}

// anotherHost tells for IPv4 and IPv6 whether the machine had addresses beyond its link
// and has none of them any more.
func anotherHost(old, state netwatch.State) (gone [2]bool) {
	now := addrsOf(state)
	var had, has [2]bool
	for _, a := range addrsOf(old) {
		if a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue
		}
		had[familyIndex(a)] = true
		if slices.Contains(now, a) {
			has[familyIndex(a)] = true
		}
	}
	for i := range gone {
		gone[i] = had[i] && !has[i]
	}
	return gone
}

// familyIndex returns 0 for IPv4, and 1 for IPv6.
func familyIndex(a netip.Addr) int {
	if a.Unmap().Is4() {
		return 0
	}
	return 1
}

// networkChanged forgets what was so before, and looks anew. It is told of which
// families all addresses are gone.
func (n *Node) networkChanged(gone [2]bool) {
	n.eye.forget()
	n.reachable.Store(false)
	n.addrsChanged()
	n.around.nextEra()
	n.checkAll(gone)
	n.relays.now()
	n.durables.again()
	n.upgrades.again()
}

// own tells whether an address is one of this machine's now.
func (s *surroundings) own(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.IsLoopback() || slices.Contains(addrsOf(s.state), a.WithZone(""))
}

// resolve makes of the addresses that the node listens at those that it has now: what
// libp2p makes of them may be a minute old.
func (s *surroundings) resolve(listen []multiaddr.Multiaddr) (out []multiaddr.Multiaddr) {
	s.mu.Lock()
	ips := addrsOf(s.state)
	s.mu.Unlock()
	ips = append(ips, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"))
	for _, l := range listen {
		if !manet.IsIPUnspecified(l) {
			out = append(out, l)
			continue
		}
		for _, ip := range ips {
			if ip.Is4() != (l[0].Protocol().Code == multiaddr.P_IP4) || ip.IsLinkLocalUnicast() {
				continue
			}
			if c, err := multiaddr.NewComponent(l[0].Protocol().Name, ip.WithZone("").String()); err == nil {
				out = append(out, append(multiaddr.Multiaddr{*c}, l[1:]...))
			}
		}
	}
	return out
}

// checkPatience is how long a connection has to answer before it is given up.
const checkPatience = 1500 * time.Millisecond

// movedPatience is that where the address is gone that a connection went out from. Only
// QUIC lives on then, and where a NAT is in between seldom that.
const movedPatience = 500 * time.Millisecond

// checkAll looks whether the connections over the network are still there, and closes
// those that are not. It is told of which families all addresses are gone.
func (n *Node) checkAll(gone [2]bool) {
	for _, c := range n.kit.swarm.Conns() {
		switch pathTo(c.RemoteMultiaddr()) {
		case PathUnix, PathUnknown:
			continue
		}
		if ip, err := manet.ToIP(c.LocalMultiaddr()); err == nil && !ip.IsUnspecified() {
			if a, ok := netip.AddrFromSlice(ip); ok && !n.around.own(a.Unmap()) && pathTo(c.RemoteMultiaddr()) != PathRelay {
				_ = c.Close() // its end here is gone
				continue
			}
		}
		patience := checkPatience
		if to, ok := ipOf(c); ok && gone[familyIndex(to)] {
			patience = movedPatience
		}
		n.start(func() { _ = n.checkFor(n.life, c, patience) }) // it is closed, and that is told
	}
}

// check closes a connection on which the peer does not answer in time, and returns why.
func (n *Node) check(ctx context.Context, c network.Conn) error {
	return n.checkFor(ctx, c, checkPatience)
}

func (n *Node) checkFor(ctx context.Context, c network.Conn, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	err := n.pingOn(ctx, c)
	if err == nil || n.life.Err() != nil || n.isBusy(c, began) {
		return nil
	}
	if !c.IsClosed() {
		n.log.Debug("connection does not answer", "peer", c.RemotePeer(), "addr", c.RemoteMultiaddr(), "err", err)
		_ = c.Close()
	}
	return err
}

// isBusy tells whether bytes have moved over a connection since then. It can't tell if
// there are several to the peer.
func (n *Node) isBusy(c network.Conn, then time.Time) bool {
	id := c.RemotePeer()
	return len(n.kit.swarm.ConnsToPeer(id)) == 1 && n.kit.traffic.since(id, then)
}

// Check looks whether a peer still answers over the connections to it, and closes
// those over which it does not within a second and a half. It tells whether any is
// left.
func (n *Node) Check(id peer.ID) bool {
	var wg sync.WaitGroup
	for _, c := range n.kit.swarm.ConnsToPeer(id) {
		if unixConn(c) == nil {
			wg.Go(func() { _ = n.check(n.life, c) }) // what is left tells
		}
	}
	wg.Wait()
	return n.bestConn(id) != nil
}

// pingOn waits for an answer over one connection.
func (n *Node) pingOn(ctx context.Context, c network.Conn) error {
	if unixConn(c) != nil { // over which libp2p's protocols are its own business
		result, ok := <-ping.Ping(ctx, n.kit.host, c.RemotePeer())
		if !ok {
			return orCause(ctx, errNoAnswer)
		}
		return result.Error
	}
	s, err := n.openPlain(ctx, c, ping.ID)
	if err != nil {
		return err
	}
	defer s.Reset()
	stop := endWith(ctx, s)
	defer stop()
	if _, err := s.Write(make([]byte, ping.PingSize)); err != nil {
		return orCause(ctx, err)
	}
	if _, err = io.ReadFull(s, make([]byte, ping.PingSize)); err != nil {
		return orCause(ctx, err)
	}
	return nil
}

// lookNear starts to look for others on the local network.
func (s *surroundings) lookNear(secret []byte) error {
	finder, err := lan.New(lan.Config{
		Group: secret, Self: s.node.id, Logger: s.node.log, Found: s.found,
		Addrs: func() []multiaddr.Multiaddr { return s.resolve(s.node.listenAddresses()) },
	})
	if err != nil {
		return fmt.Errorf("look on the local network: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node.alive() != nil || s.finder != nil {
		return errors.Join(ErrClosed, finder.Close())
	}
	s.finder = finder
	return nil
}

// lanTTL is how long the address of a peer on the local network is kept.
const lanTTL = 10 * time.Minute

// maxNearby bounds the peers on the local network that are remembered.
const maxNearby = 256

func (s *surroundings) found(p peer.AddrInfo) {
	s.node.kit.host.Peerstore().AddAddrs(p.ID, p.Addrs, lanTTL)
	s.node.sources.note(p.ID, SourceLAN, p.Addrs)
	s.mu.Lock()
	if len(s.nearby) >= maxNearby {
		clear(s.nearby)
	}
	s.nearby[p.ID] = p
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	switch s.node.PathTo(p.ID) {
	case PathRelay:
		s.node.upgrades.start(p.ID)
	case PathDirect: // by way of a router, most likely
		s.node.start(func() { s.node.upgrades.nearer(p) })
	}
}

// Nearby returns the peers that were found on the local network, and a channel that is
// closed when there are others, which is nil if the node does not look.
func (n *Node) Nearby() ([]peer.AddrInfo, <-chan struct{}) {
	s := n.around
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.lan == nil || !n.networked {
		return nil, nil
	}
	out := make([]peer.AddrInfo, 0, len(s.nearby))
	for _, p := range s.nearby {
		out = append(out, p)
	}
	return out, s.changed
}

// mapPorts asks the router for ports, once there is one that translates addresses.
func (s *surroundings) mapPorts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ports != nil || s.node.alive() != nil {
		return
	}
	s.ports = portmap.New(portmap.Config{Logger: s.node.log})
	port := s.node.Port()
	for _, proto := range []portmap.Proto{portmap.UDP, portmap.TCP} {
		if err := s.ports.Map(proto, port); err != nil {
			s.node.log.Debug("map a port", "proto", proto, "port", port, "err", err)
		}
	}
	ports := s.ports
	s.node.start(func() { s.watchPorts(ports) })
}

func (s *surroundings) watchPorts(ports *portmap.Mapper) {
	for report := range ports.Watch(s.node.life) {
		s.mu.Lock()
		s.mapped = report.Mappings
		s.mu.Unlock()
		s.node.addrsChanged()
		s.node.upgrades.again()
	}
}

// mappedAddrs returns addresses at the router that lead to this node.
func (s *surroundings) mappedAddrs() (out []multiaddr.Multiaddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mapped {
		if !m.Reachable() {
			continue
		}
		if m.Proto == portmap.UDP {
			out = append(out, quicAddr(m.External))
		} else if a, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(m.External)); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// PortMappings returns what the router said when it was asked for ports, and false if
// it was not asked.
func (n *Node) PortMappings() (portmap.Report, bool) {
	n.around.mu.Lock()
	defer n.around.mu.Unlock()
	if n.around.ports == nil {
		return portmap.Report{}, false
	}
	return n.around.ports.Report(), true
}
