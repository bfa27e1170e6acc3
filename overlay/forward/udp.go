package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// defaultFlowIdle is after how long without a datagram a flow is over. Nothing
	// else tells.
	defaultFlowIdle = 60 * time.Second

	// redialAfter is how long the datagrams of a client are dropped after a dial for
	// it has failed.
	redialAfter = time.Second

	// evictAfter is how long a flow must have been idle to make room for another.
	evictAfter = time.Second

	// socketBuffer is what the kernel is asked to keep of datagrams until they are
	// read. It may give less.
	socketBuffer = 4 << 20
)

func (c Config) flowIdle() time.Duration { return cmp.Or(c.IdleTimeout, defaultFlowIdle) }

// flows are what a Forward of datagrams has: a socket, and a stream for each client.
type flows struct {
	runner

	// Set by newFlows and never changed.
	conn *net.UDPConn
	dial dialling

	mu   sync.Mutex // guards the field below
	open map[netip.AddrPort]*flow

	closeOnce sync.Once
	closeErr  error
}

func listenUDP(a Address, c Config) (*net.UDPConn, error) {
	if err := c.checkSocket(a); err != nil {
		return nil, err
	}
	network, address := a.endpoint()
	conn, err := new(net.ListenConfig).ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", a, reason(err))
	}
	udp := conn.(*net.UDPConn)
	_ = udp.SetReadBuffer(socketBuffer) // or what there is has to do
	return udp, nil
}

func newFlows(conn *net.UDPConn, dial dialling, c Config) *flows {
	s := &flows{conn: conn, dial: dial, open: map[netip.AddrPort]*flow{}}
	s.begin(c)
	s.wg.Go(s.run)
	return s
}

func (s *flows) addr() net.Addr { return s.conn.LocalAddr() }

func (s *flows) close() error {
	s.closeOnce.Do(func() {
		s.stop()
		s.closeErr = s.conn.Close()
		s.wg.Wait()
	})
	return s.closeErr
}

// run reads from the socket until it is closed. Any other failure may pass.
func (s *flows) run() {
	b := newDatagramBuffer()
	defer b.release()
	delay := minAcceptDelay
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(b.bytes[:])
		switch {
		case err == nil:
			delay = minAcceptDelay
			s.take(from, b.bytes[:n])
		case s.ctx.Err() != nil:
			return
		default:
			s.complain("reading datagrams failed", reason(err))
			if !sleep(s.ctx, delay) {
				return
			}
			delay = min(2*delay, maxAcceptDelay)
		}
	}
}

// take gives a datagram to the flow of its client, which it begins if there is none.
func (s *flows) take(from netip.AddrPort, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.open[from]
	if f == nil {
		if len(s.open) >= s.cfg.MaxOpen && !s.evictLocked() {
			s.meter.dropped.Add(1)
			return
		}
		f = newFlow(s.ctx, func(b []byte) error { return s.send(from, b) }, &s.meter)
		f.toStream, f.fromStream = &s.meter.toDialled, &s.meter.toAccepted
		s.open[from] = f
		s.meter.opened()
		s.wg.Go(func() { s.serve(from, f) })
	}
	f.put(payload)
}

// evictLocked ends the flow that has been idle for longest, and returns false if
// all are in use.
func (s *flows) evictLocked() bool {
	var idlest netip.AddrPort
	idle := evictAfter
	for from, f := range s.open {
		if d := f.idle(); d >= idle {
			idlest, idle = from, d
		}
	}
	f := s.open[idlest]
	if f == nil {
		return false
	}
	delete(s.open, idlest)
	f.stop(errIdle)
	return true
}

func (s *flows) serve(from netip.AddrPort, f *flow) {
	defer s.meter.closed()
	defer s.remove(from, f)
	defer f.end()
	stream, err := s.dialOther(f.ctx, s.dial)
	if err != nil {
		sleep(f.ctx, redialAfter)
		return
	}
	s.broken(f.carry(stream, s.cfg.flowIdle()))
}

func (s *flows) remove(from netip.AddrPort, f *flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[from] == f {
		delete(s.open, from)
	}
}

func (s *flows) send(to netip.AddrPort, payload []byte) error {
	_, err := s.conn.WriteToUDPAddrPort(payload, to)
	if err != nil && s.ctx.Err() == nil {
		s.complain("datagram not sent", fmt.Errorf("send to %v: %w", to, reason(err)))
	}
	return err
}

// tieDatagrams is join for a stream of datagrams and the socket to their target.
func (a *acceptor) tieDatagrams(stream, target net.Conn) error {
	socket := target.(*net.UDPConn) // as Address.dial gives for an address of UDP
	_ = socket.SetReadBuffer(socketBuffer)
	send := func(b []byte) error {
		_, err := socket.Write(b)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			a.complain("datagram not sent", fmt.Errorf("send to %v: %w", socket.RemoteAddr(), reason(err)))
		}
		return err
	}
	f := newFlow(a.ctx, send, &a.meter)
	f.toStream, f.fromStream = &a.meter.toAccepted, &a.meter.toDialled
	var wg sync.WaitGroup
	wg.Go(func() { a.receive(f, socket) })
	err := f.carry(stream, a.cfg.flowIdle())
	_ = socket.Close()
	wg.Wait()
	return err
}

// receive takes what the target sends into the flow until the flow has ended. A
// target that is down refuses datagrams, and may come up.
func (a *acceptor) receive(f *flow, socket *net.UDPConn) {
	read := readDatagrams(socket)
	delay := minAcceptDelay
	for {
		b, err := read()
		switch {
		case err == nil:
			delay = minAcceptDelay
			f.put(b.payload())
			b.release()
		case errors.Is(err, net.ErrClosed):
			return
		default:
			a.complain("target is out of reach", fmt.Errorf("receive from %v: %w", socket.RemoteAddr(), reason(err)))
			if !sleep(f.ctx, delay) {
				return
			}
			delay = min(2*delay, maxAcceptDelay)
		}
	}
}
