package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

var (
	mappings   = []string{"unknown", "none", "same", "dependent"}
	filterings = []string{"unknown", "none", "address", "port"}
)

// What each kind of NAT means, whatever else is known, is written down once.
func TestFamilyFindings(t *testing.T) {
	var got bytes.Buffer
	reachable := "unknown"
	write := func(name string, f control.Family) {
		fmt.Fprintf(&got, "# %s\n", name)
		if err := writeFindings(&got, []control.Finding{familyFinding("IPv4", f, reachable)}); err != nil {
			t.Fatal(err)
		}
	}
	write("no address", control.Family{})
	write("not seen", control.Family{Addrs: 2})
	write("no UDP", control.Family{NAT: control.NAT{UDP: "no"}, TCP: "no", Seen: 1, Addrs: 1})
	for _, m := range mappings {
		for _, f := range filterings {
			write(m+", "+f, control.Family{NAT: control.NAT{Mapping: m, Filtering: f, UDP: "yes"}, TCP: "no", External: "192.0.2.1:4001", Seen: 2, Addrs: 1})
		}
	}
	write("a firewall that lets TCP in", control.Family{NAT: control.NAT{Mapping: "none", Filtering: "port", UDP: "yes"}, TCP: "yes", External: "192.0.2.1:4001", Seen: 1})
	reachable = "yes"
	write("those asked are behind NATs", control.Family{NAT: control.NAT{UDP: "no"}, TCP: "yes", Seen: 2, Addrs: 1})
	checkGolden(t, "testdata/nats.txt", got.Bytes())
}

// A report has a line for all that was measured.
func TestFindings(t *testing.T) {
	addrs := []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/192.0.2.1/tcp/4001")}
	sockets := control.Local{Dir: "/run/user/1000/p2pnode"}
	carol := control.Peer{ID: "12D3KooWc", Name: "carol"}
	many := make([]control.Member, 10)
	for i := range many {
		many[i] = control.Member{Name: fmt.Sprintf("m%d", i), Path: "lan"}
	}
	var got bytes.Buffer
	for _, tt := range []struct {
		name string
		in   control.Doctor
	}{
		{"reachable", control.Doctor{Addrs: addrs, Reachable: "yes", Local: sockets, Relaying: control.Relaying{Bytes: 2048}, Members: many[:1]}},
		{"behind a NAT", control.Doctor{
			Addrs: addrs, Reachable: "unknown", Relays: []control.Peer{carol}, Relaying: control.Relaying{Off: true},
			Local: control.Local{Dir: "/d", Error: "it was removed"}, Proxy: "HTTPS_PROXY=http://192.0.2.2:3128",
			Members: []control.Member{{Name: "carol", Path: "direct"}, {Name: "bob", Path: "relay", Relay: "carol"}},
		}},
		{"two relays", control.Doctor{Addrs: addrs, Reachable: "unknown", Relays: []control.Peer{carol, {ID: "12D3KooWd"}}, Local: control.Local{Error: "--no-local"}, Members: many}},
		{"refused", control.Doctor{
			Addrs: addrs, Reachable: "unknown", Refused: []control.RefusedRelay{{Peer: carol, Error: "it is full"}, {Peer: control.Peer{ID: "12D3KooWd"}, Error: "it broke"}},
			Local: control.Local{Error: "directory is not safe"},
		}},
		{"on this machine", control.Doctor{Local: sockets}},
	} {
		fmt.Fprintf(&got, "# %s\n", tt.name)
		if err := writeFindings(&got, findings(tt.in)); err != nil {
			t.Fatal(err)
		}
	}
	checkGolden(t, "testdata/findings.txt", got.Bytes())
}

// Every finding says what it means, and none is the beginning of a sentence.
func TestFindingsAreWhole(t *testing.T) {
	for _, m := range mappings {
		for _, f := range filterings {
			for _, verdict := range []string{"unknown", "yes", "no"} {
				nat := control.Family{NAT: control.NAT{Mapping: m, Filtering: f, UDP: verdict}, TCP: verdict, Seen: 1}
				got := familyFinding("IPv6", nat, "unknown")
				if got.About == "" || got.Measured == "" || got.Means == "" || strings.HasSuffix(got.Means, " ") {
					t.Errorf("familyFinding(%+v) = %+v, want all but Do", nat, got)
				}
			}
		}
	}
}

// Why is told for each path, and for each way not to have one.
func TestReasons(t *testing.T) {
	both := func(mapping, filtering, udp string) [2]control.NAT {
		n := control.NAT{Mapping: mapping, Filtering: filtering, UDP: udp}
		return [2]control.NAT{n, {Mapping: "unknown", Filtering: "unknown", UDP: "unknown"}}
	}
	at := func(verdicts ...string) (out []control.Addr) {
		for _, v := range verdicts {
			out = append(out, control.Addr{Verdict: v})
		}
		return out
	}
	open, shut := both("same", "port", "yes"), both("unknown", "unknown", "no")
	search := &control.Upgrade{Tries: 1, Path: "relay", Reason: "REASON"}
	relayed := control.Member{Name: "bob", Path: "relay", Relay: "carol"}
	for _, tt := range []struct {
		name    string
		in      control.Why
		why, do string // substrings; an empty do is none
	}{
		{"itself", control.Why{Member: control.Member{Name: "bob", Self: true, Path: "self"}}, "itself", ""},
		{"unix", control.Why{Member: control.Member{Name: "bob", Path: "unix"}}, "bob is on this machine", ""},
		{"lan", control.Why{Member: control.Member{Name: "bob", Path: "lan"}}, "at a private address", ""},
		{"direct", control.Why{Member: control.Member{Name: "bob", Path: "direct"}}, "at a public address", ""},
		{"not looked for", control.Why{Member: relayed, Here: open, There: open}, "bob is reached through carol; no better path was looked for", "without --no-try"},
		{"no UDP here", control.Why{Member: relayed, Here: shut, There: open, Punchable: "no", Upgrade: search}, "through carol: REASON", "let UDP out here"},
		{"no UDP there", control.Why{Member: relayed, Here: open, There: shut, Punchable: "no", Upgrade: search}, "REASON", "let UDP out there"},
		{"no hole", control.Why{Member: relayed, Here: both("dependent", "port", "yes"), There: open, Punchable: "no", Upgrade: search}, "REASON", "UPnP"},
		{"no luck", control.Why{Member: relayed, Here: open, There: open, Punchable: "yes", Upgrade: search}, "REASON", "ping bob --until-direct"},
		{"nothing known", control.Why{Member: relayed, Punchable: "unknown", Upgrade: search}, "REASON", "ping bob --until-direct"},
		{"no address", control.Why{Member: control.Member{Name: "bob"}}, "no connection to bob: no address", "see that it is up"},
		{"not tried", control.Why{Addrs: at("not-tried", "not-tried")}, "none was made", "without --no-try"},
		{"refused", control.Why{Addrs: at("timed-out", "refused", "not-tried")}, "no node listens there", "p2pnode up"},
		{"silent", control.Why{Addrs: at("no-route", "timed-out")}, "nobody answers", "firewall"},
		{"no route", control.Why{Addrs: at("no-route")}, "no way", "network"},
		{"blocked", control.Why{Addrs: at("blocked", "timed-out")}, "does not let the node out", "firewall"},
		{"wrong key", control.Why{Addrs: at("wrong-key", "refused")}, "another node", "up"},
		{"not let in", control.Why{Member: control.Member{Name: "bob"}, Addrs: at("not-admitted", "wrong-key")}, "let the other in", "p2pnode whois bob"},
		{"not at the relay", control.Why{Addrs: at("not-at-relay")}, "not at the relay", "up"},
		{"failed", control.Why{Addrs: at("failed")}, "worked", "up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			why, do := reason(tt.in)
			if !strings.Contains(why, tt.why) || !strings.Contains(do, tt.do) || (tt.do == "") != (do == "") {
				t.Errorf("reason(%+v) = %q, %q, want %q, %q", tt.in, why, do, tt.why, tt.do)
			}
		})
	}
}

func TestWriteWhy(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	then := now.Add(-2 * time.Second)
	relayed := control.Why{
		Member:      control.Member{Name: "bob", ID: "12D3KooWb", Up: true, Path: "relay", Relay: "carol", RTT: 40.2},
		Connections: []control.Connection{{Path: "relay", Relay: "carol", Addr: "/ip4/192.0.2.9/tcp/4001/p2p/12D3KooWc/p2p-circuit", Since: then}},
		Addrs: []control.Addr{
			{Addr: "/ip4/10.0.0.2/tcp/4001", Path: "lan", Source: "relay", Tried: &then, Took: 3000, Verdict: "timed-out", Error: "no answer"},
			{Addr: "/ip4/192.0.2.1/udp/4001/quic-v1", Path: "direct", Source: "relay", Tried: &then, Took: 12, Verdict: "wrong-key", Error: "another peer is there: 12D3KooWe"},
			{Addr: "/ip4/192.0.2.2/tcp/4001", Path: "direct", Source: "dht", Verdict: "not-tried"},
			{Addr: "/ip4/192.0.2.3/tcp/4001", Path: "direct", Verdict: "something-new"},
		},
		Here:      [2]control.NAT{{Mapping: "dependent", Filtering: "port", UDP: "yes"}, {Mapping: "unknown", Filtering: "unknown", UDP: "no"}},
		There:     [2]control.NAT{{Mapping: "unknown"}, {Mapping: "unknown"}},
		Punchable: "no",
		Upgrade:   &control.Upgrade{At: then, Tries: 3, Path: "relay", Reason: "no hole can be punched"},
		Changes: []control.PathChange{
			{At: then, To: "direct", Why: "connected at /ip4/192.0.2.1/tcp/4001"},
			{At: now, From: "direct", To: "relay", Relay: "carol", Why: "connected at /ip4/192.0.2.9/tcp/4001/p2p/12D3KooWc/p2p-circuit"},
		},
	}
	away := control.Why{
		Member: control.Member{Name: "dave", ID: "12D3KooWd"}, Here: relayed.Here, There: relayed.There, Punchable: "unknown",
		Changes: []control.PathChange{{At: now, From: "lan", Why: "connection lost"}},
	}
	near := control.Why{Member: control.Member{Name: "alice", ID: "12D3KooWa", Up: true, Path: "unix", RTT: 0.1}}
	var got bytes.Buffer
	for _, w := range []control.Why{relayed, away, near} {
		w.Reason, w.Do = reason(w)
		if err := writeWhy(&got, w, now); err != nil {
			t.Fatal(err)
		}
		got.WriteByte('\n')
	}
	checkGolden(t, "testdata/why.txt", got.Bytes())
}

// The variable is named, and a password in it is not told.
func TestProxy(t *testing.T) {
	for _, tt := range []struct {
		name, value, want string
	}{
		{"HTTPS_PROXY", "http://proxy.example:3128", "HTTPS_PROXY=http://proxy.example:3128"},
		{"all_proxy", "socks5://me:secret@192.0.2.1:1080", "all_proxy=socks5://me:xxxxx@192.0.2.1:1080"},
		{"http_proxy", "secret@nowhere", "http_proxy, which is not a URL"},
		{"HTTPS_PROXY", "proxy.example:3128", "HTTPS_PROXY=http://proxy.example:3128"},
		{"NO_PROXY", "localhost", ""},
	} {
		e := &env{getenv: func(key string) string {
			if key == tt.name {
				return tt.value
			}
			return ""
		}}
		if got := e.proxy(); got != tt.want {
			t.Errorf("proxy() with %s=%s = %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestRouterFinding(t *testing.T) {
	asked := []control.RouterAsked{{Protocol: "PCP", Answer: "silent"}, {Protocol: "UPnP", Answer: "refused"}}
	for _, tt := range []struct {
		name            string
		in              control.Router
		measured, means string
		do              bool
	}{
		{"nothing yet", control.Router{}, "it has not answered yet", "a relay", true},
		{"nothing to be had", control.Router{Gateway: "10.0.0.1", Asked: asked}, "10.0.0.1 maps no port: PCP silent, UPnP refused", "a relay", true},
		{"no gateway", control.Router{Error: "no default route"}, "none to ask: no default route", "no port", false},
		{"a port", control.Router{Mappings: []control.PortMapping{{Proto: "udp", Port: 4001, External: "192.0.2.1:4001", By: "PCP", Reachable: true}}}, "udp port 4001 at 192.0.2.1:4001 by PCP", "connect to this node", false},
		{"another NAT", control.Router{Mappings: []control.PortMapping{{Proto: "udp", Port: 4001, External: "100.64.0.1:4001", By: "PCP"}}}, "100.64.0.1:4001", "another NAT", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := routerFinding(tt.in)
			if !strings.Contains(f.Measured, tt.measured) || !strings.Contains(f.Means, tt.means) || (f.Do != "") != tt.do {
				t.Errorf("routerFinding = %+v, want %q, %q", f, tt.measured, tt.means)
			}
		})
	}
}
