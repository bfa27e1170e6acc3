package forward

import (
	"io/fs"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want string // what String then returns
		err  string // substring; empty means success
	}{
		{"bare port", "8080", "127.0.0.1:8080", ""},
		{"any free port", "0", "127.0.0.1:0", ""},
		{"highest port", "65535", "127.0.0.1:65535", ""},
		{"leading zero", "08080", "127.0.0.1:8080", ""},
		{"IPv4", "127.0.0.1:8080", "127.0.0.1:8080", ""},
		{"all interfaces", "0.0.0.0:80", "0.0.0.0:80", ""},
		{"IPv6", "[::1]:8080", "[::1]:8080", ""},
		{"long form of IPv6", "[0:0:0:0:0:0:0:1]:8080", "[::1]:8080", ""},
		{"IPv6 with zone", "[fe80::1%eth0]:8080", "[fe80::1%eth0]:8080", ""},
		{"localhost", "localhost:8080", "localhost:8080", ""},
		{"name", "db_1.example-host.org:5432", "db_1.example-host.org:5432", ""},
		{"unix socket", "unix:/run/db.sock", "unix:/run/db.sock", ""},
		{"unix socket with colon", "unix:/run/a:b", "unix:/run/a:b", ""},
		{"bare UDP port", "udp:53", "udp:127.0.0.1:53", ""},
		{"UDP at IPv4", "udp:127.0.0.1:53", "udp:127.0.0.1:53", ""},
		{"UDP at IPv6", "udp:[::1]:53", "udp:[::1]:53", ""},
		{"UDP at a name", "udp:ns.example.org:53", "udp:ns.example.org:53", ""},
		{"longest unix path", "unix:/" + strings.Repeat("x", maxPath-1), "unix:/" + strings.Repeat("x", maxPath-1), ""},

		{"empty", "", "", `address "": empty`},
		{"port out of range", "65536", "", `address "65536": port 65536 is out of range: the highest is 65535`},
		{"port far out of range", "99999999999999999999", "", "is out of range"},
		{"negative port", "-1", "", `port "-1" is not a number`},
		{"signed port", "+80", "", `port "+80" is not a number`},
		{"named port", "localhost:http", "", `port "http" is not a number`},
		{"no port", "localhost:", "", `port "" is not a number`},
		{"host alone", "localhost", "", `port "localhost" is not a number`},
		{"empty host", ":8080", "", `address ":8080": empty host`},
		{"empty IPv6 host", "[]:8080", "", "empty host"},
		{"IPv6 without brackets", "::1:8080", "", "too many colons"},
		{"IPv6 without port", "[::1]", "", "missing port"},
		{"IPv4 out of range", "127.0.0.256:80", "", `host "127.0.0.256" is not an IP address`},
		{"short IPv4", "127.1:80", "", "is not an IP address"},
		{"bad name", "a b:80", "", `host "a b" is neither an IP address nor a name`},
		{"name with empty label", "a..b:80", "", "is neither an IP address nor a name"},
		{"only a dot", ".:80", "", "is neither an IP address nor a name"},
		{"long name", strings.Repeat("a", 254) + ":80", "", "host of 254 bytes: the longest name has 253"},
		{"UDP without port", "udp:", "", `address "udp:": empty`},
		{"UDP with empty host", "udp::53", "", "empty host"},
		{"UDP port out of range", "udp:65536", "", "is out of range"},
		{"UDP twice", "udp:udp:53", "", `unknown prefix "udp:"`},
		{"UDP of a unix socket", "udp:unix:/run/x", "", `port "/run/x" is not a number`},
		{"tcp prefix", "tcp:80", "", `unknown prefix "tcp:"`},
		{"relative path", "unix:run/db.sock", "", `address "unix:run/db.sock": the path is relative`},
		{"abstract socket", "unix:@db", "", "the path is relative"},
		{"empty path", "unix:", "", "empty path"},
		{"zero byte in path", "unix:/a\x00b", "", "contains a zero byte"},
		{"path too long", "unix:/" + strings.Repeat("x", maxPath), "", "this system allows a socket"},
		{"huge", strings.Repeat("1", 1<<20), "", "address of 1048576 bytes: the longest has 265"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseAddress(tt.in)
			checkErr(t, err, tt.err)
			if err == nil && got.String() != tt.want {
				t.Errorf("ParseAddress(%q) = %v, want %v", tt.in, got, tt.want)
			}
			if err != nil && got != (Address{}) {
				t.Errorf("ParseAddress(%q) = %v with an error, want the zero Address", tt.in, got)
			}
		})
	}
}

func TestZeroAddress(t *testing.T) {
	if got := mustParse(t, "127.0.0.1:0"); got != (Address{}) {
		t.Errorf(`ParseAddress("127.0.0.1:0") = %#v, want the zero Address`, got)
	}
	if got, want := (Address{}).String(), "127.0.0.1:0"; got != want {
		t.Errorf("Address{}.String() = %q, want %q", got, want)
	}
	if got, want := (Address{}).Network(), "tcp"; got != want {
		t.Errorf("Address{}.Network() = %q, want %q", got, want)
	}
}

// An IPv4 address must not let IPv6 in, which package net would do.
func TestEndpoint(t *testing.T) {
	for _, tt := range []struct{ in, network, address string }{
		{"80", "tcp4", "127.0.0.1:80"},
		{"0.0.0.0:80", "tcp4", "0.0.0.0:80"},
		{"[::]:80", "tcp", "[::]:80"},
		{"localhost:80", "tcp", "localhost:80"},
		{"udp:80", "udp4", "127.0.0.1:80"},
		{"udp:[::]:80", "udp", "[::]:80"},
		{"unix:/s", "unix", "/s"},
	} {
		network, address := mustParse(t, tt.in).endpoint()
		if network != tt.network || address != tt.address {
			t.Errorf("endpoint of %s = %q, %q, want %q, %q", tt.in, network, address, tt.network, tt.address)
		}
	}
}

// Whoever listens on one of the system's ports says so in full.
func TestParseListen(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{"1024", "127.0.0.1:1024", ""},
		{"0", "127.0.0.1:0", ""},
		{"udp:5353", "udp:127.0.0.1:5353", ""},
		{"127.0.0.1:80", "127.0.0.1:80", ""},
		{"udp:0.0.0.0:53", "udp:0.0.0.0:53", ""},
		{"unix:/s", "unix:/s", ""},
		{"80", "", `address "80": ports below 1024 are the system's: to listen on one, write 127.0.0.1:80`},
		{"1023", "", "ports below 1024"},
		{"udp:53", "", "write udp:127.0.0.1:53"},
		{":80", "", "empty host"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseListen(tt.in)
			checkErr(t, err, tt.err)
			if err == nil && got.String() != tt.want {
				t.Errorf("ParseListen(%q) = %v, want %v", tt.in, got, tt.want)
			}
		})
	}
}

func TestParseMode(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want fs.FileMode
		ok   bool
	}{
		{"", 0, true},
		{"0600", 0o600, true},
		{"660", 0o660, true},
		{"777", 0o777, true},
		{"0", 0, false},
		{"1777", 0, false},
		{"0888", 0, false},
		{"-600", 0, false},
		{"rw-", 0, false},
		{"77777777777777777777777", 0, false},
	} {
		got, err := ParseMode(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("ParseMode(%q) = %v, %v; want %v, an error: %v", tt.in, got, err, tt.want, !tt.ok)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"8080", "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:1", "localhost:80", "unix:/run/db.sock", "udp:53", ":80", "a.:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Errorf("ParseAddress(%q).String() = %q, which parses to %v, %v", s, a, again, err)
		}
	})
}

// checkErr fails the test unless err is nil for an empty want, or contains it.
func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got error %q, want none", err)
	case want != "" && err == nil:
		t.Errorf("got no error, want one with %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("got error %q, want one with %q", err, want)
	}
}
