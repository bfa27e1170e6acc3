package portmaptest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Config describes a Server. The zero Config is a router that knows no external
// address and gives mappings that do nothing.
type Config struct {
	// External is the router's address towards others. If not valid, mappings
	// are refused, as by a router that is offline.
	External netip.Addr

	// NoPCP and NoNATPMP leave out a protocol. A request of PCP is then refused
	// for its version, as by a router of before; one of NAT-PMP is not answered.
	NoPCP, NoNATPMP bool

	// MaxLifetime is the longest that a mapping lasts. Zero means a day.
	MaxLifetime time.Duration

	// Action makes a mapping, or renews it, or ends it if lifetime is zero. An
	// error refuses it: a Code with that result code, any other for want of
	// resources. If nil, nothing is done. It is called by one
	// goroutine, and must not call the Server.
	Action func(proto string, internal netip.AddrPort, external uint16, lifetime time.Duration) error
}

// A Code is a result code of the protocol in use, as an error of Config.Action.
type Code int

func (c Code) Error() string { return fmt.Sprintf("result code %d", int(c)) }

// A Mapping is one that the Server gave.
type Mapping struct {
	Proto    string // "udp" or "tcp"
	Internal netip.AddrPort
	External uint16
	Until    time.Time
	nonce    [12]byte // of PCP; zero of NAT-PMP
}

// A key is what there can be only one mapping of.
type key struct {
	proto    string
	internal netip.AddrPort
}

// A Server answers requests until it is closed.
type Server struct {
	config Config
	conn   *net.UDPConn
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the fields below and config, and calls of Action
	started  time.Time
	mappings map[key]Mapping
	asked    int
	deaf     bool
}

// Listen starts a Server at an address, whose port is 5351 for others to find it.
func Listen(addr netip.AddrPort, c Config) (*Server, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("portmaptest: %w", err)
	}
	if c.MaxLifetime == 0 {
		c.MaxLifetime = 24 * time.Hour
	}
	// A router is up for longer than what asks it, so that its count of time
	// can be seen to start anew.
	s := &Server{config: c, conn: conn, started: time.Now().Add(-time.Hour), mappings: map[key]Mapping{}}
	s.wg.Go(s.run)
	return s, nil
}

// Addr returns where the Server listens.
func (s *Server) Addr() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Mappings returns those that there are, in no order.
func (s *Server) Mappings() []Mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Mapping
	for _, m := range s.mappings {
		out = append(out, m)
	}
	return out
}

// Asked returns how many requests were heard.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Reboot forgets all mappings, without a call of Action, and begins to count time
// anew.
func (s *Server) Reboot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = time.Now()
	clear(s.mappings)
}

// SetDeaf has requests go unanswered, or not.
func (s *Server) SetDeaf(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = deaf
}

// SetExternal gives the router another address. Mappings stay.
func (s *Server) SetExternal(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config.External = a
}

// Close ends the Server. Mappings are not ended: who runs it knows what is left.
func (s *Server) Close() error {
	err := s.conn.Close()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) run() {
	buf := make([]byte, 1500)
	for {
		if err := s.conn.SetReadDeadline(s.expire(time.Now())); err != nil {
			return
		}
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the deadline, or news of a packet that was sent before
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if answer := s.answer(buf[:n], from); answer != nil {
			_, _ = s.conn.WriteToUDPAddrPort(answer, from) // who is gone asks no more
		}
	}
}

func (s *Server) answer(b []byte, from netip.AddrPort) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	switch {
	case s.deaf || len(b) < 2 || b[1]&0x80 != 0:
		return nil
	case b[0] == 0 && !s.config.NoNATPMP:
		return s.natpmp(b, from)
	case b[0] == 0:
		return nil
	case s.config.NoPCP:
		return s.natpmpHeader(b[1], natpmpVersion)
	}
	return s.pcp(b, from)
}

// expire ends what is over, and returns when the next will be.
func (s *Server) expire(now time.Time) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, m := range s.mappings {
		switch {
		case !m.Until.After(now):
			delete(s.mappings, k)
			_ = s.act(m, 0) // it is over whatever comes of that
		case next.IsZero() || m.Until.Before(next):
			next = m.Until
		}
	}
	return next
}

func (s *Server) act(m Mapping, lifetime time.Duration) error {
	if s.config.Action == nil {
		return nil
	}
	return s.config.Action(m.Proto, m.Internal, m.External, lifetime)
}

// grant makes or renews a mapping.
func (s *Server) grant(k key, suggested uint16, lifetime time.Duration, nonce [12]byte) (Mapping, error) {
	m, ok := s.mappings[k]
	if !ok {
		m = Mapping{Proto: k.proto, Internal: k.internal, External: s.free(k.proto, suggested, k.internal.Port()), nonce: nonce}
	}
	lifetime = min(lifetime, s.config.MaxLifetime)
	m.Until = time.Now().Add(lifetime)
	if err := s.act(m, lifetime); err != nil {
		return Mapping{}, err
	}
	s.mappings[k] = m
	return m, nil
}

// revoke ends a mapping. One that isn't there has ended already.
func (s *Server) revoke(k key) error {
	m, ok := s.mappings[k]
	if !ok {
		return nil
	}
	delete(s.mappings, k)
	return s.act(m, 0)
}

// free returns a port that is free, the suggested one if it can be.
func (s *Server) free(proto string, suggested, internal uint16) uint16 {
	taken := map[uint16]bool{0: true}
	for k, m := range s.mappings {
		if k.proto == proto {
			taken[m.External] = true
		}
	}
	port := suggested
	if port == 0 {
		port = internal
	}
	for range 1 << 16 {
		if !taken[port] {
			return port
		}
		port++
	}
	return 0
}
