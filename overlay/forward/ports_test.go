package forward

import (
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	for _, tt := range []struct{ name, in, want, err string }{
		{"of this machine", "8000-8999", "127.0.0.1:8000-8999", ""},
		{"one", "80-80", "127.0.0.1:80-80", ""},
		{"all", "1-65535", "127.0.0.1:1-65535", ""},
		{"IPv4", "192.0.2.7:8000-8999", "192.0.2.7:8000-8999", ""},
		{"IPv6", "[::1]:8000-8999", "[::1]:8000-8999", ""},
		{"name with hyphens", "my-own-host:8000-8999", "my-own-host:8000-8999", ""},
		{"UDP", "udp:5000-5010", "udp:127.0.0.1:5000-5010", ""},
		{"UDP with host", "udp:[::1]:5000-5010", "udp:[::1]:5000-5010", ""},
		{"empty", "", "", `ports "": want the first and the last, as 8000-8999`},
		{"one port", "8080", "", "want the first and the last"},
		{"host and one port", "my-host:8080", "", "want the first and the last"},
		{"no last", "8000-", "", `ports "8000-": port "" is not a number`},
		{"no first", "-8000", "", `ports "-8000": empty`},
		{"no first at a host", "localhost:-8000", "", `port "" is not a number`},
		{"port 0", "0-80", "", "port 0 can't be dialled"},
		{"nothing but 0", "0-0", "", "port 0 can't be dialled"},
		{"backwards", "8999-8000", "", `ports "8999-8000": the last, 8000, is below the first, 8999`},
		{"first out of range", "65536-65537", "", "port 65536 is out of range: the highest is 65535"},
		{"last out of range", "8000-65536", "", "port 65536 is out of range: the highest is 65535"},
		{"three", "1-2-3", "", `port "1-2" is not a number`},
		{"signed", "1-+3", "", `port "+3" is not a number`},
		{"spaces", "1 - 3", "", "is not a number"},
		{"empty host", ":1-2", "", "empty host"},
		{"host twice", "localhost:1-localhost:2", "", "want the first and the last"},
		{"unix socket", "unix:/run/a-1", "", "a unix socket has none"},
		{"huge", strings.Repeat("1", 1<<20), "", "ports of 1048576 bytes: the longest have 271"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParsePorts(tt.in)
			checkErr(t, err, tt.err)
			if err == nil && got.String() != tt.want {
				t.Errorf("ParsePorts(%q) = %v, want %v", tt.in, got, tt.want)
			}
			if err != nil && got != (Ports{}) {
				t.Errorf("ParsePorts(%q) = %v with an error, want the zero Ports", tt.in, got)
			}
		})
	}
}

// A service is one port of the range or none.
func TestPortsAt(t *testing.T) {
	for _, tt := range []struct{ ports, service, want string }{
		{"8000-8999", "8000", "127.0.0.1:8000"},
		{"8000-8999", "8999", "127.0.0.1:8999"},
		{"udp:[::1]:8000-8999", "8080", "udp:[::1]:8080"},
		{"1-65535", "65535", "127.0.0.1:65535"},
		{"8000-8999", "7999", ""},
		{"8000-8999", "9000", ""},
		{"8000-8999", "08080", ""},
		{"8000-8999", "+8080", ""},
		{"8000-8999", "73616", ""}, // 8080 in 16 bits
		{"8000-8999", "web", ""},
		{"8000-8999", "", ""},
		{"1-65535", "0", ""},
		{"1-65535", "65536", ""},
	} {
		t.Run(tt.ports+" "+tt.service, func(t *testing.T) {
			p := mustParsePorts(t, tt.ports)
			got, err := p.At(tt.service)
			if tt.want == "" {
				checkErr(t, err, " is no port of "+p.String())
				return
			}
			checkErr(t, err, "")
			if got.String() != tt.want {
				t.Errorf("At(%q) = %v, want %s", tt.service, got, tt.want)
			}
		})
	}
	if _, err := (Ports{}).At("0"); err == nil {
		t.Error("At of the zero Ports = nil, want an error")
	}
}

func TestNewExposePortsErrors(t *testing.T) {
	_, err := NewExposePorts(listenTCP(t), Ports{}, Config{})
	checkErr(t, err, "forward: there are no ports")
	_, err = NewExposePorts(listenTCP(t), mustParsePorts(t, "udp:1-2"), Config{ProxyProtocol: true})
	checkErr(t, err, "Config.ProxyProtocol is for bytes alone")
}

// A stream that does not say which port it is for reaches none.
func TestPortsNeedService(t *testing.T) {
	a, b := pair(t, "tcp")
	mesh := newMuxMesh(t, a, b)
	e, err := NewExposePorts(serviceOf(t, mesh), mustParsePorts(t, "1-65535"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	stream, err := mesh.DialContext(t.Context(), "", "alice/8080")
	if err != nil {
		t.Fatal(err)
	}
	wantReset(t, stream)
	checkErr(t, e.Stats().LastError, `"" is no port of 127.0.0.1:1-65535`)
}

func mustParsePorts(tb testing.TB, s string) Ports {
	tb.Helper()
	p, err := ParsePorts(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"8000-8999", "127.0.0.1:1-2", "[::1]:80-90", "[fe80::1%eth-0]:1-2", "my-host:1-1", "udp:53-54", "2-1", "-", "unix:/a-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePorts(s)
		if err != nil {
			return
		}
		again, err := ParsePorts(p.String())
		if err != nil || again != p {
			t.Errorf("ParsePorts(%q).String() = %q, which parses to %v, %v", s, p, again, err)
		}
		if first, last := p.Range(); first == 0 || last < first {
			t.Errorf("ParsePorts(%q).Range() = %d, %d, want two ports in order", s, first, last)
		}
	})
}
