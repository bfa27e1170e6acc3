package p2p

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
)

// Config describes a Node. The zero Config is a node on a fresh key that
// listens on all interfaces on one free port and admits everybody.
type Config struct {
	// Key is the node's identity. If nil, New makes one that is lost on Close;
	// see [LoadKey] and [CreateKey] for one that is kept.
	Key ed25519.PrivateKey

	// Listen names the addresses to accept connections at, over TCP, QUIC or
	// WebSocket, with TLS around it where the address has /tls/ws, as
	// /ip4/0.0.0.0/tcp/443/tls/ws. Each must be free, else New returns an error. If empty, the
	// node listens on all IPv4 and IPv6 interfaces, by TCP and WebSocket on
	// one port and by QUIC on the UDP port of that number.
	Listen []multiaddr.Multiaddr

	// Port is the port to try first when Listen is empty, so that a node that
	// comes back is where it was. If it is taken, or zero, a free one is used.
	Port uint16

	// Local has the node meet others on this machine without a network. If nil,
	// it does not.
	Local *Local

	// LAN has the node find others on the local network. If nil, it does not look.
	LAN *LAN

	// NoPortMapping has the node not ask a router that translates addresses to let
	// others in.
	NoPortMapping bool

	// Relay says how much the node carries for peers that can't reach each other.
	Relay Relay

	// Certificate is shown to those who connect by WebSocket over TLS. Peers don't
	// look at it; a proxy in between may. If nil, the node makes one for itself.
	Certificate *tls.Certificate

	// Proxy names the proxy through which WebSocket is dialed, given an https URL of the
	// host and port that are to be reached, or nil if there is none in between. Its
	// scheme is http, https or socks5, and it may have a user and a password. If
	// Proxy is nil, there is no proxy: the node does not look into the environment
	// by itself.
	Proxy func(*url.URL) (*url.URL, error)

	// Admission decides who may connect. If nil, everybody may.
	Admission Admission

	// OnPath is called when streams to a peer go another way from then on. It must
	// not block. It may be nil.
	OnPath func(PathChange)

	// StreamLimit is how long a stream whose connection was lost waits for another
	// before it is over. Zero means 5 minutes, and a negative one for ever.
	StreamLimit time.Duration

	// StreamMemory is how many bytes all streams together may hold of what the peers
	// have not acknowledged, a quarter of it those to one peer, beyond 16 KiB that each
	// stream has by itself. Zero means 256 MiB.
	StreamMemory int64

	// DialTimeout bounds one attempt to connect to one address. Zero means
	// 10 seconds, which covers three retransmissions of a lost SYN.
	DialTimeout time.Duration

	// Agent is what identify tells admitted peers of this program. If empty,
	// "p2pnode".
	Agent string

	// Logger gets what an operator may want to read. If nil, nothing is logged.
	Logger *slog.Logger

	// Metrics is where the node registers its collector, whose names begin
	// with p2pnode_p2p_. If nil, it has none. Nodes that share a registry have
	// to differ in a label; see [prometheus.WrapRegistererWith].
	Metrics prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Key == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return c, fmt.Errorf("make a key: %w", err)
		}
		c.Key = key
	}
	switch {
	case len(c.Key) != ed25519.PrivateKeySize:
		errs = append(errs, fmt.Errorf("Config.Key has %d bytes, not %d", len(c.Key), ed25519.PrivateKeySize))
	case !ed25519.NewKeyFromSeed(c.Key.Seed()).Equal(c.Key):
		errs = append(errs, errors.New("Config.Key holds the public half of another key"))
	}
	for i, addr := range c.Listen {
		if len(addr) == 0 {
			errs = append(errs, fmt.Errorf("Config.Listen[%d] is empty", i))
		}
	}
	errs = append(errs, c.Relay.check())
	if c.DialTimeout < 0 {
		errs = append(errs, fmt.Errorf("Config.DialTimeout is negative: %v", c.DialTimeout))
	}
	if c.StreamMemory < 0 {
		errs = append(errs, fmt.Errorf("Config.StreamMemory is negative: %d", c.StreamMemory))
	}
	c.StreamMemory = cmp.Or(c.StreamMemory, defaultStreamMemory)
	c.StreamLimit = max(cmp.Or(c.StreamLimit, defaultStreamLimit), 0)
	if c.DialTimeout == 0 {
		c.DialTimeout = 10 * time.Second
	}
	c.Relay = c.Relay.withDefaults()
	if c.Agent == "" {
		c.Agent = "p2pnode"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(errs...)
}
