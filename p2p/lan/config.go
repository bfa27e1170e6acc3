package lan

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// Config describes a Finder.
type Config struct {
	// Group is the secret that all nodes of a mesh know and nobody else. Those of
	// one group find each other. It may not be empty.
	Group []byte

	// Self is whom the others find.
	Self peer.ID

	// Addrs returns where Self can be dialed, with unspecified IPs or without.
	// It is called whenever there is something to say, and must not use the Finder.
	Addrs func() []multiaddr.Multiaddr

	// Found is called with a peer that was found, again when its addresses have
	// changed, and again after each Refresh. One call ends before the next
	// begins; what comes meanwhile waits, of each peer and link the newest.
	Found func(peer.AddrInfo)

	// Logger gets what an operator may want to read. If nil, nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if len(c.Group) == 0 {
		errs = append(errs, errors.New("Config.Group is empty, so boxes would hide nothing"))
	}
	if len(c.Self) == 0 || len(c.Self) > maxPeerID {
		errs = append(errs, fmt.Errorf("Config.Self has %d bytes, which no peer has", len(c.Self)))
	}
	if c.Addrs == nil {
		errs = append(errs, errors.New("Config.Addrs is nil"))
	}
	if c.Found == nil {
		errs = append(errs, errors.New("Config.Found is nil"))
	}
	return c, errors.Join(errs...)
}

// Stats counts what was not of use.
type Stats struct {
	Foreign uint64 // boxes that were not of this group
	Garbage uint64 // what no node sends
	Dropped uint64 // boxes that came faster than they are opened
}

type counters struct{ foreign, garbage, dropped atomic.Uint64 }
