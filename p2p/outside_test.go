package p2p

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
)

// loopbackIsOutside has a node take loopback for the Internet.
func loopbackIsOutside(a multiaddr.Multiaddr) bool { return pathTo(a) != PathRelay && !isDNS(a) }

// both is where to listen by TCP and QUIC.
var both = addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1")

// newOutsideNode runs a node for which loopback is the Internet. It listens by TCP and
// QUIC if c does not say where.
func newOutsideNode(t testing.TB, c Config) *Node {
	t.Helper()
	return newNodeWithOutside(t, c, loopbackIsOutside)
}

func newNodeWithOutside(t testing.TB, c Config, outside func(multiaddr.Multiaddr) bool) *Node {
	t.Helper()
	if c.Listen == nil {
		c.Listen = both
	}
	c, err := c.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	n, err := newNode(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	n.outside = outside
	if err := errors.Join(n.listen(c), n.goOut(c)); err != nil {
		t.Fatal(err)
	}
	return n
}

// instead has a node's part in a protocol played by somebody else.
func instead(t testing.TB, n *Node, proto string, act func(*Stream)) {
	t.Helper()
	n.mu.Lock()
	l := n.listeners[proto]
	n.mu.Unlock()
	l.Close()
	l, err := n.Listen(proto)
	if err != nil {
		t.Fatal(err)
	}
	n.start(func() {
		for {
			s, err := l.AcceptStream()
			if err != nil {
				return
			}
			n.start(func() { act(s) })
		}
	})
}

// A bystander is a UDP socket to which nobody has reason to send.
type bystander struct {
	net.PacketConn
	got chan int // after stop, how many datagrams came
}

func newBystander(t testing.TB, ip string) *bystander {
	t.Helper()
	c, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bystander{c, make(chan int, 1)}
	go func() {
		n, mark := 0, []byte("that was all")
		for buf := make([]byte, 2048); ; {
			k, _, err := c.ReadFrom(buf)
			if err != nil || bytes.Equal(buf[:k], mark) {
				break
			}
			n++
		}
		b.got <- n
	}()
	t.Cleanup(func() { c.Close() })
	return b
}

func (b *bystander) at() netip.AddrPort { return b.LocalAddr().(*net.UDPAddr).AddrPort() }

// stop returns how many datagrams came. What was sent before is among them: loopback
// keeps the order.
func (b *bystander) stop(t testing.TB) int {
	t.Helper()
	c, err := net.Dial("udp", b.at().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("that was all")); err != nil {
		t.Fatal(err)
	}
	return <-b.got
}

func connected(t testing.TB, from, to *Node) {
	t.Helper()
	if err := from.Connect(testContext(t), to.ID(), directOf(to)...); err != nil {
		t.Fatal(err)
	}
}

func directOf(n *Node) (out []multiaddr.Multiaddr) {
	for _, a := range n.Addrs() {
		if pathTo(a) != PathRelay {
			out = append(out, a)
		}
	}
	return out
}

var (
	aToken    = [sightToken]byte{0: 1, 15: 0xff}
	someAddr4 = netip.MustParseAddrPort("203.0.113.7:4001")
	someAddr6 = netip.MustParseAddrPort("[2001:db8::7]:4001")
)

// sightMessages are all forms of all messages.
var sightMessages = []struct {
	name    string
	marshal func() ([]byte, error)
	parse   func([]byte) (any, error)
	want    any
}{
	{"request", sightRequest{token: aToken, tcp: 4001}.marshal, anySight(parseSightRequest), sightRequest{token: aToken, tcp: 4001}},
	{"request, unasked", sightRequest{aToken, 0, someAddr4}.marshal, anySight(parseSightRequest), sightRequest{aToken, 0, someAddr4}},
	{"request, unasked by IPv6", sightRequest{aToken, 1, someAddr6}.marshal, anySight(parseSightRequest), sightRequest{aToken, 1, someAddr6}},
	{"offer", sightOffer{4001, 50000}.marshal, anySight(parseSightOffer), sightOffer{4001, 50000}},
	{"report of main", sightReport{kind: reportMain, from: someAddr4}.marshal, anySight(parseSightReport), sightReport{kind: reportMain, from: someAddr4}},
	{"report of other", sightReport{kind: reportOther, from: someAddr6}.marshal, anySight(parseSightReport), sightReport{kind: reportOther, from: someAddr6}},
	{"report of TCP", sightReport{kind: reportTCP, ok: true}.marshal, anySight(parseSightReport), sightReport{kind: reportTCP, ok: true}},
	{"report of no TCP", sightReport{kind: reportTCP}.marshal, anySight(parseSightReport), sightReport{kind: reportTCP}},
}

func anySight[T any](parse func([]byte) (T, error)) func([]byte) (any, error) {
	return func(data []byte) (any, error) { return parse(data) }
}

func TestSightMessages(t *testing.T) {
	for _, tt := range sightMessages {
		t.Run(tt.name, func(t *testing.T) {
			data, err := tt.marshal()
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > maxSightMessage {
				t.Errorf("it has %d bytes, more than %d", len(data), maxSightMessage)
			}
			if got, err := tt.parse(data); err != nil || got != tt.want {
				t.Errorf("parse(%x) = %+v, %v, want %+v", data, got, err, tt.want)
			}
			for i := range data {
				_, err := tt.parse(data[:i])
				checkIs(t, "parse of it cut short", err, errSight)
			}
			_, err = tt.parse(append(data, 0))
			checkIs(t, "parse of it with one byte more", err, errSight)
		})
	}
}

func TestSightMessagesRefused(t *testing.T) {
	token := string(aToken[:])
	for _, tt := range []struct {
		name  string
		parse func([]byte) (any, error)
		data  string
	}{
		{"an address of 3 bytes", anySight(parseSightRequest), token + "\x00\x00\x05\x01\x02\x03\x0f\xa1"},
		{"an address of 5 bytes", anySight(parseSightRequest), token + "\x00\x00\x07\x01\x02\x03\x04\x05\x0f\xa1"},
		{"an address without a port", anySight(parseSightRequest), token + "\x00\x00\x04\x01\x02\x03\x04"},
		{"an address of one byte", anySight(parseSightRequest), token + "\x00\x00\x01\x01"},
		{"port 0", anySight(parseSightRequest), token + "\x00\x00\x06\x01\x02\x03\x04\x00\x00"},
		{"a length beyond the end", anySight(parseSightRequest), token + "\x00\x00\xff\x01\x02\x03\x04\x0f\xa1"},
		{"IPv4 as IPv6", anySight(parseSightRequest), token + "\x00\x00\x12" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x0f\xa1"},
		{"kind 0", anySight(parseSightReport), "\x00\x00\x06\x01\x02\x03\x04\x0f\xa1"},
		{"kind 4", anySight(parseSightReport), "\x04\x00\x06\x01\x02\x03\x04\x0f\xa1"},
		{"neither yes nor no", anySight(parseSightReport), "\x03\x02\x00"},
		{"a datagram from nowhere", anySight(parseSightReport), "\x01\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.parse([]byte(tt.data))
			checkIs(t, "parse", err, errSight)
		})
	}
}

func TestReceiveMessage(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		most     int
		want     string
		err      error // nil if any will do
		fails    bool
	}{
		{"of nothing", "\x00\x00", 4, "", nil, false},
		{"as long as may be", "\x00\x04word", 4, "word", nil, false},
		{"too long", "\x00\x05words", 4, "", nil, true},
		{"far too long", "\xff\xff", 4, "", nil, true},
		{"cut short", "\x00\x04wor", 4, "", io.ErrUnexpectedEOF, true},
		{"half a length", "\x00", 4, "", io.ErrUnexpectedEOF, true},
		{"none", "", 4, "", io.EOF, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := receiveMessage(bytes.NewReader([]byte(tt.in)), tt.most)
			if (err != nil) != tt.fails || err == nil && string(got) != tt.want || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("receiveMessage = %q, %v, want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
	var out bytes.Buffer
	if err := sendMessage(&out, []byte("word"), nil); err != nil || out.String() != "\x00\x04word" {
		t.Errorf("sendMessage wrote %q, %v, want %q", out.String(), err, "\x00\x04word")
	}
	checkIs(t, "sendMessage of what could not be made", sendMessage(&out, nil, io.ErrNoProgress), io.ErrNoProgress)
	if err := sendMessage(&out, make([]byte, 1<<16), nil); err == nil {
		t.Error("sendMessage of 64 KiB = nil, want an error")
	}
}

// fuzzSight checks that what is read is written the same, but for the sender's use of
// bits that say nothing.
func fuzzSight[T interface {
	comparable
	marshal() ([]byte, error)
}](f *testing.F, parse func([]byte) (T, error)) {
	for _, m := range sightMessages {
		data, err := m.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parse(data)
		if err != nil {
			checkIs(t, "parse", err, errSight)
			return
		}
		again, err := got.marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("parse(%x) = %+v, which is written %x, %v", data, got, again, err)
		}
	})
}

func FuzzSightRequest(f *testing.F) { fuzzSight(f, parseSightRequest) }
func FuzzSightOffer(f *testing.F)   { fuzzSight(f, parseSightOffer) }
func FuzzSightReport(f *testing.F)  { fuzzSight(f, parseSightReport) }

func TestLook(t *testing.T) {
	a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
	connected(t, a, b)
	sight, err := a.eye.look(testContext(t), a.bestConn(b.ID()))
	if err != nil {
		t.Fatal(err)
	}
	socket := a.eye.socket(false)
	here := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), socket.port)
	if sight.Peer != b.ID() || sight.At.IsZero() || sight.External != here || sight.Other != here || sight.Heard != Yes || sight.TCP != Yes {
		t.Errorf("look = %+v, want it from %v, heard, by TCP too", sight, here)
	}
	nat := a.eye.nat(false)
	if nat.Mapping != MappingNone || nat.UDP != Yes || nat.TCP != Yes || nat.External != here {
		t.Errorf("nat = %+v, want no NAT, UDP and TCP, at %v", nat, here)
	}
	if other := a.eye.nat(true); other.UDP != Unknown || len(other.Seen) > 0 {
		t.Errorf("nat of IPv6 = %+v, want nothing known", other)
	}
	until(t, "no token is left", func() bool { return tokens(a.eye)+tokens(b.eye) == 0 })
}

func tokens(e *eye) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.tokens)
}

// The port that is asked about is that of TCP, of the family, whatever else the node
// listens at.
func TestTCPPort(t *testing.T) {
	for _, tt := range []struct {
		name, listen string
		v4, v6       bool
	}{
		{"TCP", "/ip4/127.0.0.1/tcp/0", true, false},
		{"TCP by IPv6", "/ip6/::1/tcp/0", false, true},
		{"QUIC", "/ip4/127.0.0.1/udp/0/quic-v1", false, false},
	} {
		n := newTestNode(t, Config{Listen: addrs(tt.listen)})
		for v6, want := range map[bool]bool{false: tt.v4, true: tt.v6} {
			port := uint16(0)
			if want {
				port = n.Port()
			}
			if got := n.eye.tcpPort(v6); got != port {
				t.Errorf("%s: tcpPort(%v) = %d, want %d", tt.name, v6, got, port)
			}
		}
	}
}

// Where not all can be found out, what is then known.
func TestLookThatCannotBe(t *testing.T) {
	t.Run("without QUIC here", func(t *testing.T) {
		a, b := newTestNode(t, Config{}), newTestNode(t, Config{Listen: both})
		connected(t, a, b)
		ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
		defer cancel()
		sight, err := a.eye.look(ctx, a.bestConn(b.ID()))
		if err != nil || sight.External.IsValid() || sight.Heard == Yes || sight.TCP != Yes {
			t.Errorf("look = %+v, %v, want nothing of UDP, and TCP", sight, err)
		}
	})
	t.Run("a peer which listens for it no more", func(t *testing.T) {
		a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
		connected(t, a, b)
		instead(t, b, sightProtocol, func(s *Stream) { s.Reset() })
		_, err := a.eye.look(testContext(t), a.bestConn(b.ID()))
		checkIs(t, "look", err, ErrReset)
		if nat := a.eye.nat(false); len(nat.Seen) > 0 {
			t.Errorf("nat = %+v, want nothing known", nat)
		}
	})
}

func TestWhoAsksTooOftenIsRefused(t *testing.T) {
	a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
	connected(t, a, b)
	if _, err := a.eye.look(testContext(t), a.bestConn(b.ID())); err != nil {
		t.Fatal(err)
	}
	b.eye.mu.Lock()
	b.eye.last[a.ID()] = rate.NewLimiter(0, 0) // however slow this machine is
	b.eye.mu.Unlock()
	_, err := a.eye.look(testContext(t), a.bestConn(b.ID()))
	checkIs(t, "second look within a second", err, ErrReset)
	if got := len(b.eye.slots); got != 0 {
		t.Errorf("%d slots are taken after all have ended, want 0", got)
	}
}

func TestNoMoreThanSoManyLooks(t *testing.T) {
	a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
	connected(t, a, b)
	for range maxLooks {
		b.eye.slots <- struct{}{}
	}
	_, err := a.eye.look(testContext(t), a.bestConn(b.ID()))
	checkIs(t, "look while there are enough", err, ErrReset)
}

// A peer can have nobody sent anything but itself.
func TestUnaskedIsSentToThePeerAlone(t *testing.T) {
	for _, tt := range []struct {
		name, ip string
		want     int
	}{
		{"somebody else's address", "127.0.0.2", 0},
		{"its own address", "127.0.0.1", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
			connected(t, a, b)
			victim := newBystander(t, tt.ip)
			s, err := a.Dial(testContext(t), b.ID(), sightProtocol)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			ask, err := sightRequest{token: aToken, unasked: victim.at()}.marshal()
			if err := sendMessage(s, ask, err); err != nil {
				t.Fatal(err)
			}
			if _, err := receiveMessage(s, maxSightMessage); err != nil { // by then it was sent
				t.Fatal(err)
			}
			if got := victim.stop(t); got != tt.want {
				t.Errorf("%d datagrams came to the address, want %d", got, tt.want)
			}
		})
	}
}

// A datagram with the right token that comes from elsewhere is reported, and not
// answered there.
func TestDatagramFromElsewhereIsNotAnswered(t *testing.T) {
	a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
	connected(t, a, b)
	victim := newBystander(t, "127.0.0.2")
	s, err := a.Dial(testContext(t), b.ID(), sightProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	offer := askForSight(t, s)
	if _, err := victim.WriteTo(datagram(datagramMain, aToken), loopbackUDP(offer.main)); err != nil {
		t.Fatal(err)
	}
	data, err := receiveMessage(s, maxSightMessage)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := parseSightReport(data); err != nil || r.kind != reportMain || r.from != victim.at() {
		t.Errorf("report = %+v, %v, want one of %v", r, err, victim.at())
	}
	if _, err := victim.WriteTo(datagram(datagramOther, aToken), loopbackUDP(offer.other)); err != nil {
		t.Fatal(err)
	}
	if _, err := receiveMessage(s, maxSightMessage); err != nil { // after what might have been an answer
		t.Fatal(err)
	}
	if got := victim.stop(t); got != 0 {
		t.Errorf("%d datagrams came to where one was sent from, want none", got)
	}
}

func askForSight(t testing.TB, s *Stream) sightOffer {
	t.Helper()
	ask, err := sightRequest{token: aToken}.marshal()
	if err := sendMessage(s, ask, err); err != nil {
		t.Fatal(err)
	}
	data, err := receiveMessage(s, maxSightMessage)
	if err != nil {
		t.Fatal(err)
	}
	offer, err := parseSightOffer(data)
	if err != nil || offer.main == 0 || offer.other == 0 {
		t.Fatalf("offer = %+v, %v, want two ports", offer, err)
	}
	return offer
}

func loopbackUDP(port uint16) *net.UDPAddr {
	return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}
}

func TestDatagramsThatSayNothing(t *testing.T) {
	token, other := aToken, [sightToken]byte{1: 1}
	from := &net.UDPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 4001}
	for _, tt := range []struct {
		name string
		data []byte
		from net.Addr
		want int
	}{
		{"the right one", datagram(datagramMain, token), from, 1},
		{"of a token that nobody waits for", datagram(datagramMain, other), from, 0},
		{"too short", datagram(datagramMain, token)[:sightDatagram-1], from, 0},
		{"too long", append(datagram(datagramMain, token), 0), from, 0},
		{"nothing", nil, from, 0},
		{"what opens the way", []byte{sightMagic}, from, 0},
		{"another first byte", append([]byte{sightMagic + 1}, datagram(datagramMain, token)[1:]...), from, 0},
		{"not by UDP", datagram(datagramMain, token), &net.IPAddr{IP: from.IP}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEye(nil)
			wait, forget := e.expect(token)
			e.arrive(tt.data, tt.from)
			if got := len(wait); got != tt.want {
				t.Errorf("%d datagrams arrive, want %d", got, tt.want)
			}
			forget()
			for range 100 { // nobody waits, and nothing hangs
				e.arrive(tt.data, tt.from)
			}
			if len(wait) != tt.want || len(e.tokens) != 0 {
				t.Errorf("%d datagrams arrive after all, want none more", len(wait)-tt.want)
			}
		})
	}
	e := newEye(nil)
	wait, _ := e.expect(token)
	for range 1000 {
		e.arrive(datagram(datagramMain, token), from)
	}
	if len(wait) != cap(wait) {
		t.Errorf("%d datagrams of 1000 wait, want %d", len(wait), cap(wait))
	}
}

// The peer that is asked may do what it likes: it takes no longer than sightPatience,
// and says nothing but of itself.
func TestPeerThatIsAskedMisbehaves(t *testing.T) {
	report := func(from netip.AddrPort, kind uint8) []byte {
		data, err := sightReport{kind: kind, from: from}.marshal()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	offerNothing := []byte{0, 0, 0, 0}
	for _, tt := range []struct {
		name string
		act  func(*Stream)
		err  bool
	}{
		{"nothing", func(s *Stream) { _, _ = io.Copy(io.Discard, s) }, true},
		{"garbage", func(s *Stream) { _, _ = s.Write(bytes.Repeat([]byte{0x5a}, 1<<16)) }, true},
		{"an offer of the wrong length", func(s *Stream) { _ = sendMessage(s, []byte{0, 0, 0}, nil) }, true},
		{"an offer, then nothing", func(s *Stream) {
			_ = sendMessage(s, offerNothing, nil)
			_, _ = io.Copy(io.Discard, s)
		}, false},
		{"an offer, then the end", func(s *Stream) {
			_ = sendMessage(s, offerNothing, nil)
			_ = s.Close()
		}, false},
		{"an offer, then garbage", func(s *Stream) {
			_ = sendMessage(s, offerNothing, nil)
			_, _ = s.Write(bytes.Repeat([]byte{0x5a}, 1<<16))
		}, false},
		{"1000 reports", func(s *Stream) {
			_ = sendMessage(s, offerNothing, nil)
			for range 1000 {
				_ = sendMessage(s, report(someAddr4, reportMain), nil)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
			connected(t, a, b)
			instead(t, b, sightProtocol, tt.act)
			began := time.Now()
			_, err := a.eye.look(testContext(t), a.bestConn(b.ID()))
			if (err != nil) != tt.err {
				t.Errorf("look = %v, want an error: %v", err, tt.err)
			}
			if took := time.Since(began); took > sightPatience+patience/6 {
				t.Errorf("look took %v, want about %v at most", took, sightPatience)
			}
			if nat := a.eye.nat(false); len(nat.Seen) > 1 {
				t.Errorf("one peer is taken for %d", len(nat.Seen))
			}
			if got := tokens(a.eye); got > 0 {
				t.Errorf("%d tokens are left, want none", got)
			}
		})
	}
}

// The peer that asks may do what it likes, too.
func TestPeerThatAsksMisbehaves(t *testing.T) {
	for _, tt := range []struct {
		name string
		send []byte
	}{
		{"garbage", bytes.Repeat([]byte{0x5a}, 1<<12)},
		{"a message of the wrong length", []byte{0, 3, 1, 2, 3}},
		{"the start of a message that is too long", []byte{0xff, 0xff, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
			connected(t, a, b)
			s, err := a.Dial(testContext(t), b.ID(), sightProtocol)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			_, _ = s.Write(tt.send) // it may be reset before all is sent
			_, err = io.ReadAll(s)
			checkIs(t, "Read", err, ErrReset)
			until(t, "its slot is free again", func() bool { return len(b.eye.slots) == 0 })
		})
	}
}

// Who is no peer and sends to the port gets no answer, whatever it sends but QUIC.
func TestStrangersDatagramsGetNoAnswer(t *testing.T) {
	n := newTestNode(t, Config{Listen: both})
	port := n.eye.socket(false).port
	stranger := newBystander(t, "127.0.0.1")
	var sent [][]byte
	for kind := range uint8(5) {
		sent = append(sent, datagram(kind, aToken))
	}
	sent = append(sent, []byte{sightMagic}, nil, bytes.Repeat([]byte{sightMagic}, 1200), bytes.Repeat([]byte{0}, 1200), []byte("GET / HTTP/1.1\r\n\r\n"))
	for _, data := range sent {
		if _, err := stranger.WriteTo(data, loopbackUDP(port)); err != nil {
			t.Fatal(err)
		}
	}
	// A peer's look comes after all that, in the same socket's order.
	peer := newTestNode(t, Config{Listen: both})
	connected(t, peer, n)
	if _, err := peer.eye.look(testContext(t), peer.bestConn(n.ID())); err != nil {
		t.Fatal(err)
	}
	if got := stranger.stop(t); got != 0 {
		t.Errorf("a stranger gets %d datagrams, want none", got)
	}
}

// What comes from where something went a moment ago is not unasked.
func TestQuiet(t *testing.T) {
	a, b := newTestNode(t, Config{Listen: both}), newTestNode(t, Config{Listen: both})
	there := netip.MustParseAddr("127.0.0.1")
	if !a.eye.quiet(there) {
		t.Error("quiet before anything was sent = false, want true")
	}
	if err := a.Connect(testContext(t), b.ID(), b.Addrs()[:1]...); err != nil {
		t.Fatal(err)
	}
	if transportRank(a.bestConn(b.ID()).RemoteMultiaddr()) == 0 && !a.eye.quiet(there) {
		t.Error("quiet with a connection over TCP = false, want true")
	}
	if _, err := a.eye.look(testContext(t), a.bestConn(b.ID())); err != nil {
		t.Fatal(err)
	}
	if a.eye.quiet(there) {
		t.Error("quiet after a look = true, want false")
	}
	a.eye.mu.Lock()
	a.eye.sent[there] = time.Now().Add(-sightQuiet - time.Second)
	a.eye.mu.Unlock()
	if !a.eye.quiet(there) {
		t.Error("quiet long after a look = false, want true")
	}
	c, err := a.kit.swarm.TransportForDialing(both[1]).Dial(testContext(t), quicAddr(netip.AddrPortFrom(there, b.eye.socket(false).port)), b.ID())
	if err != nil {
		t.Fatal(err)
	}
	a.kit.beside.offer(&dialedConn{c})
	waitFor(t, a, "one by QUIC too", func(c []Connection) bool { return len(c) == 2 })
	if a.eye.quiet(there) {
		t.Error("quiet with a connection over QUIC = true, want false")
	}
}
