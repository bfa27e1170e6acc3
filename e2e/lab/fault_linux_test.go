package lab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// seenBy sends from a socket and returns as whom another sees it.
func seenBy(t testing.TB, from, to *net.UDPConn) netip.AddrPort {
	t.Helper()
	p := &probing{ctx: t.Context()}
	at, err := p.seen(&socket{from, addrOf(from)}, &socket{to, addrOf(to)})
	if err != nil {
		t.Fatal(err)
	}
	if !at.IsValid() {
		t.Fatal("nothing came through")
	}
	return at
}

func TestDownTakesAMachineOffAndUpPutsItBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		pull func(b *Host, r *Router) (down, up func())
		link Link
	}{
		{"host", func(b *Host, r *Router) (func(), func()) { return b.Down, b.Up }, Link{}},
		{"host with an emulated link", func(b *Host, r *Router) (func(), func()) { return b.Down, b.Up }, Link{Delay: time.Millisecond}},
		{"router", func(b *Host, r *Router) (func(), func()) { return r.Down, r.Up }, Link{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := New(t)
			a, r := l.Host("a"), l.Router("r", NAT{Kind: PortRestricted})
			b := r.Host("b")
			b.SetLink(tt.link)
			server, conn := echo(t, a, a.Addr()), listen(t, b, b.Addr())
			if !reaches(t, conn, server) {
				t.Fatal("b doesn't reach a at first")
			}
			down, up := tt.pull(b, r)
			down()
			if !silent(t, conn, server) {
				t.Error("b reaches a while down")
			}
			if tt.name != "router" {
				b.ChangeAddress()
				conn = listen(t, b, b.Addr())
			}
			up()
			if !reaches(t, conn, server) {
				t.Error("b doesn't reach a when up again")
			}
		})
	}
}

func TestCutIsOneWay(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(l *Lab) (a, b Machine)
		link Link
	}{
		{"on the Internet", func(l *Lab) (Machine, Machine) { return l.Host("a"), l.Host("b") }, Link{}},
		{"emulated", func(l *Lab) (Machine, Machine) { return l.Host("a"), l.Host("b") }, Link{Delay: time.Millisecond}},
		{"in a LAN", func(l *Lab) (Machine, Machine) {
			r := l.Router("r", NAT{Kind: PortRestricted})
			return r.Host("a"), r.Host("b")
		}, Link{}},
		{"behind a router without NAT", func(l *Lab) (Machine, Machine) {
			return l.Router("r", NAT{}).Host("a"), l.Host("b")
		}, Link{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := New(t)
			a, b := tt.make(l)
			a.machine().SetLink(tt.link)
			ca, cb := listen(t, a, a.machine().Addr()), listen(t, b, b.machine().Addr())
			passes := func(from, to *net.UDPConn) bool {
				for range 3 {
					(&socket{conn: from}).send(1, addrOf(to))
					if _, _, ok, err := (&socket{conn: to}).receive(time.Now().Add(100 * time.Millisecond)); ok || err != nil {
						return ok
					}
				}
				return false
			}
			want := func(when string, there, back bool) {
				t.Helper()
				if got := passes(ca, cb); got != there {
					t.Errorf("%s: a to b passes = %v, want %v", when, got, there)
				}
				if got := passes(cb, ca); got != back {
					t.Errorf("%s: b to a passes = %v, want %v", when, got, back)
				}
			}
			want("at first", true, true)
			l.Cut(a, b)
			want("cut", false, true)
			l.Mend(a, b)
			want("mended", true, true)
			l.Partition(a, b)
			want("partitioned", false, false)
			l.Heal(a, b)
			want("healed", true, true)
		})
	}
}

func TestRebootChangesMappings(t *testing.T) {
	for _, nat := range []NAT{
		{Kind: FullCone}, {Kind: AddressRestricted}, {Kind: PortRestricted}, {Kind: Symmetric},
		{Kind: PortRestricted, Remap: true}, {Kind: FullCone, Hairpin: true},
	} {
		t.Run(nat.String(), func(t *testing.T) {
			l := New(t)
			a, r := l.Host("a"), l.Router("r", nat)
			b := r.Host("b")
			server, conn := listen(t, a, a.Addr()), listen(t, b, b.Addr())
			before := seenBy(t, conn, server)
			if again := seenBy(t, conn, server); again != before {
				t.Errorf("seen as %v and then as %v, want the same before the reboot", before, again)
			}
			r.Reboot()
			after := seenBy(t, conn, server)
			if after == before || after.Addr() != r.PublicAddr() {
				t.Errorf("seen as %v, before the reboot as %v, want another port of %v", after, before, r.PublicAddr())
			}
			// Who answers where it was seen before, is not heard.
			word := []byte("to the old mapping")
			if _, err := server.WriteToUDPAddrPort(word, before); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, _, err := conn.ReadFromUDPAddrPort(make([]byte, 64)); err == nil {
				t.Errorf("%d bytes came through a mapping of before the reboot", n)
			}
			if err := r.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRouterChangesItsAddress(t *testing.T) {
	for _, nat := range []NAT{{Kind: FullCone}, {Kind: PortRestricted}, {Kind: Symmetric}} {
		t.Run(nat.String(), func(t *testing.T) {
			l := New(t)
			a, r := l.Host("a"), l.Router("r", nat)
			b := r.Host("b")
			server, conn := listen(t, a, a.Addr()), listen(t, b, b.Addr())
			before := seenBy(t, conn, server)
			r.ChangeAddress()
			after := seenBy(t, conn, server)
			if before.Addr() == after.Addr() || after.Addr() != r.PublicAddr() {
				t.Errorf("seen as %v, before the change as %v, want another address, %v", after, before, r.PublicAddr())
			}
			if err := r.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHostChangesItsAddressAndItsNetwork(t *testing.T) {
	l := New(t)
	a := l.Host("a")
	r1 := l.Router("r1", NAT{Kind: PortRestricted, IPv6: true})
	r2 := l.Router("r2", NAT{Kind: PortRestricted})
	server4, server6 := echo(t, a, a.Addr()), echo(t, a, a.Addr6())
	b := r1.Host("b")
	b.SetLink(Link{Delay: 5 * time.Millisecond})
	old := listen(t, b, b.Addr())
	for _, tt := range []struct {
		name string
		do   func()
		in   netip.Prefix
		ipv6 bool
	}{
		{"at first", func() {}, r1.lan.net4, true},
		{"another address", b.ChangeAddress, r1.lan.net4, true},
		{"another router", func() { b.MoveTo(r2) }, r2.lan.net4, false},
		{"the Internet", func() { b.MoveTo(nil) }, internet4, true},
		{"back", func() { b.MoveTo(r1) }, r1.lan.net4, true},
	} {
		before := b.Addr()
		tt.do()
		if !tt.in.Contains(b.Addr()) || tt.name != "at first" && b.Addr() == before {
			t.Errorf("%s: the address is %v, before %v, want another in %v", tt.name, b.Addr(), before, tt.in)
		}
		if got := b.Addr6().IsValid(); got != tt.ipv6 {
			t.Errorf("%s: has IPv6 = %v, want %v", tt.name, got, tt.ipv6)
		}
		conn := listen(t, b, b.Addr())
		if !reaches(t, conn, server4) {
			t.Fatalf("%s: doesn't reach the Internet", tt.name)
		}
		if took, ok := roundTrip(t, conn, server4, 8, time.Second); !ok || took < 10*time.Millisecond {
			t.Errorf("%s: a round trip takes %v, want that the link is kept", tt.name, took)
		}
		if tt.ipv6 && !reaches(t, listen(t, b, b.Addr6()), server6) {
			t.Errorf("%s: doesn't reach the Internet by IPv6", tt.name)
		}
		if tt.name != "at first" && !silent(t, old, server4) {
			t.Errorf("%s: a socket of the first address still reaches the Internet", tt.name)
		}
	}
}

func TestMappingsExpire(t *testing.T) {
	l := New(t)
	a := l.Host("a")
	r := l.Router("r", NAT{Kind: Symmetric, UDPTimeout: time.Second})
	b := r.Host("b")
	server, conn := listen(t, a, a.Addr()), listen(t, b, b.Addr())
	before := seenBy(t, conn, server)
	conn.SetReadDeadline(time.Now().Add(2500 * time.Millisecond))
	if _, _, err := conn.ReadFromUDPAddrPort(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if after := seenBy(t, conn, server); after == before {
		t.Errorf("seen as %v after 2.5 s of silence, as before, want another port", after)
	}
}

// connects tells whether TCP gets through within a second.
func connects(t testing.TB, from, to Machine, addr netip.AddrPort) bool {
	t.Helper()
	var ln net.Listener
	if err := to.machine().Do(func() (err error) { ln, err = net.Listen("tcp", addr.String()); return err }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return from.machine().Do(func() error {
		conn, err := net.DialTimeout("tcp", addr.String(), time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	}) == nil
}

func TestGatesLetThroughWhatTheySay(t *testing.T) {
	for _, tt := range []struct {
		nat  NAT
		port uint16
		want bool
	}{
		{NAT{Kind: PortRestricted, UDPBlocked: true}, 4001, true},
		{NAT{Kind: PortRestricted, OnlyTCP443: true}, 4001, false},
		{NAT{Kind: PortRestricted, OnlyTCP443: true}, 443, true},
		{NAT{OnlyTCP443: true}, 443, true},
	} {
		l := New(t)
		a, b := l.Host("a"), l.Router("r", tt.nat).Host("b")
		if got := connects(t, b, a, netip.AddrPortFrom(a.Addr(), tt.port)); got != tt.want {
			t.Errorf("%v: TCP to port %d connects = %v, want %v", tt.nat, tt.port, got, tt.want)
		}
	}
}

func TestWhatIsBehindARouterIsReachedOnlyWhereItSays(t *testing.T) {
	for _, tt := range []struct {
		nat        NAT
		ipv4, ipv6 bool
	}{
		{NAT{}, true, true},
		{NAT{Kind: FullCone, IPv6: true}, false, false},
		{NAT{Kind: Symmetric, IPv6: true}, false, false},
	} {
		t.Run(tt.nat.String(), func(t *testing.T) {
			l := New(t)
			a, b := l.Host("a"), l.Router("r", tt.nat).Host("b")
			for _, f := range []struct {
				name string
				a, b netip.Addr
				want bool
			}{{"IPv4", a.Addr(), b.Addr(), tt.ipv4}, {"IPv6", a.Addr6(), b.Addr6(), tt.ipv6}} {
				if got := !silent(t, listen(t, a, f.a), echo(t, b, f.b)); got != f.want {
					t.Errorf("%s: UDP from outside comes in = %v, want %v", f.name, got, f.want)
				}
				if got := connects(t, a, b, netip.AddrPortFrom(f.b, 4001)); got != f.want {
					t.Errorf("%s: TCP from outside comes in = %v, want %v", f.name, got, f.want)
				}
				if !reaches(t, listen(t, b, f.b), echo(t, a, f.a)) {
					t.Errorf("%s: UDP doesn't come out and back", f.name)
				}
			}
		})
	}
}

func TestForwardLetsStrangersIn(t *testing.T) {
	for _, nat := range []NAT{
		{Kind: FullCone}, {Kind: AddressRestricted}, {Kind: PortRestricted}, {Kind: Symmetric}, {Kind: PortRestricted, OpenInput: true},
	} {
		t.Run(nat.String(), func(t *testing.T) {
			l := New(t)
			a, r := l.Host("a"), l.Router("r", nat)
			b := r.Host("b")
			server, conn := echo(t, b, b.Addr()), listen(t, a, a.Addr())
			at := netip.AddrPortFrom(r.PublicAddr(), 7000)
			if !silent(t, conn, at) {
				t.Error("b is reached before the forward")
			}
			r.Forward("udp", at.Port(), server)
			conn = listen(t, a, a.Addr())
			if !reaches(t, conn, at) {
				t.Error("b is not reached through the forward")
			}
			r.Reboot()
			if !silent(t, conn, at) {
				t.Error("b is reached after the router lost the forward")
			}
			if err := r.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRoutersBehindRouters(t *testing.T) {
	l := New(t)
	a := l.Host("a")
	isp := l.Router("isp", NAT{Kind: FullCone, Carrier: true, Hairpin: true, IPv6: true})
	home := isp.Router("home", NAT{Kind: PortRestricted, IPv6: true})
	b := home.Host("b")
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if got := home.Addr(); !netip.MustParsePrefix("100.64.0.0/10").Contains(got) {
		t.Errorf("the address of a router behind a carrier's is %v, want one of 100.64.0.0/10", got)
	}
	server, conn := listen(t, a, a.Addr()), listen(t, b, b.Addr())
	if got := seenBy(t, conn, server); got.Addr() != isp.Addr() || home.PublicAddr() != isp.Addr() {
		t.Errorf("a host behind both is seen as %v, and PublicAddr() = %v, want %v", got, home.PublicAddr(), isp.Addr())
	}
	if !reaches(t, listen(t, b, b.Addr6()), echo(t, a, a.Addr6())) {
		t.Error("a host behind both doesn't reach the Internet by IPv6")
	}
}

func TestHostHasTheFamilyThatWasAskedFor(t *testing.T) {
	l := New(t)
	for _, tt := range []struct {
		name   string
		family []Family
		v4, v6 bool
	}{{"both", nil, true, true}, {"four", []Family{IPv4}, true, false}, {"six", []Family{IPv6}, false, true}} {
		h := l.Host(tt.name, tt.family...)
		if got4, got6 := h.Addr().IsValid(), h.Addr6().IsValid(); got4 != tt.v4 || got6 != tt.v6 {
			t.Errorf("%s: has IPv4, IPv6 = %v, %v, want %v, %v", tt.name, got4, got6, tt.v4, tt.v6)
		}
	}
}

func TestCommandRunsInThePlaceOfItsHost(t *testing.T) {
	l := New(t)
	a, b := l.Host("a"), l.Router("r", NAT{Kind: PortRestricted}).Host("b")
	out, err := b.Command(t.Context(), "ip", "-o", "-4", "addr", "show", "eth0").Output()
	if err != nil || !strings.Contains(string(out), b.Addr().String()) {
		t.Errorf("ip addr prints %q, %v, want %v in it", out, err, b.Addr())
	}
	cmd := a.Command(t.Context(), "sh", "-c", `test "$WORD" = here && test $$ = $PPID || echo $$`)
	cmd.Env = append(os.Environ(), "WORD=here")
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) == "" {
		t.Errorf("the program prints %q, %v, want its process id", out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	long := a.Command(ctx, "cat")
	if _, err := long.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := long.Wait(); err == nil {
		t.Error("a program survives its context")
	}
}
