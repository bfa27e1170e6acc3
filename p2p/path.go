package p2p

import (
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A Path is how bytes go to a peer. A smaller Path, other than PathUnknown, is
// the better one.
type Path uint8

// The paths, from best to worst.
const (
	PathUnknown Path = iota
	PathSelf         // inside this process
	PathUnix         // a kernel socket on this machine
	PathLAN          // a loopback, link-local or private address
	PathDirect       // a public address
	PathRelay        // through another member
)

var pathNames = [...]string{"unknown", "self", "unix", "lan", "direct", "relay"}

// String returns the path's word, e.g. "lan".
func (p Path) String() string {
	if int(p) < len(pathNames) {
		return pathNames[p]
	}
	return pathNames[PathUnknown]
}

// MarshalText writes the path's word, which is how JSON shows it.
func (p Path) MarshalText() ([]byte, error) {
	return []byte(p.String()), nil
}

// pathTo tells how a remote address is reached.
func pathTo(addr multiaddr.Multiaddr) Path {
	if len(addr) == 0 {
		return PathUnknown
	}
	for _, c := range addr {
		switch c.Protocol().Code {
		case multiaddr.P_CIRCUIT:
			return PathRelay
		case multiaddr.P_UNIX:
			return PathUnix
		}
	}
	if manet.IsPublicAddr(addr) {
		return PathDirect
	}
	return PathLAN
}

// The transports of one path by what they cost, the cheapest first: QUIC takes three
// times the CPU of TCP for each byte (docs/performance.md), WebSocket adds frames to
// TCP, and a second encryption where it is over TLS.
const (
	rankTCP = iota
	rankQUIC
	rankWebSocket
	rankWebSocketTLS
	rankOther
)

// transportRank tells which transport an address is of.
func transportRank(addr multiaddr.Multiaddr) int {
	rank, outerTLS := rankOther, false
	for _, c := range addr {
		switch c.Protocol().Code {
		case multiaddr.P_TCP:
			rank = rankTCP
		case multiaddr.P_QUIC_V1:
			rank = rankQUIC
		case multiaddr.P_TLS:
			outerTLS = true
		case multiaddr.P_WS:
			rank = rankWebSocket
		case multiaddr.P_WSS:
			return rankWebSocketTLS
		}
	}
	if rank == rankWebSocket && outerTLS {
		return rankWebSocketTLS
	}
	return rank
}

// better tells whether streams should rather go over a than over b, both to the
// same peer. Both ends say the same of two connections.
func better(a, b network.Conn) bool {
	if pa, pb := pathTo(a.RemoteMultiaddr()), pathTo(b.RemoteMultiaddr()); pa != pb {
		return pa < pb
	}
	// By what transport the other end reaches a relay this one does not know.
	if ra, rb := relayOf(a), relayOf(b); ra != rb {
		return ra < rb
	} else if ra == "" {
		if ta, tb := transportRank(a.RemoteMultiaddr()), transportRank(b.RemoteMultiaddr()); ta != tb {
			return ta < tb
		}
	}
	if da, db := dialer(a), dialer(b); da != db {
		return da < db
	}
	return a.Stat().Opened.Before(b.Stat().Opened)
}
