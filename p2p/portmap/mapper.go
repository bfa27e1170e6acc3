package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
)

// ErrClosed is returned after Close. It is net.ErrClosed too.
var ErrClosed = fmt.Errorf("portmap: mapper is closed: %w", net.ErrClosed)

// Config describes a Mapper. The zero Config is one that logs nothing.
type Config struct {
	// Logger gets what an operator may want to read. If nil, nothing is logged.
	Logger *slog.Logger
}

// A client speaks one protocol with one gateway.
type client interface {
	protocol() Protocol
	probe(context.Context) (reply, error)
	request(context.Context, ask) (reply, error)
}

// surroundings are what a Mapper finds itself in.
type surroundings struct {
	uplink  func() (uplink, error)
	clients func(uplink) []client
}

// A Mapper keeps port mappings at the router. Make one with New.
type Mapper struct {
	log    *slog.Logger
	around surroundings
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	wake   chan struct{} // holds one if there is something new to do

	mu      sync.Mutex // guards the fields below; never held while asking
	closed  bool
	wanted  []port
	refresh bool
	abandon context.CancelFunc // ends what is being asked; nil if nothing is
	report  Report
	changed chan struct{} // closed when report is replaced
}

// A port is one of this machine.
type port struct {
	proto  Proto
	number uint16
}

// New returns a Mapper, which asks for nothing before Map is called.
func New(c Config) *Mapper {
	return newMapper(c, surroundings{findUplink, clientsOf})
}

func clientsOf(up uplink) []client {
	server := netip.AddrPortFrom(up.gateway, 5351)
	return []client{
		&pcp{server: server},
		&natpmp{server: server},
		&upnp{up: up, targets: ssdpTargets(up.gateway)},
	}
}

func newMapper(c Config, s surroundings) *Mapper {
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Mapper{log: log, around: s, wake: make(chan struct{}, 1), changed: make(chan struct{}), refresh: true}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.wg.Go(func() { (&keeper{Mapper: m}).run() })
	return m
}

// Map asks for a port to be mapped until Unmap. What comes of it is in the
// Report. To ask twice is to ask once.
func (m *Mapper) Map(proto Proto, number uint16) error {
	if proto != UDP && proto != TCP {
		return fmt.Errorf("portmap: map %s port %d: not a transport that has ports: want udp or tcp", proto, number)
	}
	if number == 0 {
		return errors.New("portmap: map port 0: no port")
	}
	p := port{proto, number}
	return m.want(func() {
		if !slices.Contains(m.wanted, p) {
			m.wanted = append(m.wanted, p)
		}
	})
}

// Unmap gives a port up, and has its mapping deleted.
func (m *Mapper) Unmap(proto Proto, number uint16) error {
	p := port{proto, number}
	return m.want(func() {
		m.wanted = slices.DeleteFunc(m.wanted, func(q port) bool { return p == q })
	})
}

// Refresh has the gateway looked up and all protocols asked again, as after a
// change of the network. What is still being asked is abandoned.
func (m *Mapper) Refresh() error {
	return m.want(func() {
		m.refresh = true
		if m.abandon != nil {
			m.abandon()
		}
	})
}

// Report returns what is known at present.
func (m *Mapper) Report() Report {
	r, _ := m.present()
	return r
}

// Mappings returns those that there are at present.
func (m *Mapper) Mappings() []Mapping { return m.Report().Mappings }

// Watch yields the present Report, and then each later one, until ctx is done or
// the Mapper closed. Who is slow sees the newest.
func (m *Mapper) Watch(ctx context.Context) iter.Seq[Report] {
	return func(yield func(Report) bool) {
		for {
			report, changed := m.present()
			if !yield(report) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-m.ctx.Done():
				return
			}
		}
	}
}

// Close deletes all mappings, which takes a second at most, and waits until the
// Mapper's goroutines are gone. It may be called more than once and always
// returns nil.
func (m *Mapper) Close() error {
	m.once.Do(func() {
		m.mu.Lock()
		m.closed = true
		m.mu.Unlock()
		m.stop()
	})
	m.wg.Wait()
	return nil
}

// want changes what is to be done, and wakes the keeper.
func (m *Mapper) want(change func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	change()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return nil
}

func (m *Mapper) present() (Report, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.report, m.changed
}

func (m *Mapper) publish(r Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if reflect.DeepEqual(m.report, r) {
		return
	}
	m.report = r
	close(m.changed)
	m.changed = make(chan struct{})
}

func newNonce() (nonce [12]byte) {
	_, _ = rand.Read(nonce[:]) // it never fails
	return nonce
}
