package p2p

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
)

// Relay bounds what a node carries for others that can't reach each other. The zero
// Relay is what a node does if it is told nothing.
type Relay struct {
	// Off has it carry nothing.
	Off bool

	// Peers is how many may be reached through the node. Zero means 1024.
	Peers int

	// Circuits is how many connections through the node one peer may have. Zero
	// means 256.
	Circuits int

	// Rate is how much one peer may send through the node, in bytes a second. Zero
	// means 128 MiB, about 1 Gbit/s.
	Rate int

	// Bytes is how much one peer may send through the node in a day. Zero is no
	// limit.
	Bytes uint64
}

const (
	defaultRelayPeers    = 1024
	defaultRelayCircuits = 256
	defaultRelayRate     = 128 << 20

	// relayBuffer is the buffer of one direction of a circuit. Two of them and the
	// streams of a circuit stay below 100 kB.
	relayBuffer = 32 << 10

	// relayDay is over what time Relay.Bytes counts.
	relayDay = 24 * time.Hour
)

func (r Relay) check() error {
	if r.Peers < 0 || r.Circuits < 0 || r.Rate < 0 {
		return fmt.Errorf("Config.Relay has a negative limit: %+v", r)
	}
	return nil
}

func (r Relay) withDefaults() Relay {
	if r.Peers == 0 {
		r.Peers = defaultRelayPeers
	}
	if r.Circuits == 0 {
		r.Circuits = defaultRelayCircuits
	}
	if r.Rate == 0 {
		r.Rate = defaultRelayRate
	}
	return r
}

// A carrier is the part of a node that relays.
type carrier struct {
	service *relay.Relay
	host    *meteredHost
}

// newCarrier starts to relay. Who has a connection has been admitted, and may.
func newCarrier(h host.Host, c Relay) (*carrier, error) {
	metered := &meteredHost{Host: h, limits: c, meters: map[peer.ID]*relayMeter{}}
	service, err := relay.New(metered,
		relay.WithResources(relay.Resources{
			ReservationTTL: reservationTTL, MaxReservations: c.Peers, MaxReservationsPerIP: c.Peers, MaxReservationsPerASN: c.Peers,
			MaxCircuits: c.Circuits, BufferSize: relayBuffer,
		}),
		// The peer knows at which address it has reached this node.
		relay.WithReservationAddressFilter(func(multiaddr.Multiaddr) bool { return false }),
	)
	if err != nil {
		return nil, err
	}
	return &carrier{service, metered}, nil
}

// A meteredHost is what the relay service sees of the host: its streams count what
// peers send, and hold them to the limits.
type meteredHost struct {
	host.Host
	limits Relay
	total  atomic.Uint64

	mu     sync.Mutex
	meters map[peer.ID]*relayMeter
}

func (h *meteredHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) { handle(h.meter(s)) })
}

func (h *meteredHost) NewStream(ctx context.Context, id peer.ID, protos ...protocol.ID) (network.Stream, error) {
	s, err := h.Host.NewStream(ctx, id, protos...)
	if err != nil {
		return nil, err
	}
	return h.meter(s), nil
}

// maxMeters bounds the peers whose bytes are remembered. It is more than there are
// members that a node is connected to.
const maxMeters = 1 << 14

func (h *meteredHost) meter(s network.Stream) network.Stream {
	id := s.Conn().RemotePeer()
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.meters[id]
	if m == nil {
		if len(h.meters) >= maxMeters {
			clear(h.meters)
		}
		m = &relayMeter{limits: h.limits, rate: rate.NewLimiter(rate.Limit(h.limits.Rate), max(h.limits.Rate, relayBuffer))}
		h.meters[id] = m
	}
	ctx, stop := context.WithCancel(context.Background())
	return &meteredStream{Stream: s, host: h, meter: m, ctx: ctx, stop: stop, out: newGatherer(s)}
}

// A relayMeter counts what one peer sends through this node.
type relayMeter struct {
	limits Relay
	rate   *rate.Limiter

	mu    sync.Mutex
	since time.Time
	bytes uint64
}

// take counts n bytes. It returns false if they are more than the peer may send.
func (m *relayMeter) take(ctx context.Context, n int) bool {
	m.mu.Lock()
	if now := time.Now(); now.Sub(m.since) > relayDay {
		m.since, m.bytes = now, 0
	}
	m.bytes += uint64(n)
	over := m.limits.Bytes > 0 && m.bytes > m.limits.Bytes
	m.mu.Unlock()
	return !over && m.rate.WaitN(ctx, n) == nil
}

// A meteredStream is one side of a circuit.
type meteredStream struct {
	network.Stream
	host  *meteredHost
	meter *relayMeter
	ctx   context.Context // ends with the stream, and with it waiting
	stop  context.CancelFunc
	out   *gatherer
}

func (s *meteredStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b[:min(len(b), relayBuffer)])
	if n == 0 {
		return n, err
	}
	s.host.total.Add(uint64(n))
	if !s.meter.take(s.ctx, n) {
		return 0, network.ErrReset
	}
	return n, err
}

func (s *meteredStream) Write(b []byte) (int, error) { return s.out.Write(b) }

func (s *meteredStream) CloseWrite() error {
	return errors.Join(s.out.Flush(), s.Stream.CloseWrite())
}

func (s *meteredStream) Close() error {
	s.stop()
	return errors.Join(s.out.Flush(), s.Stream.Close())
}

func (s *meteredStream) Reset() error {
	s.stop()
	return s.Stream.Reset()
}

func (s *meteredStream) ResetWithError(code network.StreamErrorCode) error {
	s.stop()
	return s.Stream.ResetWithError(code)
}
