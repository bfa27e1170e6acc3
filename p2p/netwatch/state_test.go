package netwatch

import (
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestStatesAreEqualInWhatMatters(t *testing.T) {
	base := func() State {
		return State{
			Interfaces: []Interface{
				{1, "lo", net.FlagUp, 65536, prefixesOf("127.0.0.1/8", "::1/128")},
				{2, "eth0", net.FlagUp | net.FlagRunning, 1500, prefixesOf("192.0.2.1/24")},
			},
			Defaults: []Route{{Interface: "eth0", Gateway: netip.MustParseAddr("192.0.2.254"), Metric: 100}},
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*State)
		same   bool
	}{
		{"nothing", func(*State) {}, true},
		{"another order", func(s *State) {
			s.Interfaces[0], s.Interfaces[1] = s.Interfaces[1], s.Interfaces[0]
			a := s.Interfaces[1].Addrs
			a[0], a[1] = a[1], a[0]
		}, true},
		{"an interface without an address", func(s *State) {
			s.Interfaces = append(s.Interfaces, Interface{3, "veth0", net.FlagUp, 1500, nil})
		}, true},
		{"an interface that is down", func(s *State) {
			s.Interfaces = append(s.Interfaces, Interface{3, "eth1", 0, 1500, prefixesOf("192.0.2.9/24")})
		}, true},
		{"a route twice", func(s *State) { s.Defaults = append(s.Defaults, s.Defaults[0]) }, true},
		{"another address", func(s *State) { s.Interfaces[1].Addrs = prefixesOf("192.0.2.2/24") }, false},
		{"another prefix", func(s *State) { s.Interfaces[1].Addrs = prefixesOf("192.0.2.1/25") }, false},
		{"a cable pulled", func(s *State) { s.Interfaces[1].Flags = net.FlagUp }, false},
		{"another MTU", func(s *State) { s.Interfaces[1].MTU = 1280 }, false},
		{"a link made anew", func(s *State) { s.Interfaces[1].Index = 7 }, false},
		{"no route", func(s *State) { s.Defaults = nil }, false},
		{"another gateway", func(s *State) { s.Defaults[0].Gateway = netip.MustParseAddr("192.0.2.253") }, false},
		{"a second route", func(s *State) {
			s.Defaults = append(s.Defaults, Route{Interface: "wlan0", Metric: 600})
		}, false},
		{"a sleep", func(s *State) { s.Sleeps++ }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := base(), base()
			tt.change(&b)
			if got := a.canonical().Equal(b.canonical()); got != tt.same {
				t.Errorf("%v Equal %v = %v, want %v", a, b, got, tt.same)
			}
		})
	}
}

func TestPreferredRouteIsFirst(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	got := State{Defaults: []Route{
		{"eth0", b, true, 100}, {"wlan0", a, false, 600}, {"eth0", a, false, 100}, {"ppp0", netip.Addr{}, false, 50},
	}}.canonical().Defaults
	want := []Route{
		{"ppp0", netip.Addr{}, false, 50}, {"eth0", a, false, 100}, {"wlan0", a, false, 600}, {"eth0", b, true, 100},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Defaults = %v, want %v", got, want)
	}
}

func TestPrefixOf(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   *net.IPNet
		want string // empty means none
	}{
		{"four bytes", &net.IPNet{IP: net.IP{192, 0, 2, 1}, Mask: net.CIDRMask(24, 32)}, "192.0.2.1/24"},
		{"IPv4 in sixteen bytes", &net.IPNet{IP: net.ParseIP("192.0.2.1"), Mask: net.CIDRMask(24, 32)}, "192.0.2.1/24"},
		{"and with a long mask", &net.IPNet{IP: net.ParseIP("192.0.2.1"), Mask: net.CIDRMask(120, 128)}, "192.0.2.1/24"},
		{"IPv6", &net.IPNet{IP: net.ParseIP("2001:db8::1"), Mask: net.CIDRMask(64, 128)}, "2001:db8::1/64"},
		{"none", nil, ""},
		{"empty", &net.IPNet{}, ""},
		{"a mask with holes", &net.IPNet{IP: net.IP{192, 0, 2, 1}, Mask: net.IPMask{255, 0, 255, 0}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := prefixOf(tt.in)
			if ok != (tt.want != "") || ok && got.String() != tt.want {
				t.Errorf("prefixOf(%v) = %v, %v, want %q", tt.in, got, ok, tt.want)
			}
		})
	}
}

func TestSleepIsWhatTheClocksSay(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name         string
		wall, steady time.Duration // since the moment before
		slept, late  bool
	}{
		{"nothing", 5 * s, 5 * s, false, false},
		{"a busy machine", 8 * s, 8 * s, false, false},
		{"the clock set right", 7 * s, 5 * s, false, false},
		{"the clock set back", -3600 * s, 5 * s, false, false},
		{"a nap", 20 * s, 5 * s, true, true},
		{"a night", 28800 * s, 4 * s, true, true},
		{"a steady clock that ran on", 28800 * s, 28800 * s, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := moment{wall: 1e18, steady: 100 * s}
			m := moment{before.wall + tt.wall, before.steady + tt.steady}
			if got := m.sleptSince(before); got != tt.slept {
				t.Errorf("sleptSince = %v, want %v", got, tt.slept)
			}
			if got := m.lateBy(before, 5*s); got != tt.late {
				t.Errorf("lateBy = %v, want %v", got, tt.late)
			}
		})
	}
}
