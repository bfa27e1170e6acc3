package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Dependence is on what of the other side a router's behaviour depends, in the
// words of RFC 4787.
type Dependence uint8

const (
	// Unmeasured means that no packet came through.
	Unmeasured Dependence = iota
	// EndpointIndependent is the same for all.
	EndpointIndependent
	// AddressDependent differs between addresses, not between ports of one.
	AddressDependent
	// AddressAndPortDependent differs between ports of one address too.
	AddressAndPortDependent
)

func (d Dependence) String() string {
	names := []string{"unmeasured", "endpoint-independent", "address-dependent", "address- and port-dependent"}
	if int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("Dependence(%d)", uint8(d))
}

// A Report is how a router was seen to treat UDP of IPv4.
type Report struct {
	// UDP tells whether packets come out at all. If not, nothing else is known
	// but Rejected.
	UDP bool
	// Rejected tells that the sender was told that UDP is blocked.
	Rejected bool
	// Translated tells that others see another address than the host's.
	Translated bool
	// Mapping is what the public port of a socket depends on.
	Mapping Dependence
	// Filtering is what it depends on whether packets to that port come in.
	Filtering Dependence
	// PortKept tells that the public port is the socket's.
	PortKept bool
	// Hairpin tells that hosts behind the router reach each other at their
	// public addresses.
	Hairpin bool
	// PortStays tells that a packet from a stranger to a public port doesn't
	// change the port that the stranger sees later. False where mapping depends
	// on the other side, as then the stranger sees another port anyhow.
	PortStays bool
}

func (r Report) String() string {
	switch {
	case r.Rejected:
		return "UDP rejected"
	case !r.UDP:
		return "UDP blocked"
	}
	return fmt.Sprintf("translated %v, mapping %v, filtering %v, port kept %v, hairpin %v, port stays %v",
		r.Translated, r.Mapping, r.Filtering, r.PortKept, r.Hairpin, r.PortStays)
}

// expect returns what a router is to be seen doing, if the lab is right.
func (n NAT) expect() Report {
	if n.UDPBlocked || n.UDPReject || n.OnlyTCP443 {
		return Report{Rejected: n.UDPReject && !n.OnlyTCP443}
	}
	if n.Kind == None {
		return Report{
			UDP: true, Mapping: EndpointIndependent, Filtering: EndpointIndependent,
			PortKept: true, Hairpin: true, PortStays: true,
		}
	}
	r := Report{
		UDP: true, Translated: true, Mapping: EndpointIndependent, Filtering: AddressAndPortDependent,
		PortKept: !n.Remap, Hairpin: n.Hairpin, PortStays: n.Kind != PortRestricted || !n.OpenInput,
	}
	switch n.Kind {
	case FullCone:
		r.Filtering = EndpointIndependent
	case AddressRestricted:
		r.Filtering = AddressDependent
	case Symmetric:
		r.Mapping, r.PortKept, r.PortStays = AddressAndPortDependent, false, false
	}
	return r
}

// A MismatchError says that a router of the lab is not what its label says. It
// is the lab that is wrong then, and not what was to be tested in it.
type MismatchError struct {
	Router    string
	NAT       NAT
	Got, Want Report
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("lab: router %s (%v) is not what it is labelled: measured %v, want %v", e.Router, e.NAT, e.Got, e.Want)
}

// Verify probes all routers, and returns a MismatchError for each that is not
// what its NAT says.
func (l *Lab) Verify(ctx context.Context) error {
	l.mu.Lock()
	routers := slices.Clone(l.routers)
	l.mu.Unlock()
	var errs []error
	for _, r := range routers {
		errs = append(errs, r.Verify(ctx))
	}
	return errors.Join(errs...)
}

// Verify probes the router, and returns a MismatchError if it is not what its
// NAT says.
func (r *Router) Verify(ctx context.Context) error {
	got, err := r.Probe(ctx)
	if err != nil {
		return err
	}
	r.lab.mu.Lock()
	nat := r.nat
	if r.boots > 0 {
		nat.Remap = nat.Remap || nat.Kind != None
	}
	r.lab.mu.Unlock()
	if want := nat.expect(); got != want {
		return &MismatchError{r.name, nat, got, want}
	}
	return nil
}

// Probe measures the router by itself, with sockets behind it and in the network
// that its WAN is in. It takes a tenth of a second, and a second where UDP is
// blocked. Links of probed routers should lose nothing. Hosts of the lab's own
// are added on both sides for it.
func (r *Router) Probe(ctx context.Context) (Report, error) {
	var in, out *prober
	err := r.lab.locked(func() (err error) {
		if r.port == nil {
			return fmt.Errorf("it was not made")
		}
		if in, err = r.lan.needProber(); err == nil {
			out, err = r.port.net.needProber()
		}
		return err
	})
	var rep Report
	if err == nil {
		rep, err = probe(ctx, in, out)
	}
	if err != nil {
		return rep, fmt.Errorf("lab: probe %s: %w", r.name, err)
	}
	return rep, nil
}

// A prober is a host with two addresses.
type prober struct {
	node  *node
	addrs [2]netip.Addr
}

// needProber returns the network's prober, which is made when first needed.
func (n *network) needProber() (*prober, error) {
	if n.prober != nil {
		return n.prober, nil
	}
	nd, err := n.newNode("prober", "eth0", IPv4)
	if err != nil {
		return nil, err
	}
	if nd.extra, _, err = n.free(); err != nil {
		return nil, err
	}
	n.prober = &prober{nd, [2]netip.Addr{nd.addr4, nd.extra}}
	return n.prober, nd.configure()
}

// A probing is one run of a prober inside and one outside.
type probing struct {
	ctx     context.Context
	in, out *prober
	socks   []*socket
	rep     Report
}

// How long a packet that didn't come may take after one that was sent later.
// All are on one machine.
const grace = 30 * time.Millisecond

// How long to wait for a packet that may be lost, and how often to send it.
const (
	patience = 250 * time.Millisecond
	attempts = 4
)

func probe(ctx context.Context, in, out *prober) (Report, error) {
	p := &probing{ctx: ctx, in: in, out: out}
	defer func() {
		for _, s := range p.socks {
			s.conn.Close()
		}
	}()
	for _, step := range []func() error{p.probeMapping, p.probeFiltering, p.probeHairpin, p.probeStranger} {
		if err := step(); err != nil {
			return p.rep, err
		}
		if !p.rep.UDP {
			break
		}
	}
	return p.rep, nil
}

// servers returns sockets outside: two ports of one address, and another
// address with the first's port.
func (p *probing) servers() (a, otherPort, otherAddr *socket, err error) {
	if a, err = p.open(p.out, 0, 0); err != nil {
		return
	}
	if otherPort, err = p.open(p.out, 0, 0); err != nil {
		return
	}
	otherAddr, err = p.open(p.out, 1, a.addr.Port())
	return
}

// probeMapping compares how three destinations see a socket.
func (p *probing) probeMapping() error {
	a, otherPort, otherAddr, err := p.servers()
	if err != nil {
		return err
	}
	s, err := p.open(p.in, 0, 0)
	if err != nil {
		return err
	}
	first, err := p.seen(s, a)
	if err != nil {
		return err
	}
	if !first.IsValid() {
		p.rep.Rejected, err = p.rejected(a.addr)
		return err
	}
	second, err := p.seen(s, otherPort)
	if err != nil {
		return err
	}
	third, err := p.seen(s, otherAddr)
	if err != nil {
		return err
	}
	p.rep.UDP = true
	p.rep.Translated = first.Addr() != s.addr.Addr()
	p.rep.PortKept = first.Port() == s.addr.Port()
	switch {
	case first != second:
		p.rep.Mapping = AddressAndPortDependent
	case first != third:
		p.rep.Mapping = AddressDependent
	default:
		p.rep.Mapping = EndpointIndependent
	}
	return nil
}

// probeFiltering answers a socket from where it sent to and from elsewhere.
func (p *probing) probeFiltering() error {
	a, otherPort, otherAddr, err := p.servers()
	if err != nil {
		return err
	}
	s, err := p.open(p.in, 0, 0)
	if err != nil {
		return err
	}
	at, err := p.seen(s, a)
	if err != nil || !at.IsValid() {
		return err
	}
	came, err := p.arrive(s, at, otherAddr, otherPort, a)
	switch {
	case err != nil:
		return err
	case !came[2]:
		p.rep.Filtering = Unmeasured
	case came[0]:
		p.rep.Filtering = EndpointIndependent
	case came[1]:
		p.rep.Filtering = AddressDependent
	default:
		p.rep.Filtering = AddressAndPortDependent
	}
	return nil
}

// probeHairpin sends from one address inside to the public one of another.
func (p *probing) probeHairpin() error {
	a, _, _, err := p.servers()
	if err != nil {
		return err
	}
	s, err := p.open(p.in, 0, 0)
	if err != nil {
		return err
	}
	other, err := p.open(p.in, 1, 0)
	if err != nil {
		return err
	}
	at, err := p.seen(s, a)
	if err != nil || !at.IsValid() {
		return err
	}
	came, err := p.arrive(s, at, other, a)
	p.rep.Hairpin = err == nil && came[0]
	return err
}

// probeStranger has a packet come from outside before the socket sends there.
func (p *probing) probeStranger() error {
	known, stranger, _, err := p.servers()
	if err != nil {
		return err
	}
	s, err := p.open(p.in, 0, 0)
	if err != nil {
		return err
	}
	before, err := p.seen(s, known)
	if err != nil || !before.IsValid() {
		return err
	}
	if _, err := p.arrive(s, before, stranger, known); err != nil {
		return err
	}
	after, err := p.seen(s, stranger)
	p.rep.PortStays = before == after
	return err
}

// A socket is one of UDP, with an address that is known.
type socket struct {
	conn *net.UDPConn
	addr netip.AddrPort
}

func (p *probing) open(who *prober, which int, port uint16) (s *socket, err error) {
	err = who.node.Do(func() error {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(who.addrs[which], port)))
		if err != nil {
			return err
		}
		s = &socket{conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()}
		p.socks = append(p.socks, s)
		return nil
	})
	return s, err
}

// seen sends from one socket to another, and returns as whom the second sees the
// first, the zero AddrPort if nothing comes.
func (p *probing) seen(from, to *socket) (netip.AddrPort, error) {
	for range attempts {
		if err := p.ctx.Err(); err != nil {
			return netip.AddrPort{}, err
		}
		word := rand.Uint64()
		from.send(word, to.addr)
		deadline := time.Now().Add(patience)
		for {
			got, at, ok, err := to.receive(deadline)
			if err != nil {
				return at, err
			}
			if !ok {
				break
			}
			if got == word {
				return at, nil
			}
		}
	}
	return netip.AddrPort{}, nil
}

// arrive sends a packet from each of the senders to where a socket is seen, and
// tells whose came. When the last's did, those before it had their time.
func (p *probing) arrive(s *socket, at netip.AddrPort, senders ...*socket) ([]bool, error) {
	came := make([]bool, len(senders))
	first := rand.Uint64()
	for range attempts {
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		for i, sender := range senders {
			sender.send(first+uint64(i), at)
		}
		deadline := time.Now().Add(patience)
		for {
			word, _, ok, err := s.receive(deadline)
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			if i := word - first; i < uint64(len(came)) && !came[i] {
				came[i] = true
				if came[len(came)-1] {
					deadline = time.Now().Add(grace)
				}
			}
		}
		if came[len(came)-1] {
			break
		}
	}
	return came, nil
}

func (s *socket) send(word uint64, to netip.AddrPort) {
	// What the kernel says of an earlier packet is no reason not to send this.
	_, _ = s.conn.WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, word), to)
}

// receive returns the next packet, not ok if there is none until the deadline.
func (s *socket) receive(deadline time.Time) (word uint64, from netip.AddrPort, ok bool, err error) {
	buf := make([]byte, 64)
	s.conn.SetReadDeadline(deadline)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return 0, from, false, nil
		case err != nil:
			return 0, from, false, err
		case n == 8:
			return binary.BigEndian.Uint64(buf), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), true, nil
		}
	}
}

// rejected tells whether somebody who sends outside is told that he can't.
func (p *probing) rejected(to netip.AddrPort) (bool, error) {
	var conn *net.UDPConn
	err := p.in.node.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err = conn.Write([]byte("?")); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	var timeout net.Error
	return err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) && !strings.Contains(err.Error(), "closed"), nil
}
