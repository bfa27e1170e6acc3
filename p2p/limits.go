package p2p

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// The limits are of three kinds. Before a peer has named itself its connection
// is transient, and there are few of those. Until it is admitted it is a
// stranger, who may do no more than the exchange takes. After that come the
// limits a peer that was admitted can reach: thousands of streams, and many
// nodes behind one address (go-libp2p's own are 8 connections and 0.2 new ones
// a second by address, and 75 streams a protocol and peer).
//
// yamux counts the first window of each stream as memory from the start, and
// drops the whole connection when there is none left, whereas a stream too many
// is only reset. So there has to be memory for all streams, and as much again
// before windows stop growing, which they do at half.
const (
	maxTransientConns   = 2 * maxAddressConns // so that one address cannot have them all
	maxConns            = 4096
	maxPeerConns        = 32
	maxStreams          = 1 << 15
	maxPeerStreams      = 1 << 14
	maxTransientStreams = 1 << 13 // opened, and their protocol not yet named

	firstWindow     = 256 << 10 // yamux's
	maxMemory       = 2 * maxStreams * firstWindow
	maxPeerMemory   = 2 * maxPeerStreams * firstWindow
	maxConnMemory   = 512 << 20
	maxTransMemory  = 256 << 20
	maxStrangeConns = 8

	// maxStrangeMemory is what a stranger can make the node hold: the stream of
	// the exchange and a few more, which nobody reads.
	maxStrangeMemory = 4 * firstWindow

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
)

// memberLimit is for one peer that is admitted.
func memberLimit() *rcmgr.BaseLimit {
	return &rcmgr.BaseLimit{
		Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns,
		Streams: maxPeerStreams, StreamsInbound: maxPeerStreams, StreamsOutbound: maxPeerStreams,
		FD: maxPeerConns, Memory: maxPeerMemory,
	}
}

// raiseLimit makes of a stranger a member, until its last connection has gone.
func raiseLimit(rm network.ResourceManager, id peer.ID) {
	_ = rm.ViewPeer(id, func(s network.PeerScope) error { // returns what this returns
		if scope, ok := s.(rcmgr.ResourceScopeLimiter); ok {
			scope.SetLimit(memberLimit())
		}
		return nil
	})
}

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
		PeerDefault: rcmgr.ResourceLimits{ // strangers; see raiseLimit
			Conns: maxStrangeConns, ConnsInbound: maxStrangeConns, ConnsOutbound: maxStrangeConns,
			Streams: 1, StreamsInbound: 1, StreamsOutbound: 1,
			FD: maxStrangeConns, Memory: maxStrangeMemory,
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
