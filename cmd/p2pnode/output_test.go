package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

var update = flag.Bool("update", false, "write the golden files anew")

func checkGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant, as in %s,\n%s", got, file, want)
	}
}

// The JSON that the command makes by itself is a promise, as that of the node.
func TestJSON(t *testing.T) {
	var got bytes.Buffer
	for _, v := range []any{
		ready{
			Version: control.Version, Event: "ready", Name: "alice", ID: "12D3KooW", Mesh: "abcd",
			Addrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/192.0.2.1/tcp/4001")}, Dir: "/d", Took: 1.5,
		},
		demoResult{
			Version: control.Version, From: "alice", To: "bob", Path: "lan",
			FirstByte: 1.5, Throughput: 800, RoundTrip: 0.25, Verified: true,
		},
		demoResult{Version: control.Version, From: "alice", To: "bob", Error: "the hashes differ"},
		manual{Version: control.Version, Dir: "/d", Pages: 24},
	} {
		if err := json.NewEncoder(&got).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	checkGolden(t, "testdata/json.txt", got.Bytes())
}

// The tables are for people, and line up.
func TestTables(t *testing.T) {
	seen := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	counts := control.Counts{Open: 1, Total: 2, Failed: 3, Sent: 2048, Received: 5, Error: "connection refused"}
	everyone := []control.Rule{{Rule: "everyone"}}
	admins := []control.Rule{{Rule: "role:admin"}, {Rule: "alice"}}
	var got bytes.Buffer
	if err := writeMembers(&got, []control.Member{
		{Name: "alice", ID: "12D3KooWa", Roles: "member,admin,relay", Up: true, Path: "lan", RTT: 0.256},
		{Name: "bob", ID: "12D3KooWb", Roles: "member", Self: true, Up: true, Path: "self"},
		{Name: "carol", ID: "12D3KooWc", Roles: "member,relay", Seen: &seen},
		{Name: "dave", ID: "12D3KooWd", Roles: "member,relay"},
		{Name: "erin", ID: "12D3KooWe", Roles: "member,relay", Up: true, Path: "relay", Relay: "alice", RTT: 40.2},
	}); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	if err := writeStatus(&got, control.Node{
		Name: "bob", ID: "12D3KooWb", Mesh: "abcd", Roles: "member", Expires: seen, Renewal: seen, Members: 3, Up: 1, PID: 42, Since: time.Now(),
		Addrs:    []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/192.0.2.1/tcp/4001"), multiaddr.StringCast("/ip6/::1/tcp/4001")},
		Local:    control.Local{Dir: "/run/user/1000/p2pnode", Remade: 2},
		Exposed:  []control.Exposed{{Service: "web", Target: "127.0.0.1:3000", Counts: counts, Allow: everyone}, {Service: "db", Target: "unix:/s", Allow: admins}},
		Only:     []string{"web", "db"},
		Forwards: []control.Forward{{Listen: "127.0.0.1:8080", Target: "alice/web"}, {Listen: "127.0.0.1:8081", Target: "alice/web", DirectOnly: true}, {Listen: "127.0.0.1:8082", Target: "alice/web", DirectOnly: true, Plain: true}},
		Streams:  []control.Stream{{Member: "alice", Service: "web", Dialed: true, Path: "lan", Since: time.Now()}},
		Relays:   []control.Peer{{ID: "12D3KooWa", Name: "alice"}, {ID: "12D3KooWd"}}, Relaying: control.Relaying{Bytes: 2048},
	}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []control.Local{
		{Dir: "/run/user/1000/p2pnode", Remade: 1},
		{Dir: "/d", Error: "it was removed", Remade: 2},
		{Error: "--no-local"},
		{}, // of a node before there was such a path
	} {
		got.WriteString(strings.Join(local(l), "\n") + "\n")
	}
	got.WriteByte('\n')
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	many := make([]control.Stream, 21)
	for i := range many {
		many[i] = control.Stream{Member: "bob", Service: "web", Dialed: true, Path: "lan", Since: now}
	}
	for _, all := range [][]control.Stream{
		nil,
		{
			{Member: "bob", Service: "ssh", Dialed: true, Path: "direct", Since: now.Add(-time.Hour), Moves: 1, Resumes: 2, Stalls: 1},
			{Member: "bob", Service: "web", Path: "relay", Since: now.Add(-1600 * time.Millisecond), Stalls: 3, Waiting: true},
			{Member: "bob", Service: "db", Dialed: true, Path: "unix", Since: now, Plain: true},
			{Member: "bob", Service: "db", Dialed: true, Path: "lan", Since: now, Plain: true},
		},
		many,
	} {
		got.WriteString(strings.Join(streams(all, now), "\n") + "\n")
	}
	got.WriteByte('\n')
	if err := writeAccess(&got, []control.Access{
		{Service: "db", Allow: admins, Deny: []control.Rule{{Rule: "12D3KooWb", Name: "bob"}}},
		{Service: "nothing"},
		{Service: "web", Allow: everyone},
	}); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	if err := writeInvites(&got, []control.InviteInfo{
		{ID: "abcd", Name: "bob", Roles: "member", Services: []string{"web", "db"}, Uses: 3, Used: []string{"12D3KooWa"}, Expires: seen, State: control.InviteOpen},
		{ID: "efgh", Roles: "member,relay", Used: []string{"12D3KooWa", "12D3KooWb"}, Expires: seen, State: control.InviteRevoked},
		{ID: "ijkl", Roles: "member,relay", Uses: 1, Used: []string{"12D3KooWa"}, Expires: seen, State: control.InviteUsedUp},
	}); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	for _, who := range []control.Whois{
		{Member: control.Member{Name: "bob", ID: "12D3KooWb", Roles: "member", Up: true, Path: "lan", RTT: 0.256, Expires: seen, Admitted: seen, NameChosen: true, Only: []string{"web"}}, Offers: []control.Offer{{Service: "*", Kind: "stream", Ports: "8000-8999"}, {Service: "db", Kind: "stream"}, {Service: "dns", Kind: "datagram"}}},
		{Member: control.Member{Name: "carol", ID: "12D3KooWc", Roles: "member", Expires: seen, Admitted: seen}, NoOffers: "connection refused"},
	} {
		if err := writeWhois(&got, who); err != nil {
			t.Fatal(err)
		}
	}
	got.WriteByte('\n')
	if err := writeDemo(&got, []demoResult{
		{From: "alice", To: "bob", Path: "lan", FirstByte: 1.25, Throughput: 812.4, RoundTrip: 0.256, Verified: true},
		{From: "bob", To: "alice", Error: "the hashes differ"},
	}); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	got.WriteString(demoMatrix([]demoResult{{From: "alice", To: "bob", Verified: true}, {From: "erin", To: "alice"}}))
	checkGolden(t, "testdata/tables.txt", got.Bytes())
}

func TestByteCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 5 << 30: "5.0 GiB", 1 << 40: "1.0 TiB",
		1 << 50: "1.0 PiB", 1<<64 - 1: "16384.0 PiB",
	} {
		if got := byteCount(n); got != want {
			t.Errorf("byteCount(%d) = %q, want %q", n, got, want)
		}
	}
}

// A demo in which a pair fails has no answer.
func TestDemoThatFails(t *testing.T) {
	results := []demoResult{{From: "alice", To: "bob", Verified: true}, {From: "bob", To: "alice", Error: "the hashes differ"}}
	for _, asJSON := range []bool{false, true} {
		var stdout, stderr bytes.Buffer
		e := &env{stdout: &stdout, stderr: &stderr, json: asJSON}
		err := e.printDemo(results)
		if want := "1 of 20 ordered pairs verified; bob to alice: the hashes differ"; err == nil || err.Error() != want {
			t.Errorf("printDemo = %v, want %q", err, want)
		}
		if stdout.Len() > 0 || asJSON == strings.Contains(stderr.String(), "PAIR") {
			t.Errorf("printDemo with JSON %v writes %q, and on standard error %q", asJSON, &stdout, &stderr)
		}
	}
}

// A secret that was mistyped stays off the screen.
func TestShorten(t *testing.T) {
	for in, want := range map[string]string{
		"invite.txt":            "invite.txt",
		strings.Repeat("a", 24): strings.Repeat("a", 24),
		strings.Repeat("a", 25): strings.Repeat("a", 24) + "…",
	} {
		if got := shorten(in); got != want {
			t.Errorf("shorten(%q) = %q, want %q", in, got, want)
		}
	}
}
