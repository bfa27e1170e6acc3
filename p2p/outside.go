package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// How this node looks from outside it learns from peers, over a stream and by
// datagrams between its QUIC port and theirs. A datagram says nothing but a token that
// was agreed on over the stream, and what becomes of it is told over the stream: who
// is not a peer gets no answer, and a peer can have datagrams sent only to where
// its own connection comes from. docs/protocol.md has the exchange.

// sightProtocol is the exchange's name.
const sightProtocol = "/p2pnode/sight/1"

const (
	sightToken    = 16
	sightDatagram = 2 + sightToken
	sightMagic    = 0x20 // clear of the bit that all QUIC packets have (RFC 9000, section 17)

	// The second byte of a datagram: which of them it is.
	datagramMain    = 0 // to the peer's QUIC port
	datagramOther   = 1 // to its other port
	datagramHeard   = 2 // from a third port of it, to which none is ever sent
	datagramUnasked = 3 // from there, before any was sent to the peer

	// What the peer reports.
	reportMain  = 1
	reportOther = 2
	reportTCP   = 3

	// sightPatience bounds an exchange.
	sightPatience = 3 * time.Second

	// sightWait is how long a datagram that may be filtered is awaited, above the
	// round trip.
	sightWait = 300 * time.Millisecond

	// sightQuiet is longer than most NATs let in what comes from where something was
	// sent to, and less than a node takes to look again.
	sightQuiet = 3 * time.Minute

	maxSightMessage = 64
)

// sightSends is when a datagram is sent again: any may be lost.
var sightSends = []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, 700 * time.Millisecond}

// A sightRequest asks a peer to look.
type sightRequest struct {
	token   [sightToken]byte
	tcp     uint16         // this node's port, or 0
	unasked netip.AddrPort // where to send a datagram before any has come, or invalid
}

func (r sightRequest) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddBytes(r.token[:])
	b.AddUint16(r.tcp)
	addAddrPort(&b, r.unasked)
	return b.Bytes()
}

var errSight = errors.New("not a message of " + sightProtocol)

func parseSightRequest(data []byte) (r sightRequest, err error) {
	s := cryptobyte.String(data)
	if !s.CopyBytes(r.token[:]) || !s.ReadUint16(&r.tcp) || !readAddrPort(&s, &r.unasked) || !s.Empty() {
		return r, errSight
	}
	return r, nil
}

// A sightOffer is the peer's answer: the ports to send datagrams to.
type sightOffer struct{ main, other uint16 }

func (o sightOffer) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint16(o.main)
	b.AddUint16(o.other)
	return b.Bytes()
}

func parseSightOffer(data []byte) (o sightOffer, err error) {
	s := cryptobyte.String(data)
	if !s.ReadUint16(&o.main) || !s.ReadUint16(&o.other) || !s.Empty() {
		return o, errSight
	}
	return o, nil
}

// A sightReport is one thing that the peer saw.
type sightReport struct {
	kind uint8
	from netip.AddrPort // of a datagram
	ok   bool           // of TCP
}

func (r sightReport) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(r.kind)
	b.AddUint8(map[bool]uint8{true: 1}[r.ok])
	addAddrPort(&b, r.from)
	return b.Bytes()
}

func parseSightReport(data []byte) (r sightReport, err error) {
	s := cryptobyte.String(data)
	var ok uint8
	if !s.ReadUint8(&r.kind) || !s.ReadUint8(&ok) || ok > 1 || !readAddrPort(&s, &r.from) || !s.Empty() {
		return r, errSight
	}
	if r.kind < reportMain || r.kind > reportTCP || r.kind != reportTCP && !r.from.IsValid() {
		return r, errSight
	}
	r.ok = ok == 1
	return r, nil
}

// addAddrPort writes an address with its length before it, and its port; nothing
// but a length of zero if it is invalid.
func addAddrPort(b *cryptobyte.Builder, a netip.AddrPort) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) {
		if a.IsValid() {
			b.AddBytes(a.Addr().Unmap().AsSlice())
			b.AddUint16(a.Port())
		}
	})
}

func readAddrPort(s *cryptobyte.String, a *netip.AddrPort) bool {
	var in cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&in) {
		return false
	}
	if in.Empty() {
		*a = netip.AddrPort{}
		return true
	}
	ip := make([]byte, max(len(in)-2, 0))
	var port uint16
	if !in.CopyBytes(ip) || !in.ReadUint16(&port) {
		return false
	}
	addr, ok := netip.AddrFromSlice(ip)
	*a = netip.AddrPortFrom(addr, port)
	return ok && addr == addr.Unmap() && port != 0
}

// sendMessage writes a message with its length, two bytes, before it.
func sendMessage(w io.Writer, data []byte, err error) error {
	if err != nil {
		return err
	}
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(data) })
	framed, err := b.Bytes()
	if err != nil {
		return err
	}
	_, err = w.Write(framed)
	return err
}

// receiveMessage reads a message of at most so many bytes.
func receiveMessage(r io.Reader, most int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(head[0])<<8 | int(head[1])
	if n > most {
		return nil, fmt.Errorf("a message of %d bytes, more than %d", n, most)
	}
	data := make([]byte, n)
	_, err := io.ReadFull(r, data)
	return data, err
}

// An eye is a node's part in these exchanges, its own and its peers'.
type eye struct {
	node    *Node
	sockets []*eyeSocket // those of the QUIC listeners
	slots   chan struct{}
	looks   singleflight.Group // by peer

	mu      sync.Mutex
	tokens  map[[sightToken]byte]chan inDatagram
	sights  map[bool][]Sight          // by whether of IPv6
	changed chan struct{}             // closed and replaced when sights change
	last    map[peer.ID]*rate.Limiter // by who asks
	sent    map[netip.Addr]time.Time  // when a look at a peer there ended
}

type eyeSocket struct {
	net.PacketConn
	port uint16
	v6   bool
}

// An inDatagram is a datagram of an exchange.
type inDatagram struct {
	kind uint8
	from netip.AddrPort
}

// maxLooks bounds the exchanges that peers have asked for.
const maxLooks = 32

// lookEvery bounds how often one peer may ask, and lookBurst how often at once: it asks
// for another port before each try to punch a hole.
const (
	lookEvery = time.Second
	lookBurst = 4
)

func newEye(n *Node) *eye {
	return &eye{node: n, slots: make(chan struct{}, maxLooks), tokens: map[[sightToken]byte]chan inDatagram{}, sights: map[bool][]Sight{}, changed: make(chan struct{}), last: map[peer.ID]*rate.Limiter{}, sent: map[netip.Addr]time.Time{}}
}

// open starts to read datagrams from the sockets that the node listens on by QUIC.
func (e *eye) open() error {
	for _, addr := range e.node.kit.swarm.ListenAddresses() {
		if _, err := addr.ValueForProtocol(multiaddr.P_QUIC_V1); err != nil {
			continue
		}
		at, err := manet.ToNetAddr(addr.Decapsulate(quicSuffix))
		if err != nil {
			return err
		}
		udp := at.(*net.UDPAddr)
		conn, err := e.node.kit.quic.SharedNonQUICPacketConn("udp", udp)
		if err != nil {
			return fmt.Errorf("share %v: %w", addr, err)
		}
		s := &eyeSocket{conn, uint16(udp.Port), udp.IP.To4() == nil}
		e.sockets = append(e.sockets, s)
		e.node.start(func() { e.read(s) })
	}
	return nil
}

func (e *eye) close() {
	for _, s := range e.sockets {
		_ = s.Close()
	}
}

// read takes datagrams to those who wait for them. All else is noise.
func (e *eye) read(s net.PacketConn) {
	var buf [sightDatagram + 1]byte
	for {
		n, from, err := s.ReadFrom(buf[:])
		if err != nil {
			return
		}
		e.arrive(buf[:n], from)
	}
}

func (e *eye) arrive(data []byte, from net.Addr) {
	udp, ok := from.(*net.UDPAddr)
	if !ok || len(data) != sightDatagram || data[0] != sightMagic {
		return
	}
	e.mu.Lock()
	wait := e.tokens[[sightToken]byte(data[2:])]
	e.mu.Unlock()
	if wait == nil {
		return
	}
	at := udp.AddrPort()
	select {
	case wait <- inDatagram{data[1], netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())}:
	default:
	}
}

// expect has datagrams with a token sent to a channel.
func (e *eye) expect(token [sightToken]byte) (_ <-chan inDatagram, forget func()) {
	wait := make(chan inDatagram, 16)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tokens[token] = wait
	return wait, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.tokens, token)
	}
}

func (e *eye) socket(v6 bool) *eyeSocket {
	i := slices.IndexFunc(e.sockets, func(s *eyeSocket) bool { return s.v6 == v6 })
	if i < 0 {
		return nil
	}
	return e.sockets[i]
}

// tcpPort returns the TCP port that the node listens at by IPv4 or IPv6, or 0.
func (e *eye) tcpPort(v6 bool) uint16 {
	for _, addr := range e.node.kit.swarm.ListenAddresses() {
		at, err := manet.ToNetAddr(addr)
		if tcp, ok := at.(*net.TCPAddr); err == nil && ok && (tcp.IP.To4() == nil) == v6 {
			return uint16(tcp.Port)
		}
	}
	return 0
}

func datagram(kind uint8, token [sightToken]byte) []byte {
	return append([]byte{sightMagic, kind}, token[:]...)
}

// ipOf returns the IP address of a connection's other end.
func ipOf(c network.Conn) (netip.Addr, bool) {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

// lookOnce is look, once for all who ask at the same time.
func (e *eye) lookOnce(ctx context.Context, c network.Conn) error {
	result := e.looks.DoChan(string(c.RemotePeer()), func() (any, error) { return e.look(e.node.life, c) })
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// look asks a peer how it sees this node, over a connection to it.
func (e *eye) look(ctx context.Context, c network.Conn) (Sight, error) {
	ctx, cancel := context.WithTimeout(ctx, sightPatience)
	defer cancel()
	ip, _ := ipOf(c)
	sight, err := e.ask(ctx, c, e.socket(ip.Is6()), false)
	if err != nil {
		return sight, err
	}
	sight.Peer, sight.At = c.RemotePeer(), time.Now()
	e.mu.Lock()
	e.sent[ip] = sight.At
	for _, before := range e.sights[ip.Is6()] {
		if before.Peer == sight.Peer && sight.Unasked == Unknown {
			sight.Unasked = before.Unasked
		}
	}
	e.sights[ip.Is6()] = addSight(e.sights[ip.Is6()], sight, sight.At)
	e.mu.Unlock()
	return sight, nil
}

// where asks a peer where another socket of this node comes out.
func (e *eye) where(ctx context.Context, c network.Conn, socket *eyeSocket) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, glancePatience)
	defer cancel()
	sight, err := e.ask(ctx, c, socket, true)
	if err == nil && !sight.External.IsValid() {
		err = fmt.Errorf("peer %v saw nothing", c.RemotePeer())
	}
	return sight.External, err
}

// ask asks a peer what it sees of a socket, over a connection to it.
func (e *eye) ask(ctx context.Context, c network.Conn, socket *eyeSocket, onlyWhere bool) (Sight, error) {
	ip, ok := ipOf(c)
	if !ok || pathTo(c.RemoteMultiaddr()) == PathRelay {
		return Sight{}, fmt.Errorf("peer %v has no address of its own", c.RemotePeer())
	}
	s, err := e.node.openPlain(ctx, c, sightProtocol)
	if err != nil {
		return Sight{}, err
	}
	defer s.Close()
	defer endWith(ctx, s)()
	sight, err := e.exchange(ctx, s, ip, socket, onlyWhere)
	if err != nil {
		s.Reset()
		return sight, fmt.Errorf("ask peer %v how it sees this node: %w", c.RemotePeer(), orCause(ctx, err))
	}
	return sight, nil
}

// quiet tells whether nothing has gone to an IP address from the node's QUIC port for
// so long that what comes from there comes unasked.
func (e *eye) quiet(ip netip.Addr) bool {
	for _, c := range e.node.kit.swarm.Conns() {
		if at, ok := ipOf(c); ok && at == ip && isQUIC(c.RemoteMultiaddr()) {
			return false
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sent) > maxMeters {
		clear(e.sent)
	}
	return time.Since(e.sent[ip]) > sightQuiet
}

// exchange is the asking end's part. If that is asked for it finds out only from where
// the socket's datagrams come.
func (e *eye) exchange(ctx context.Context, s *Stream, ip netip.Addr, socket *eyeSocket, onlyWhere bool) (sight Sight, err error) {
	sight.Peer, sight.At = s.Peer(), time.Now()
	var request sightRequest
	if _, err := rand.Read(request.token[:]); err != nil {
		return sight, err
	}
	if !onlyWhere {
		request.tcp = e.tcpPort(ip.Is6())
	}
	if known := e.nat(ip.Is6()); !onlyWhere && socket != nil && known.External.IsValid() && known.Mapping != MappingNone && e.quiet(ip) {
		request.unasked = known.External
	}
	arrivals, forget := e.expect(request.token)
	defer forget()
	data, err := request.marshal()
	began := time.Now()
	if err := sendMessage(s, data, err); err != nil {
		return sight, err
	}
	if data, err = receiveMessage(s, maxSightMessage); err != nil {
		return sight, err
	}
	offer, err := parseSightOffer(data)
	if err != nil {
		return sight, err
	}
	l := &looking{
		eye: e, onlyWhere: onlyWhere, socket: socket, token: request.token, ip: ip, offer: offer,
		rtt: time.Since(began), arrivals: arrivals, reports: make(chan sightReport, 4), sight: &sight,
	}
	if request.unasked.IsValid() {
		sight.Unasked = No
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		l.read(s)
	}()
	l.run(ctx)
	_ = s.SetDeadline(time.Unix(1, 0))
	<-read
	return sight, nil
}

// looking is one exchange, at the end that asked.
type looking struct {
	eye       *eye
	onlyWhere bool
	socket    *eyeSocket
	token     [sightToken]byte
	ip        netip.Addr
	offer     sightOffer
	rtt       time.Duration
	arrivals  <-chan inDatagram
	reports   chan sightReport
	sight     *Sight
}

// read takes reports in, until the peer sends something else or more than there are.
func (l *looking) read(s io.Reader) {
	for {
		data, err := receiveMessage(s, maxSightMessage)
		if err != nil {
			return
		}
		r, err := parseSightReport(data)
		if err != nil {
			return
		}
		select {
		case l.reports <- r:
		default:
			return
		}
	}
}

// run sends datagrams to two ports of the peer until it reports both, and waits
// whether one comes from a third.
func (l *looking) run(ctx context.Context) {
	sends, began := sightSends, time.Now()
	if l.socket == nil || l.offer.main == 0 {
		sends = nil
	}
	next := time.After(0)
	var heard <-chan time.Time
	for !l.over() {
		if len(sends) == 0 {
			next = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
			l.send()
			if sends = sends[1:]; len(sends) > 0 {
				next = time.After(time.Until(began.Add(sends[0])))
			}
		case a := <-l.arrivals:
			switch a.kind {
			case datagramHeard:
				l.sight.Heard = Yes
			case datagramUnasked:
				l.sight.Unasked = Yes
			}
		case r := <-l.reports:
			l.take(r)
			if r.kind == reportMain && heard == nil {
				heard = time.After(l.rtt + sightWait)
			}
		case <-heard:
			if l.sight.Heard == Unknown {
				l.sight.Heard = No
			}
		}
	}
}

// over tells whether nothing more is to be found out.
func (l *looking) over() bool {
	if l.onlyWhere {
		return l.sight.External.IsValid()
	}
	return l.sight.External.IsValid() && l.sight.Other.IsValid() && l.sight.Heard != Unknown && l.sight.TCP != Unknown
}

// send sends a datagram to each port of which none has been reported.
func (l *looking) send() {
	for _, to := range []struct {
		kind uint8
		port uint16
		seen netip.AddrPort
	}{{datagramMain, l.offer.main, l.sight.External}, {datagramOther, l.offer.other, l.sight.Other}} {
		if to.port != 0 && !to.seen.IsValid() {
			_, _ = l.socket.WriteTo(datagram(to.kind, l.token), net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.ip, to.port)))
		}
	}
}

// take takes in what the peer reports. Where this node's datagrams come from others may
// be waiting to know.
func (l *looking) take(r sightReport) {
	switch r.kind {
	case reportMain:
		if !l.sight.External.IsValid() {
			l.sight.External = r.from
		}
	case reportOther:
		l.sight.Other = r.from
	case reportTCP:
		l.sight.TCP = verdict(r.ok)
	}
	if !l.onlyWhere && l.sight.External.IsValid() && l.sight.Other.IsValid() {
		l.eye.keep(*l.sight, l.ip.Is6())
	}
}

// keep keeps what a peer has seen, for now.
func (e *eye) keep(s Sight, v6 bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sights[v6] = addSight(e.sights[v6], s, s.At)
	close(e.changed)
	e.changed = make(chan struct{})
}

// nat returns what is known of one family.
func (e *eye) nat(v6 bool) NAT {
	e.mu.Lock()
	sights := slices.Clone(e.sights[v6])
	e.mu.Unlock()
	now := time.Now()
	sights = slices.DeleteFunc(sights, func(s Sight) bool { return now.Sub(s.At) > sightHolds })
	return judgeNAT(sights, func(a netip.AddrPort) bool { return e.node.isOwn(a.Addr()) })
}

// forget drops what was seen, since the network has changed.
func (e *eye) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.sights)
}

// serve answers peers that ask.
func (e *eye) serve(l *Listener) {
	for {
		s, err := l.AcceptStream()
		if err != nil {
			return
		}
		e.node.start(func() {
			if err := e.answer(s); err != nil {
				s.Reset()
				e.node.log.Debug("look at a peer", "peer", s.Peer(), "err", err)
				return
			}
			_ = s.Close()
		})
	}
}

// mayLook tells whether a peer may ask now, and takes a slot.
func (e *eye) mayLook(id peer.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.last) > maxMeters {
		clear(e.last)
	}
	often := e.last[id]
	if often == nil {
		often = rate.NewLimiter(rate.Every(lookEvery), lookBurst)
		e.last[id] = often
	}
	if !often.Allow() {
		return false
	}
	select {
	case e.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

var errLooksTooOften = errors.New("asks too often")

// answer is the part of the peer that was asked.
func (e *eye) answer(s *Stream) error {
	if !e.mayLook(s.Peer()) {
		return errLooksTooOften
	}
	defer func() { <-e.slots }()
	ctx, cancel := context.WithTimeout(e.node.life, sightPatience)
	defer cancel()
	stop := endWith(ctx, s)
	defer stop()
	seen, ok := s.RemoteIP()
	if !ok {
		return fmt.Errorf("%v has no address of its own", s.Peer())
	}
	data, err := receiveMessage(s, maxSightMessage)
	if err != nil {
		return err
	}
	request, err := parseSightRequest(data)
	if err != nil {
		return err
	}
	w := &watching{eye: e, seen: seen, request: request, stream: s, socket: e.socket(seen.Is6())}
	return w.run(ctx)
}

// watching is one exchange, at the end that was asked.
type watching struct {
	eye     *eye
	seen    netip.Addr // where the peer's connection comes from: nobody else is sent anything
	request sightRequest
	stream  *Stream
	socket  *eyeSocket

	mu sync.Mutex // held while writing
}

func (w *watching) report(r sightReport) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, err := r.marshal()
	return sendMessage(w.stream, data, err)
}

func (w *watching) run(ctx context.Context) error {
	arrivals, forget := w.eye.expect(w.request.token)
	defer forget()
	var offer sightOffer
	var other, third net.PacketConn
	if w.socket != nil {
		var err error
		if other, err = net.ListenPacket("udp", net.JoinHostPort(unspecifiedFor(w.seen), "0")); err != nil {
			return err
		}
		defer other.Close()
		// What comes to a router from a port may take the mapping to that port, so
		// the peer sends nothing to where this comes from.
		if third, err = net.ListenPacket("udp", net.JoinHostPort(unspecifiedFor(w.seen), "0")); err != nil {
			return err
		}
		defer third.Close()
		if u := w.request.unasked; u.IsValid() && u.Addr() == w.seen {
			w.send(third, datagramUnasked, u)
		}
		offer = sightOffer{w.socket.port, uint16(other.LocalAddr().(*net.UDPAddr).Port)}
		w.eye.node.start(func() { w.eye.read(other) })
	}
	data, err := offer.marshal()
	if err := sendMessage(w.stream, data, err); err != nil {
		return err
	}
	if w.request.tcp != 0 {
		w.eye.node.start(func() { _ = w.report(sightReport{kind: reportTCP, ok: w.connect(ctx)}) })
	}
	hungUp := make(chan struct{})
	w.eye.node.start(func() {
		defer close(hungUp)
		_, _ = io.CopyN(io.Discard, w.stream, maxSightMessage)
	})
	var main, alt bool
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hungUp:
			return nil
		case a := <-arrivals:
			var err error
			switch {
			case a.kind == datagramMain && !main:
				main = true
				err = w.report(sightReport{kind: reportMain, from: a.from})
				if a.from.Addr() == w.seen {
					w.send(third, datagramHeard, a.from)
				}
			case a.kind == datagramOther && !alt:
				alt = true
				err = w.report(sightReport{kind: reportOther, from: a.from})
			}
			if err != nil {
				return err
			}
		}
	}
}

// send sends a datagram twice.
func (w *watching) send(from net.PacketConn, kind uint8, to netip.AddrPort) {
	for range 2 {
		_, _ = from.WriteTo(datagram(kind, w.request.token), net.UDPAddrFromAddrPort(to))
	}
}

// connect tells whether the peer's TCP port can be reached from here.
func (w *watching) connect(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, sightPatience/2)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(w.seen, w.request.tcp).String())
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func unspecifiedFor(a netip.Addr) string {
	if a.Is6() {
		return "::"
	}
	return "0.0.0.0"
}

// isOwn tells whether an address is this machine's.
func (n *Node) isOwn(a netip.Addr) bool { return n.around.own(a) }
