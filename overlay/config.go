package overlay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
	"github.com/prometheus/client_golang/prometheus"
)

// Config describes this node's part in a mesh. The zero Config is an ephemeral
// node: it keeps nothing, and takes its name from the host.
type Config struct {
	// Dir is where the node's key and state are kept, one directory a node. If
	// empty, the node is ephemeral. The directory is made if it is not there,
	// readable by its owner only.
	Dir string

	// Name is what the others call this node: 1 to 63 of a to z, 0 to 9 and
	// inner hyphens. If empty, the name from last time, or else one made of the
	// host's name and the peer ID. An invite may insist on a name.
	Name string

	// Listen names the addresses to accept connections at. If empty, all
	// interfaces, by TCP, QUIC and WebSocket, on the port of last time if it is
	// free, or else on a free one.
	Listen []multiaddr.Multiaddr

	// Bootstrap names members to start from, with their /p2p/ID, in addition to
	// those in the invite and those remembered.
	Bootstrap []multiaddr.Multiaddr

	// LocalDir is the directory of sockets in which the node meets the members on
	// this machine, without a network. If empty, the user's own: see
	// [github.com/p2pnode/p2pnode/p2p/unixsock.UserDirectory]. Others can be named, for containers or several
	// users to share.
	LocalDir string

	// LocalUsers are other users of this machine, by their numbers, whose
	// processes may be met there.
	LocalUsers []uint32

	// LocalOnly has the node listen nowhere but on this machine, unless Listen
	// says so.
	LocalOnly bool

	// NoLocal has it meet members on this machine as it does all others.
	NoLocal bool

	// NoLAN has the node neither look for members on the local network nor say there
	// that it is up. What is said there by multicast tells others than members
	// nothing but that a node is there.
	NoLAN bool

	// NoPortMapping has the node not ask a router to let members in.
	NoPortMapping bool

	// Certificate is shown to those who connect by WebSocket over TLS, at addresses of
	// Listen that have /tls/ws. Members don't look at it; a proxy in between may. If
	// nil, the node makes one for itself.
	Certificate *tls.Certificate

	// Proxy names the proxy through which members are dialed by WebSocket; see
	// [p2p.Config]. If nil, there is none.
	Proxy func(*url.URL) (*url.URL, error)

	// Relay says how much the node carries for members that can't reach each other.
	// The zero Relay is what each node does; see there.
	Relay p2p.Relay

	// StreamLimit is how long a stream whose connection was lost waits for another
	// before it is over, at this end. Zero means 5 minutes, and a negative one for ever.
	StreamLimit time.Duration

	// StreamMemory is how many bytes all streams together may hold of what members
	// have not acknowledged; see [p2p.Config]. Zero means 256 MiB.
	StreamMemory int64

	// DialTimeout bounds one attempt to connect to one address. Zero means 10
	// seconds.
	DialTimeout time.Duration

	// Logger gets what an operator may want to read. If nil, nothing is logged.
	Logger *slog.Logger

	// Metrics is where the node registers its collectors. If nil, it has none.
	Metrics prometheus.Registerer
}

// withDefaults fills in what does not depend on the node's state.
func (c Config) withDefaults() (Config, []peer.AddrInfo, error) {
	var errs []error
	if c.Name != "" {
		if err := credential.CheckName(c.Name); err != nil {
			errs = append(errs, fmt.Errorf("Config.Name: %w", err))
		}
	}
	if c.DialTimeout < 0 {
		errs = append(errs, fmt.Errorf("Config.DialTimeout is negative: %v", c.DialTimeout))
	}
	if c.StreamMemory < 0 {
		errs = append(errs, fmt.Errorf("Config.StreamMemory is negative: %d", c.StreamMemory))
	}
	if c.NoLocal && (c.LocalOnly || c.LocalDir != "" || len(c.LocalUsers) > 0) {
		errs = append(errs, errors.New("Config.NoLocal contradicts LocalOnly, LocalDir and LocalUsers"))
	}
	start, err := peer.AddrInfosFromP2pAddrs(c.Bootstrap...)
	if err != nil {
		errs = append(errs, fmt.Errorf("Config.Bootstrap: %w: want an address that ends in /p2p/ and a peer ID", err))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, start, errors.Join(errs...)
}

// defaultName makes a name of the host's and the end of the peer ID, which
// tells several nodes of one host apart.
func defaultName(id peer.ID) string {
	s := id.String()
	suffix := "-" + strings.ToLower(s[len(s)-5:])
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, host)
	host = strings.Trim(host[:min(len(host), credential.MaxName-len(suffix))], "-")
	if host == "" {
		host = "node"
	}
	return host + suffix
}
