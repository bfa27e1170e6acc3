package lan

import (
	"net/netip"
	"testing"
)

func TestAddressesFitTheirLink(t *testing.T) {
	l := link{index: 3, name: "eth0", prefixes: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.5/24"),
		netip.MustParsePrefix("fe80::5/64"),
		netip.MustParsePrefix("2001:db8::5/64"),
	}}
	for _, tt := range []struct {
		name          string
		in            []string
		tell, believe []string // believe is from 10.0.0.9
	}{
		{name: "none"},
		{
			name:    "on the link",
			in:      []string{"/ip4/10.0.0.5/tcp/1", "/ip4/10.0.0.9/tcp/1", "/ip4/8.8.8.8/tcp/1"},
			tell:    []string{"/ip4/10.0.0.5/tcp/1"},
			believe: []string{"/ip4/10.0.0.9/tcp/1", "/ip4/10.0.0.5/tcp/1"},
		},
		{
			name:    "elsewhere",
			in:      []string{"/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.8/tcp/1", "/ip4/169.254.1.1/tcp/1", "/ip4/224.0.0.1/udp/1"},
			tell:    []string{"/ip4/8.8.8.8/tcp/1"},
			believe: []string{"/ip4/8.8.8.8/tcp/1"},
		},
		{
			name: "unspecified",
			in:   []string{"/ip4/0.0.0.0/tcp/1", "/ip6/::/udp/2/quic-v1"},
			tell: []string{"/ip4/10.0.0.5/tcp/1", "/ip6/fe80::5/udp/2/quic-v1", "/ip6/2001:db8::5/udp/2/quic-v1"},
		},
		{
			name:    "link-local with a zone",
			in:      []string{"/ip6zone/wlan9/ip6/fe80::5/tcp/1", "/ip6/fe80::9/tcp/1"},
			tell:    []string{"/ip6/fe80::5/tcp/1"},
			believe: []string{"/ip6zone/eth0/ip6/fe80::5/tcp/1", "/ip6zone/eth0/ip6/fe80::9/tcp/1"},
		},
		{
			name: "of no use",
			in: []string{"/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/dns/example.org/tcp/1", "/ip4/10.0.0.5", "/unix/tmp",
				"/ip4/10.0.0.5/tcp/1/p2p/12D3KooWQzw7TPdyFQ4EmBFSqa3xDGKjLJ9nQaM6YwQFqVmW4QpH/p2p-circuit"},
		},
		{
			name:    "with the peer",
			in:      []string{"/ip4/10.0.0.5/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"},
			tell:    []string{"/ip4/10.0.0.5/tcp/1"},
			believe: []string{"/ip4/10.0.0.5/tcp/1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := parseAddrs(tt.in...)
			if got, want := toTell(in, l), parseAddrs(tt.tell...); !sameAddrs(got, want) {
				t.Errorf("toTell(%v) = %v, want %v", in, got, want)
			}
			from := netip.MustParseAddr("10.0.0.9")
			if got, want := toBelieve(in, l, from), parseAddrs(tt.believe...); !sameAddrs(got, want) {
				t.Errorf("toBelieve(%v) = %v, want %v", in, got, want)
			}
		})
	}
}
