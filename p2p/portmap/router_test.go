package portmap

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/p2p/portmap/portmaptest"
)

func TestRouters(t *testing.T) {
	refuse := func(code portmaptest.Code) func(string, netip.AddrPort, uint16, time.Duration) error {
		return func(string, netip.AddrPort, uint16, time.Duration) error { return code }
	}
	type want struct {
		answer Answer
		code   int
	}
	for _, tt := range []struct {
		name        string
		config      portmaptest.Config
		by          Protocol // zero if no mapping is had
		reachable   bool
		pcp, natpmp want
	}{
		{"both", portmaptest.Config{External: outside},
			PCP, true, want{Available, 0}, want{Available, 0}},
		{"PCP alone", portmaptest.Config{External: outside, NoNATPMP: true},
			PCP, true, want{Available, 0}, want{Silent, 0}},
		{"NAT-PMP alone", portmaptest.Config{External: outside, NoPCP: true},
			NATPMP, true, want{Refused, 1}, want{Available, 0}},
		{"behind another NAT", portmaptest.Config{External: netip.MustParseAddr("192.168.0.2")},
			PCP, false, want{Available, 0}, want{Available, 0}},
		{"behind a provider's NAT", portmaptest.Config{External: netip.MustParseAddr("100.64.3.4")},
			PCP, false, want{Available, 0}, want{Available, 0}},
		{"neither may", portmaptest.Config{External: outside, Action: refuse(2)},
			0, false, want{Refused, 2}, want{Refused, 2}},
		{"offline", portmaptest.Config{},
			0, false, want{Refused, 7}, want{Refused, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := router(t, tt.config)
			m := mapperAt(t, s.Addr())
			if err := m.Map(UDP, 4001); err != nil {
				t.Fatal(err)
			}
			r := await(t, m, "what came of it", func(r Report) bool {
				a, b := attempt(r, PCP), attempt(r, NATPMP)
				return want{a.Answer, a.Code} == tt.pcp && want{b.Answer, b.Code} == tt.natpmp &&
					(len(r.Mappings) == 1) == (tt.by != 0)
			})
			if tt.by == 0 {
				return
			}
			got := r.Mappings[0]
			if got.By != tt.by || got.Reachable() != tt.reachable || got.External != netip.AddrPortFrom(tt.config.External, 4001) {
				t.Errorf("mapping = %+v, want %v by %v, reachable %v", got, tt.config.External, tt.by, tt.reachable)
			}
			if r.External() != tt.config.External {
				t.Errorf("External() = %v, want %v", r.External(), tt.config.External)
			}
		})
	}
}

func TestMappingsEndWithUnmapAndClose(t *testing.T) {
	for _, c := range []portmaptest.Config{{External: outside, NoNATPMP: true}, {External: outside, NoPCP: true}} {
		s := router(t, c)
		m := mapperAt(t, s.Addr())
		for _, p := range []port{{UDP, 4001}, {TCP, 4001}, {TCP, 4001}, {TCP, 80}} {
			if err := m.Map(p.proto, p.number); err != nil {
				t.Fatal(err)
			}
		}
		await(t, m, "three mappings", func(r Report) bool { return len(r.Mappings) == 3 })
		if err := m.Unmap(TCP, 80); err != nil {
			t.Fatal(err)
		}
		await(t, m, "two mappings", func(r Report) bool { return len(r.Mappings) == 2 })
		if got := s.Mappings(); len(got) != 2 {
			t.Errorf("after Unmap the router has %v, want two", got)
		}
		m.Close()
		if got := s.Mappings(); len(got) != 0 {
			t.Errorf("after Close the router has %v, want none", got)
		}
		if got := m.Mappings(); len(got) != 0 {
			t.Errorf("after Close Mappings() = %v, want none", got)
		}
	}
}

func TestRebootIsSeenAtTheNextRequest(t *testing.T) {
	for _, c := range []client{&pcp{}, &natpmp{}} {
		s := router(t, portmaptest.Config{External: outside})
		switch c := c.(type) {
		case *pcp:
			c.server = s.Addr()
		case *natpmp:
			c.server = s.Addr()
		}
		for _, want := range []bool{false, false, true, false} {
			if want {
				s.Reboot()
			}
			a := ask{proto: UDP, port: uint16(c.protocol()), lifetime: time.Hour}
			if r, err := c.request(testContext(t), a); err != nil || r.forgot != want {
				t.Errorf("%v: forgot = %v, %v, want %v", c.protocol(), r.forgot, err, want)
			}
		}
	}
}

func TestClosedMapper(t *testing.T) {
	m := New(Config{})
	m.Close()
	m.Close()
	for name, err := range map[string]error{"Map": m.Map(UDP, 1), "Unmap": m.Unmap(UDP, 1), "Refresh": m.Refresh()} {
		if !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close = %v, want ErrClosed", name, err)
		}
	}
	for range m.Watch(testContext(t)) {
		m.Report() // the last one
	}
}

func TestMapWantsAPort(t *testing.T) {
	m := New(Config{})
	defer m.Close()
	if err := m.Map("sctp", 1); err == nil {
		t.Error(`Map("sctp", 1) = nil error, want one`)
	}
	if err := m.Map(UDP, 0); err == nil {
		t.Error("Map(UDP, 0) = nil error, want one")
	}
}

func TestNothingListens(t *testing.T) {
	s := router(t, portmaptest.Config{})
	s.Close()
	m := mapperAt(t, s.Addr())
	if err := m.Map(UDP, 4001); err != nil {
		t.Fatal(err)
	}
	r := await(t, m, "both silent", func(r Report) bool {
		return attempt(r, PCP).Answer == Silent && attempt(r, NATPMP).Answer == Silent
	})
	if err := attempt(r, PCP).Err; !errors.Is(err, errSilent) {
		t.Errorf("error = %v, want %v", err, errSilent)
	}
}

// A request is sent again; what others send meanwhile, and what doesn't fit, is
// passed over.
func TestOnlyTheRouterIsHeard(t *testing.T) {
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	gateway, stranger := listen(), listen()
	good := unhex(t, pcpAnswer)
	forged := append([]byte(nil), good...)
	forged[59] = 66
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, 100)
		for n := range 2 {
			_, from, err := gateway.ReadFromUDPAddrPort(buf)
			if err != nil {
				done <- err
				return
			}
			if n == 0 {
				continue // lost
			}
			for _, p := range []struct {
				conn *net.UDPConn
				b    []byte
			}{
				{stranger, forged}, {gateway, forged[:30]}, {gateway, nil}, {gateway, make([]byte, 2000)}, {gateway, good},
			} {
				if _, err := p.conn.WriteToUDPAddrPort(p.b, from); err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	c := &pcp{server: gateway.LocalAddr().(*net.UDPAddr).AddrPort()}
	r, err := c.request(testContext(t), question)
	if err != nil || r.external != question.suggested {
		t.Errorf("request = %v, %v, want %v", r.external, err, question.suggested)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
