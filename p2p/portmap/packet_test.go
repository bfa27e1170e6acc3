package portmap

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var question = ask{
	proto: UDP, port: 4001, lifetime: 30 * time.Minute,
	suggested: netip.MustParseAddrPort("203.0.113.7:5000"),
	nonce:     [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
}

// unhex reads bytes that are written in groups.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const pcpAnswer = `
	02 81 00 00 00000708 00000e10 000000000000000000000000
	0102030405060708090a0b0c 11 000000 0fa1 1388
	00000000000000000000ffffcb007107`

func TestPCPRequest(t *testing.T) {
	local := netip.MustParseAddr("192.168.1.2")
	for _, tt := range []struct {
		name string
		ask  ask
		want string
	}{
		{"a mapping that was there", question, `
			02 01 0000 00000708 00000000000000000000ffffc0a80102
			0102030405060708090a0b0c 11 000000 0fa1 1388 00000000000000000000ffffcb007107`},
		{"the end of a new one", ask{proto: TCP, port: 80, nonce: question.nonce}, `
			02 01 0000 00000000 00000000000000000000ffffc0a80102
			0102030405060708090a0b0c 06 000000 0050 0000 00000000000000000000ffff00000000`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, want := hex.EncodeToString(pcpRequest(tt.ask, local)), hex.EncodeToString(unhex(t, tt.want))
			if got != want {
				t.Errorf("pcpRequest(%v) =\n%s, want\n%s", tt.ask, got, want)
			}
		})
	}
}

func TestPCPAnswer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
		code   int   // that it is refused with
		err    error // otherwise
	}{
		{"the one", func(b []byte) []byte { return b }, 0, nil},
		{"another nonce", func(b []byte) []byte { b[24]++; return b }, 0, errOther},
		{"another protocol", func(b []byte) []byte { b[36] = 6; return b }, 0, errOther},
		{"another port", func(b []byte) []byte { b[41]++; return b }, 0, errOther},
		{"a request", func(b []byte) []byte { b[1] = 1; return b }, 0, errOther},
		{"another opcode", func(b []byte) []byte { b[1] = 0x82; return b }, 0, errOther},
		{"too short", func(b []byte) []byte { return b[:59] }, 0, errOther},
		{"too long", func(b []byte) []byte { return append(b, 0, 0, 0, 0) }, 0, errOther},
		{"empty", func([]byte) []byte { return nil }, 0, errOther},
		{"a refusal", func(b []byte) []byte { b[3] = 8; return b }, 8, nil},
		{"a refusal of something else", func(b []byte) []byte { b[3] = 8; b[24]++; return b }, 0, errOther},
		{"a code of the future", func(b []byte) []byte { b[3] = 200; return b }, 200, nil},
		{"from a router of NAT-PMP", func([]byte) []byte { return []byte{0, 0x81, 0, 1, 0, 0, 0, 9} }, 1, nil},
		{"another version", func(b []byte) []byte { b[0] = 3; return b }, 0, errOther},
		{"no port", func(b []byte) []byte { b[42], b[43] = 0, 0; return b }, 0, errUseless},
		{"no address", func(b []byte) []byte { clear(b[56:]); return b }, 0, errUseless},
		{"an address of IPv6", func(b []byte) []byte { b[44] = 0x20; return b }, 0, errUseless},
		{"no lifetime", func(b []byte) []byte { clear(b[4:8]); return b }, 0, errUseless},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parsePCPMap(tt.change(unhex(t, pcpAnswer)), question)
			checkAnswer(t, err, tt.code, tt.err)
			if err == nil && (r.external != question.suggested || r.lifetime != question.lifetime || r.epoch != 3600) {
				t.Errorf("parsePCPMap = %+v, want %v for %v at 3600", r, question.suggested, question.lifetime)
			}
		})
	}
}

func checkAnswer(t *testing.T, err error, code int, want error) {
	t.Helper()
	var refused *RefusedError
	switch {
	case code != 0:
		if !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("error = %v, want a refusal with %d", err, code)
		}
	case !errors.Is(err, want):
		t.Errorf("error = %v, want %v", err, want)
	}
}

func TestLifetimeIsBounded(t *testing.T) {
	b := unhex(t, pcpAnswer)
	b[4] = 0xff
	if r, err := parsePCPMap(b, question); err != nil || r.lifetime != longestAllowed {
		t.Errorf("lifetime = %v, %v, want %v", r.lifetime, err, longestAllowed)
	}
}

func TestNATPMPRequest(t *testing.T) {
	if got, want := hex.EncodeToString(natpmpRequest(question)), "000100000fa1138800000708"; got != want {
		t.Errorf("natpmpRequest = %s, want %s", got, want)
	}
}

func TestNATPMPAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		code int
		err  error
	}{
		{"the one", "00 81 0000 00000e10 0fa1 1388 00000708", 0, nil},
		{"for TCP", "00 82 0000 00000e10 0fa1 1388 00000708", 0, errOther},
		{"another port", "00 81 0000 00000e10 0fa2 1388 00000708", 0, errOther},
		{"too short", "00 81 0000 00000e10 0fa1 1388", 0, errOther},
		{"too long", "00 81 0000 00000e10 0fa1 1388 00000708 00", 0, errOther},
		{"of PCP", "02 81 0000 00000e10 0fa1 1388 00000708", 0, errOther},
		{"empty", "", 0, errOther},
		{"a refusal", "00 81 0004 00000e10 0fa1 0000 00000000", 4, nil},
		{"a short refusal", "00 81 0001 00000e10", 1, nil},
		{"a code of the future", "00 81 0100 00000e10", 256, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseNATPMPMap(unhex(t, tt.in), question)
			checkAnswer(t, err, tt.code, tt.err)
			if err == nil && (r.external.Port() != 5000 || r.lifetime != question.lifetime || r.epoch != 3600) {
				t.Errorf("parseNATPMPMap = %+v, want port 5000 for %v at 3600", r, question.lifetime)
			}
		})
	}
}

func FuzzPCPAnswer(f *testing.F) {
	f.Add(unhex(f, pcpAnswer))
	f.Add([]byte{0, 0x81, 0, 1, 0, 0, 0, 9})
	f.Add(unhex(f, "02 80 0000 00000000 00000e10 000000000000000000000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := parsePCP(b, pcpAnnounce); err == nil && (b[0] != 2 || b[3] != 0) {
			t.Errorf("parsePCP(%x) = nil error, want one", b)
		}
		r, err := parsePCPMap(b, question)
		if err == nil && (len(b) != pcpMapSize || !r.usable() || r.lifetime > longestAllowed) {
			t.Errorf("parsePCPMap(%x) = %+v, want an error or something of use", b, r)
		}
	})
}

func FuzzNATPMPAnswer(f *testing.F) {
	f.Add([]byte{0, 0x81, 0, 0, 0, 0, 14, 16, 15, 161, 19, 136, 0, 0, 7, 8})
	f.Add([]byte{0, 0x80, 0, 0, 0, 0, 14, 16, 203, 0, 113, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseNATPMPMap(b, question); err == nil && (len(b) != natpmpMapSize || r.lifetime > longestAllowed) {
			t.Errorf("parseNATPMPMap(%x) = %+v, want an error", b, r)
		}
		if _, err := parseNATPMPAddress(b); err == nil && len(b) != natpmpAddressSize {
			t.Errorf("parseNATPMPAddress(%x) = nil error, want one", b)
		}
	})
}

func TestEpochsTellOfARestart(t *testing.T) {
	for _, tt := range []struct {
		name            string
		elapsed         time.Duration
		epoch           uint32 // after 1000
		strict, lenient bool
	}{
		{"on time", 60 * time.Second, 1060, false, false},
		{"a bit slow", 60 * time.Second, 1056, false, false},
		{"a slow clock", 900 * time.Second, 1800, true, false},
		{"a second back", 0, 999, false, false},
		{"started anew", 900 * time.Second, 5, true, true},
		{"started anew, long ago", 10000 * time.Second, 8000, true, true},
		{"too fast", 60 * time.Second, 5000, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, strict := range []bool{true, false} {
				begin := time.Now()
				var e epochs
				if e.forgot(1000, begin, strict) {
					t.Fatal("forgot = true for what was heard first, want false")
				}
				want := tt.lenient
				if strict {
					want = tt.strict
				}
				if got := e.forgot(tt.epoch, begin.Add(tt.elapsed), strict); got != want {
					t.Errorf("forgot, strict %v = %v, want %v", strict, got, want)
				}
			}
		})
	}
}

func TestScopeOf(t *testing.T) {
	for in, want := range map[string]Scope{
		"8.8.8.8": Public, "203.0.113.7": Public, "::ffff:8.8.8.8": Public, "2001:db8::1": Public,
		"10.0.0.1": Private, "172.16.0.1": Private, "192.168.1.1": Private, "169.254.1.1": Private,
		"192.0.0.2": Private, "fd00::1": Private,
		"100.64.0.1": Shared, "100.127.255.255": Shared, "100.128.0.1": Public,
		"0.0.0.0": Nowhere, "127.0.0.1": Nowhere, "224.0.0.1": Nowhere, "255.255.255.255": Nowhere, "0.1.2.3": Nowhere,
	} {
		if got := ScopeOf(netip.MustParseAddr(in)); got != want {
			t.Errorf("ScopeOf(%s) = %v, want %v", in, got, want)
		}
	}
	if got := ScopeOf(netip.Addr{}); got != Nowhere {
		t.Errorf("ScopeOf of no address = %v, want %v", got, Nowhere)
	}
}
