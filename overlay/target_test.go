package overlay

import (
	"errors"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
)

// aliceID is the peer ID of the key whose seed is all twos.
const aliceID = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"

func peerOf(t testing.TB, b byte) peer.ID {
	t.Helper()
	id, err := p2p.PeerID(publicOf(seeded(b)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestParseTarget(t *testing.T) {
	id := peerOf(t, 2)
	longest := strings.Repeat("a", 63)
	for _, tt := range []struct {
		name, in string
		want     Target
		err      string // substring; empty means success
	}{
		{"a member's service", "alice/web", Target{Member: "alice", Service: "web"}, ""},
		{"any member's", "/web", Target{Service: "web"}, ""},
		{"by peer ID", aliceID + "/web", Target{ID: id, Service: "web"}, ""},
		{"by peer ID as a CID", peer.ToCid(id).String() + "/web", Target{ID: id, Service: "web"}, ""},
		{"longest names", longest + "/" + longest, Target{Member: longest, Service: longest}, ""},
		{"a name of one digit", "1/2", Target{Member: "1", Service: "2"}, ""},
		{"a name that libp2p takes for an ID", "11/web", Target{Member: "11", Service: "web"}, ""},
		{"another such name", "15r/web", Target{Member: "15r", Service: "web"}, ""},
		{"nothing", "", Target{}, `"": want MEMBER/SERVICE, or /SERVICE for the nearest`},
		{"no service", "alice", Target{}, `"alice": want MEMBER/SERVICE`},
		{"an empty service", "alice/", Target{}, `"alice/": service name ""`},
		{"neither", "/", Target{}, `"/": service name ""`},
		{"a second slash", "alice/web/x", Target{}, `service name "web/x"`},
		{"a service in upper case", "alice/Web", Target{}, `service name "Web"`},
		{"a name in upper case", "Alice/web", Target{}, `member name "Alice"`},
		{"a name with white space", "alice /web", Target{}, `member name "alice "`},
		{"a name that is too long", longest + "a/web", Target{}, "64 characters, not 1 to 63"},
		{"a port", "alice/web:80", Target{}, `service name "web:80"`},
		{"a peer ID cut off", aliceID[:51] + "/web", Target{}, "and no peer ID"},
		{"a peer ID of another kind of key", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N/web", Target{}, "and no peer ID"},
		{"far too long", strings.Repeat("a", 300) + "/web", Target{}, "304 characters, more than 256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseTarget(tt.in)
			checkTarget(t, "ParseTarget", tt.in, got, tt.want, err, tt.err)
		})
	}
}

func checkTarget(t testing.TB, call, in string, got, want Target, err error, says string) {
	t.Helper()
	switch {
	case got != want:
		t.Errorf("%s(%q) = %+v, want %+v", call, in, got, want)
	case says == "" && err != nil:
		t.Errorf("%s(%q) = %v, want no error", call, in, err)
	case says != "" && (!errors.Is(err, ErrBadTarget) || !strings.Contains(err.Error(), says)):
		t.Errorf("%s(%q) = %v, want %q and %q", call, in, err, ErrBadTarget, says)
	}
}

func TestTargetString(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   Target
		want string
	}{
		{"by name", Target{Member: "alice", Service: "web"}, "alice/web"},
		{"by peer ID", Target{ID: peerOf(t, 2), Service: "web"}, aliceID + "/web"},
		{"nearest", Target{Service: "web"}, "/web"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.in.String(); got != tt.want {
				t.Errorf("String() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseHost(t *testing.T) {
	web := Target{Member: "alice", Service: "web"}
	for _, tt := range []struct {
		name, in string
		want     Target
		err      string
	}{
		{"host and port", "web.alice.mesh:80", web, ""},
		{"host alone", "web.alice.mesh", web, ""},
		{"in upper case", "Web.Alice.MESH:443", web, ""},
		{"nearest", "web.mesh:80", Target{Service: "web"}, ""},
		{"a target", "alice/web", web, ""},
		{"the nearest as a target", "/web", Target{Service: "web"}, ""},
		{"a target by peer ID", aliceID + "/web", Target{ID: peerOf(t, 2), Service: "web"}, ""},
		{"another domain", "web.alice.example:80", Target{}, `host "web.alice.example": want SERVICE.MEMBER.mesh or SERVICE.mesh`},
		{"an address", "127.0.0.1:80", Target{}, `host "127.0.0.1"`},
		{"an IPv6 address", "[::1]:80", Target{}, `host "::1"`},
		{"nothing", "", Target{}, `host ""`},
		{"the domain alone", "mesh:80", Target{}, `host "mesh"`},
		{"no service", ".mesh:80", Target{}, `service name ""`},
		{"no service before the member", ".alice.mesh:80", Target{}, `service name ""`},
		{"no member", "web..mesh:80", Target{}, `host "web..mesh": no member`},
		{"too many labels", "www.web.alice.mesh:80", Target{}, `member name "web.alice"`},
		{"a target with a port", "alice/web:80", Target{}, `service name "web:80"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseHost(tt.in)
			checkTarget(t, "ParseHost", tt.in, got, tt.want, err, tt.err)
		})
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"alice/web", "/web", aliceID + "/web", "11/web", "k51qzi5uqu5d/x", "alice/", "a/b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTarget(s)
		if err != nil {
			if got != (Target{}) || !errors.Is(err, ErrBadTarget) {
				t.Errorf("ParseTarget(%q) = %+v, %v, want no target and %v", s, got, err, ErrBadTarget)
			}
			return
		}
		again, err := ParseTarget(got.String())
		if err != nil || again != got {
			t.Errorf("ParseTarget(%q).String() = %q, which parses to %+v, %v", s, got.String(), again, err)
		}
		if got.ID == "" && got.String() != s {
			t.Errorf("ParseTarget(%q).String() = %q, want the same", s, got.String())
		}
	})
}

// The host name of a target stands for that target.
func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"web.alice.mesh:80", "web.mesh", "alice/web", "web..mesh", "[::1]:80", ".mesh"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseHost(s)
		if err != nil {
			if got != (Target{}) || !errors.Is(err, ErrBadTarget) {
				t.Errorf("ParseHost(%q) = %+v, %v, want no target and %v", s, got, err, ErrBadTarget)
			}
			return
		}
		if got.ID != "" {
			return // has no host name
		}
		host := got.Service + "." + got.Member + meshDomain
		if got.Member == "" {
			host = got.Service + meshDomain
		}
		if again, err := ParseHost(host + ":80"); err != nil || again != got {
			t.Errorf("ParseHost(%q) = %+v, and ParseHost(%q) = %+v, %v, want the same", s, got, host, again, err)
		}
	})
}
