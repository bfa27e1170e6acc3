package p2p

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// The limits are of two kinds. Before a peer has named itself its connection
// is transient, and there are few of those. After that come the limits a peer
// that was admitted can reach: thousands of streams, and many nodes behind one
// address (go-libp2p's own are 8 connections and 0.2 new ones a second by
// address, and 75 streams a protocol and peer).
const (
	maxTransientConns   = 256
	maxConns            = 4096
	maxPeerConns        = 32
	maxStreams          = 1 << 17
	maxPeerStreams      = 1 << 15
	maxTransientStreams = 1 << 13 // opened, and their protocol not yet named

	// maxAddressConns are the connections to and from one IP address: a
	// household, an office or a container host with hundreds of nodes.
	maxAddressConns = 1024

	// An address, as far as limits go: all of IPv4's, and of IPv6's what a
	// provider hands out as one.
	addressBits4 = 32
	addressBits6 = 56

	// An address may connect this often: a burst is a mesh that comes back
	// after a power cut.
	addressConnRate  = 100 // a second
	addressConnBurst = 512

	maxMemory      = 2 << 30 // receive windows of all streams together
	maxPeerMemory  = 1 << 30
	maxConnMemory  = 512 << 20
	maxTransMemory = 256 << 20
)

func newResourceManager() (network.ResourceManager, error) {
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: maxConns, ConnsInbound: maxConns, ConnsOutbound: maxConns,
			Streams: maxStreams, StreamsInbound: maxStreams, StreamsOutbound: maxStreams,
			FD: maxConns, Memory: maxMemory,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: 2 * maxTransientConns, ConnsInbound: maxTransientConns, ConnsOutbound: maxTransientConns,
			Streams: maxTransientStreams, StreamsInbound: maxTransientStreams, StreamsOutbound: maxTransientStreams,
			FD: 2 * maxTransientConns, Memory: maxTransMemory,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns,
			Streams: maxPeerStreams, StreamsInbound: maxPeerStreams, StreamsOutbound: maxPeerStreams,
			FD: maxPeerConns, Memory: maxPeerMemory,
		},
		Conn: rcmgr.ResourceLimits{
			Conns: 1, ConnsInbound: 1, ConnsOutbound: 1, FD: 1, Memory: maxConnMemory,
		},
	}.Build(rcmgr.InfiniteLimits)
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: addressBits4, ConnCount: maxAddressConns}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: addressBits6, ConnCount: maxAddressConns}},
		),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: loopbackUnlimited(),
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{addressLimit(addressBits4)},
				IPv6SubnetLimits: []rate.SubnetLimit{addressLimit(addressBits6)},
			},
		}),
	)
}

func addressLimit(prefix int) rate.SubnetLimit {
	return rate.SubnetLimit{PrefixLength: prefix, Limit: rate.Limit{RPS: addressConnRate, Burst: addressConnBurst}}
}

func loopbackUnlimited() []rate.PrefixLimit {
	return []rate.PrefixLimit{
		{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
		{Prefix: netip.MustParsePrefix("::1/128")},
	}
}
