package dht

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/p2p"
)

// Kademlia as libp2p has it is about addresses: it does not store a provider that
// has none, and leaves out of its answers a peer of which none is known. Peers on
// one machine find each other by ID and need none. So kad-dht is given a host in
// which such a peer has the address noAddress. What it says to others and hears
// from them goes through that host, which takes the address out again.

// noAddress stands for having no address. No transport dials it.
var noAddress = multiaddr.StringCast("/memory/0")

// portable returns the addresses that mean something on another machine: those
// that are no stand-in and no unix socket, of which others are not to hear.
func portable(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a multiaddr.Multiaddr) bool {
		return a.Equal(noAddress) || slices.ContainsFunc(a, func(c multiaddr.Component) bool {
			return c.Protocol().Code == multiaddr.P_UNIX
		})
	})
}

// A kadHost is a host as kad-dht is to see it.
type kadHost struct {
	host.Host
	peers    kadPeerstore
	portable func([]multiaddr.Multiaddr) []multiaddr.Multiaddr
	connect  func(context.Context, peer.ID) error // by ID alone
}

func newKadHost(node *p2p.Node) *kadHost {
	h := node.Host()
	return &kadHost{
		Host: h, portable: portable,
		peers:   kadPeerstore{Peerstore: h.Peerstore(), portable: portable, network: h.Network(), heard: node.NoteSource},
		connect: func(ctx context.Context, id peer.ID) error { return node.Connect(ctx, id) },
	}
}

// Addrs returns what the node tells others of where it is.
func (h *kadHost) Addrs() []multiaddr.Multiaddr { return orNoAddress(h.portable(h.Host.Addrs())) }

// Peerstore returns the host's, as kad-dht is to see it.
func (h *kadHost) Peerstore() peerstore.Peerstore { return &h.peers }

// Connect makes sure that there is a connection to a peer: at its addresses if any
// are known, otherwise as the node finds it.
func (h *kadHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	info.Addrs = h.portable(info.Addrs)
	if len(info.Addrs) == 0 && len(h.portable(h.Host.Peerstore().Addrs(info.ID))) == 0 {
		return h.connect(ctx, info.ID)
	}
	return h.Host.Connect(ctx, info)
}

// A kadPeerstore keeps addresses that can be dialed and gives out, for a peer that
// can be told of and has none, the one that stands for that.
type kadPeerstore struct {
	peerstore.Peerstore
	portable func([]multiaddr.Multiaddr) []multiaddr.Multiaddr
	network  network.Network
	heard    func(_ peer.ID, source string, _ ...multiaddr.Multiaddr)
	inTable  atomic.Pointer[func(peer.ID) bool] // nil until there is a table
}

func (p *kadPeerstore) AddAddr(id peer.ID, addr multiaddr.Multiaddr, ttl time.Duration) {
	p.AddAddrs(id, []multiaddr.Multiaddr{addr}, ttl)
}

func (p *kadPeerstore) AddAddrs(id peer.ID, addrs []multiaddr.Multiaddr, ttl time.Duration) {
	addrs = p.portable(addrs)
	p.heard(id, p2p.SourceDHT, addrs...)
	p.Peerstore.AddAddrs(id, addrs, ttl)
}

func (p *kadPeerstore) Addrs(id peer.ID) []multiaddr.Multiaddr {
	addrs := p.portable(p.Peerstore.Addrs(id))
	if p.known(id) {
		addrs = orNoAddress(addrs)
	}
	return addrs
}

func (p *kadPeerstore) PeerInfo(id peer.ID) peer.AddrInfo {
	return peer.AddrInfo{ID: id, Addrs: p.Addrs(id)}
}

// known tells whether there is such a peer, as far as this node has seen: kad-dht
// asks for the addresses of whatever is looked up, too.
func (p *kadPeerstore) known(id peer.ID) bool {
	if p.network.Connectedness(id) == network.Connected {
		return true
	}
	inTable := p.inTable.Load()
	return inTable != nil && (*inTable)(id)
}

func orNoAddress(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	if len(addrs) == 0 {
		return []multiaddr.Multiaddr{noAddress}
	}
	return addrs
}
