package control

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The JSON is a promise: a field may be added, and none goes or changes. A line
// of the golden file is changed only by who can say why.
func TestJSON(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	counts := Counts{Open: 1, Total: 2, Failed: 3, Sent: 4, Received: 5, Error: "dial 127.0.0.1:1: connection refused"}
	addr := multiaddr.StringCast("/ip4/192.0.2.1/tcp/4001")
	exposed := Exposed{Version: Version, Service: "web", Target: "127.0.0.1:3000", Counts: counts}
	forward := Forward{Version: Version, Listen: "127.0.0.1:8080", Target: "alice/web", Counts: counts}
	var got bytes.Buffer
	for _, v := range []struct {
		name  string
		value any
	}{
		{"node", Node{
			Version: Version, ID: "12D3KooW", Name: "alice", Roles: "member,admin,relay", Mesh: "abcd", Expires: when, Renewal: when,
			Addrs: []multiaddr.Multiaddr{addr}, Local: Local{Dir: "/run/user/1000/p2pnode"}, PID: 42, Since: when, Up: 1, Members: 2,
			Exposed: []Exposed{exposed}, Forwards: []Forward{forward}, Streams: []Stream{},
		}},
		{"node that is reached", Node{
			Version: Version, Reachable: "yes", Relays: []Peer{{ID: "12D3KooW", Name: "carol"}}, Relaying: Relaying{Off: true}, Exposed: []Exposed{}, Forwards: []Forward{}, Streams: []Stream{},
		}},
		{"node with streams", Node{
			Version: Version, Exposed: []Exposed{}, Forwards: []Forward{},
			Streams:      []Stream{{Member: "bob", Service: "web", Dialed: true, Path: "relay", Since: when, Waiting: true, Moves: 1, Resumes: 2, Stalls: 3, Replayed: 4, Held: 5}, {Member: "bob", Service: "web", Path: "unix", Plain: true, Since: when}},
			StreamTotals: StreamTotals{Open: 1, Waiting: 2, Held: 3, Moves: 4, Resumes: 5, Stalls: 6, Replayed: 7, Expired: 8, Unknown: 9},
		}},
		{"node without anything", Node{Version: Version, Exposed: []Exposed{}, Forwards: []Forward{}, Streams: []Stream{}}},
		{"local with a fault", Local{Dir: "/d", Error: "it was removed", Remade: 2}},
		{"member", Member{Version: Version, ID: "12D3KooW", Name: "bob", Roles: "member,relay", Up: true, Path: "lan", RTT: 0.25}},
		{"member by a relay", Member{Version: Version, ID: "12D3KooW", Name: "bob", Roles: "member", Up: true, Path: "relay", Relay: "carol", RTT: 0.25}},
		{"member that is away", Member{Version: Version, ID: "12D3KooW", Name: "bob", Roles: "member,relay", Seen: &when}},
		{"member itself", Member{Version: Version, ID: "12D3KooW", Name: "bob", Roles: "member,relay", Self: true, Up: true, Path: "self"}},
		{"member and more", Member{
			Version: Version, ID: "12D3KooW", Name: "bob", Roles: "member", Up: true, Expires: when, Admitted: when, NameChosen: true, Only: []string{"web"},
		}},
		{"whois", Whois{Member: Member{Version: Version, ID: "12D3KooW", Name: "bob", Roles: "member"}, Offers: []Offer{}, NoOffers: "it is away"}},
		{"node that is restricted", Node{Version: Version, Only: []string{"web"}, Exposed: []Exposed{}, Forwards: []Forward{}, Streams: []Stream{}}},
		{"exposed for some", Exposed{Version: Version, Service: "web", Target: "127.0.0.1:3000", Allow: []Rule{{Rule: "everyone"}}, Deny: []Rule{{Rule: "bob"}}}},
		{"access", Access{Version: Version, Service: "web", Allow: []Rule{{Rule: "12D3KooW", Name: "bob"}}, Deny: []Rule{{Rule: "eve", Note: "nobody is"}}}},
		{"access of nobody", Access{Version: Version, Service: "web", Allow: []Rule{}, Deny: []Rule{}}},
		{"invite info", InviteInfo{
			Version: Version, ID: "abcd", Name: "bob", Roles: "member", Services: []string{"web"}, Uses: 2, Used: []string{"12D3KooW"},
			Made: when, Expires: when, State: InviteOpen,
		}},
		{"invite info without anything", InviteInfo{Version: Version, Used: []string{}}},
		{"invite states", []InviteState{InviteOpen, InviteUsedUp, InviteExpired, InviteRevoked}},
		{"invite options and more", InviteOptions{Uses: 1, Services: []string{"web"}}},
		{"revocation", Revocation{Who: "bob", Since: when}},
		{"revocation of one", Revocation{Who: "bob"}},
		{"revoked", Revoked{Version: Version, Invite: "abcd", Unknown: true, Out: []Out{{ID: "12D3KooW", Name: "bob"}}}},
		{"revoked nobody known", Revoked{Version: Version, Out: []Out{}}},
		{"left", Left{Version: Version, ID: "12D3KooW", Name: "bob", Mesh: "abcd", RootKey: "/d/root.key"}},
		{"exposed", exposed},
		{"forward", forward},
		{"forward through no relay", Forward{Version: Version, DirectOnly: true, WaitDirect: time.Second}},
		{"forward that is plain", Forward{Version: Version, Plain: true}},
		{"forward without anything", Forward{Version: Version}},
		{"invite options", InviteOptions{Expires: time.Hour, Roles: "member", Name: "bob"}},
		{"invite options without anything", InviteOptions{}},
		{"invite", Invite{Version: Version, ID: "abcd", Invite: "p2pnode1abcd", Expires: when}},
		{"pong", Pong{Version: Version, Member: "bob", Path: "lan", RTT: 0.25}},
		{"pong by a relay", Pong{Version: Version, Member: "bob", Path: "relay", Relay: "carol", RTT: 0.25, Reason: "none answered"}},
		{"doctor", Doctor{
			Version: Version, ID: "12D3KooW", Name: "alice", Addrs: []multiaddr.Multiaddr{addr},
			IPv4:      Family{NAT: NAT{Mapping: "same", Filtering: "port", UDP: "yes"}, TCP: "no", External: "192.0.2.1:4001", Seen: 2, Addrs: 3},
			IPv6:      Family{NAT: NAT{Mapping: "unknown", Filtering: "unknown", UDP: "unknown"}, TCP: "unknown"},
			Reachable: "unknown", Relays: []Peer{{ID: "12D3KooW", Name: "carol"}}, Refused: []RefusedRelay{{Peer: Peer{ID: "12D3KooW"}, Error: "it is full"}},
			Relaying: Relaying{Bytes: 5}, Proxy: "HTTPS_PROXY=http://192.0.2.2:3128", Members: []Member{{Version: Version}},
			Findings: []Finding{{About: "relays", Measured: "none", Means: "out of reach", Do: "have one"}, {About: "IPv6", Measured: "none", Means: "none"}},
		}},
		{"why", Why{
			Version: Version, Member: Member{Version: Version, Name: "bob"},
			Connections: []Connection{{Path: "relay", Relay: "carol", Addr: addr.String(), Inbound: true, Since: when, Streams: 3}},
			Addrs:       []Addr{{Addr: addr.String(), Path: "direct", Source: "peer", Tried: &when, Took: 1.5, Verdict: "failed", Error: "it broke"}, {Addr: addr.String(), Path: "direct", Verdict: "not-tried"}},
			Here:        [2]NAT{{Mapping: "same", Filtering: "port", UDP: "yes"}}, Punchable: "yes",
			Upgrade: &Upgrade{At: when, Tries: 2, Path: "relay", Reason: "none answered"},
			Changes: []PathChange{{At: when, From: "direct", To: "relay", Relay: "carol", Why: "connection lost"}},
			Reason:  "bob is reached through carol", Do: "wait",
		}},
		{"why nothing is known", Why{Version: Version, Connections: []Connection{}, Addrs: []Addr{}, Changes: []PathChange{}, Error: "no known address"}},
		{"error", &Error{Version: Version, Code: CodeUnknownMember, Text: "no such member: bob", Hint: "look"}},
		{"codes", []Code{
			CodeOther, CodeBadRequest, CodeUnknownMember, CodeAmbiguous, CodeNoProvider, CodeNoService, CodeNotPermitted,
			CodeBusy, CodeUnreachable, CodeBroken, CodeNotAdmin, CodeExists, CodeNotFound, CodeInUse, CodeNoAddress,
			CodeDenied, CodeNotRunning, CodeDirInUse, CodeBadDir, CodeDiskFull, CodeBadInvite, CodeExpired, CodeBadClock,
			CodeNotMember, CodeOtherMesh, CodeNameFixed, CodeAlone, CodeCorrupt, CodeKeyExposed, CodeInterrupted,
			CodeUnknownInvite, CodeRevoked, CodeInviteUsed, CodeNoAdmin,
			CodeNoLocal, CodeOnlyRelay,
		}},
		{"code of a page of the web", CodeForeign},
		{"outcome", Outcome{Version: Version, ID: "7", State: StreamOpen}},
		{"outcome of one that broke", Outcome{Version: Version, ID: "7", State: StreamBroken, Error: &Error{Version: Version, Code: CodeBroken, Text: "it broke"}}},
		{"stream states", []StreamState{StreamOpen, StreamEnded, StreamBroken}},
		{"event of a path", Event{Version: Version, At: when, Kind: EventPath, Member: "bob", ID: "12D3KooW", From: "relay", To: "direct", Relay: "carol", Why: "a better path"}},
		{"event of a stream", Event{Version: Version, At: when, Kind: EventStreamMoved, Member: "bob", Stream: &Stream{Member: "bob", Service: "web", Since: when}}},
		{"event of a forward", Event{Version: Version, At: when, Kind: EventForward, Listen: "127.0.0.1:8080", Target: "/web"}},
		{"event of a service", Event{Version: Version, At: when, Kind: EventExposed, Service: "web", Target: "127.0.0.1:3000"}},
		{"events that were lost", Event{Version: Version, At: when, Kind: EventLost, Lost: 7}},
		{"event kinds", []EventKind{
			EventMemberUp, EventMemberDown, EventMemberGone, EventPath, EventStreamMoved, EventStreamResumed, EventStreamWaiting,
			EventExposed, EventUnexposed, EventForward, EventUnforward, EventProxy, EventUnproxy, EventAccess, EventLost, EventDown,
		}},
		{"exposed that is down", Exposed{Version: Version, Service: "web", Target: "127.0.0.1:3000", Down: "it broke", From: FromConfig}},
		{"forward that is down", Forward{Version: Version, Listen: "127.0.0.1:8080", Target: "/web", Down: "it broke", From: FromConfig}},
		{"proxy", Proxy{Version: Version, Listen: "127.0.0.1:1080", Others: true}},
		{"proxy that is down", Proxy{Version: Version, Listen: "127.0.0.1:1080", Down: "it broke", From: FromConfig}},
		{"reloaded", Reloaded{Version: Version, File: "/d/mesh.toml", Added: 1, Changed: 2, Removed: 3, Unchanged: 4, Notes: []string{"look"}}},
		{"services", Services{Version: Version, Offered: []Offered{{Member: "bob", ID: "12D3KooW", Offer: Offer{"web", "stream", ""}}, {Member: "alice", ID: "12D3KooX", Offer: Offer{"*", "stream", "8000-8999"}, Self: true}}, Unasked: []Unasked{{Member: "carol", ID: "12D3KooY", Error: "it broke"}}}},
		{"services of nobody", Services{Version: Version, Offered: []Offered{}}},
		{"wait", []Wait{{For: WaitReady}, {For: WaitPeer, What: "alice"}, {For: WaitService, What: "/web"}}},
		{"codes of configurations, proxies and waiting", []Code{CodeNoConfig, CodeBadConfig, CodeFromConfig, CodeNotMesh, CodeNotYet}},
		{"error of a node", &Error{Version: Version, Code: CodeOther, Text: "it broke"}},
	} {
		data, err := json.Marshal(v.value)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(v.name + ": " + string(data) + "\n")
	}
	checkGolden(t, "testdata/api.txt", got.Bytes())
}

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
		t.Errorf("JSON = \n%s\nwant, as in %s,\n%s", got, file, want)
	}
}
