package p2p

import (
	_ "unsafe" // for linkname

	"github.com/quic-go/quic-go"
)

// quicConfig is go-libp2p's own, of which each node takes a copy. It has no setting for
// how many streams a peer may have open at once, which are 256: fewer than what moves
// to a connection over QUIC when a hole was punched. A test opens more.
//
//go:linkname quicConfig github.com/libp2p/go-libp2p/p2p/transport/quicreuse.quicConfig
var quicConfig *quic.Config

func init() {
	quicConfig.MaxIncomingStreams = maxPeerStreams
}
