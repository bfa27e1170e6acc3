package e2e

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// labNode is a node on a machine of a lab, which has files and commands in common
// with this one.
func labNode(t *testing.T, h *lab.Host) *node {
	t.Helper()
	n := newNode(t, h.Name())
	n.at = h.Command
	return n
}

// eventually waits until a command at a node prints all of some texts.
func eventually(t *testing.T, n *node, wants []string, args ...string) string {
	t.Helper()
	for deadline := time.Now().Add(patience / 2); ; {
		out, err := n.try(args...)
		missing := ""
		for _, want := range wants {
			if !strings.Contains(out, want) {
				missing = want
			}
		}
		if missing == "" && err == nil {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("p2pnode %s at %s = %v, %s\nwant %q in it", strings.Join(args, " "), n.name, err, out, missing)
		}
		<-time.After(200 * time.Millisecond)
	}
}

// Two members behind NATs that no hole can be punched through are told so, by each
// command that has to do with it; and one that can be reached directly is.
func TestWhyARelay(t *testing.T) {
	l := lab.New(t)
	alice := labNode(t, l.Host("alice"))
	bob := labNode(t, l.Router("r1", lab.NAT{Kind: lab.Symmetric}).Host("bob"))
	carol := labNode(t, l.Router("r2", lab.NAT{Kind: lab.Symmetric}).Host("carol"))
	if err := l.Verify(testContext(t)); err != nil {
		t.Fatal(err)
	}
	alice.up("--no-local", "--verbose")
	invite := alice.invite()
	for _, n := range []*node{bob, carol} {
		n.join(invite, "--no-local", "--verbose")
	}
	eventually(t, bob, []string{"alice", "reached through alice"}, "doctor")
	eventually(t, carol, []string{"reached through alice"}, "doctor")
	for _, n := range []*node{bob, carol} {
		eventually(t, n, []string{"another port for each destination", "turn on UPnP"}, "doctor", "--no-try")
	}
	if _, err := bob.try("ping", "carol", "-n", "1"); err != nil {
		t.Fatal(err)
	}
	if out := bob.run("ping", "carol", "-n", "1"); !strings.HasPrefix(out, "carol via relay alice in ") {
		t.Errorf("ping = %q, want carol via relay alice", out)
	}
	if out := bob.run("peers"); !strings.Contains(out, "relay alice") {
		t.Errorf("peers = %s, want carol by relay alice", out)
	}

	began := time.Now()
	out := bob.run("why", "carol")
	took := time.Since(began)
	for _, want := range []string{
		"relay alice", "NAT here ", "it can't be done between these two; tried", "carol is reached through alice: no hole can be punched",
		"UPnP", "itself, by a relay", "from none to relay alice: connected\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("why carol = %s\nwant %q in it", out, want)
		}
	}
	if took > 7*time.Second {
		t.Errorf("why carol took %v, want at most 6 s and a moment", took)
	}
	t.Logf("why carol, in %v:\n%s", took, out)
	var why struct {
		Punchable string
		Member    struct{ Path, Relay string }
	}
	if err := json.Unmarshal([]byte(bob.run("why", "carol", "--no-try", "--json")), &why); err != nil {
		t.Fatal(err)
	}
	if why.Punchable != "no" || why.Member.Path != "relay" || why.Member.Relay != "alice" {
		t.Errorf("why carol --json = %+v, want a relay, alice, and no hole", why)
	}

	_, err := bob.try("ping", "carol", "--until-direct", "--timeout", "3s")
	wantError(t, err, "ping carol: only reached through a relay after 3s: no hole can be punched", `"p2pnode why MEMBER"`)
	carol.run("expose", "web", "3000") // where nobody listens
	began = time.Now()
	_, err = bob.try("connect", "carol/web", "--direct-only", "--wait-direct", "1s")
	wantError(t, err, "dial carol/web: dial peer", "only reached through a relay after 1s: no hole can be punched", `"p2pnode why MEMBER"`)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("connect --direct-only took %v, want a second", took)
	}
	_, err = bob.try("connect", "/web", "--direct-only", "--wait-direct", "100ms", "--json")
	wantError(t, err, `"code":"only-relay"`)

	if out := bob.run("ping", "alice", "--until-direct"); !strings.HasPrefix(out, "alice via direct in ") || strings.Contains(out, "\n") {
		t.Errorf("ping alice --until-direct = %q, want one line, direct", out)
	}
	if out := eventually(t, alice, []string{"others have connected to this node from the Internet", "members need no help"}, "doctor"); !strings.Contains(out, "has carried ") {
		t.Errorf("doctor at alice = %s, want what it has carried", out)
	}
	for _, n := range []*node{alice, bob} {
		t.Logf("doctor at %s:\n%s", n.name, n.run("doctor"))
		t.Logf("status at %s:\n%s", n.name, n.run("status"))
	}
}

// A member that can be reached by a hole is, and the commands say when.
func TestUntilDirect(t *testing.T) {
	l := lab.New(t)
	alice := labNode(t, l.Host("alice"))
	bob := labNode(t, l.Router("r1", lab.NAT{Kind: lab.PortRestricted}).Host("bob"))
	far := l.Router("r2", lab.NAT{Kind: lab.AddressRestricted}).Host("carol")
	carol := labNode(t, far)
	greeting := serveAt(t, far, "hello")
	alice.up("--no-local")
	invite := alice.invite()
	for _, n := range []*node{bob, carol} {
		n.join(invite, "--no-local", "--verbose")
		eventually(t, n, []string{"reached through alice"}, "doctor", "--no-try")
	}
	if out := bob.run("ping", "carol", "--until-direct", "--timeout", "20s"); !strings.Contains(out, "carol via direct in ") {
		t.Errorf("ping carol --until-direct = %s, want that it ends with direct", out)
	}
	out := bob.run("why", "carol")
	for _, want := range []string{"to direct: connected at", "carol is reached at a public address", "it can be done between these two; tried"} {
		if !strings.Contains(out, want) {
			t.Errorf("why carol = %s\nwant %q in it", out, want)
		}
	}
	carol.run("expose", "web", greeting)
	if out, err := bob.try("connect", "carol/web", "--direct-only"); err != nil || out != "hello" {
		t.Errorf("connect --direct-only = %q, %v, want hello", out, err)
	}
	t.Logf("%s", out)
}

// serveAt is a server on a machine of a lab that says a text, and returns its address.
func serveAt(t *testing.T, h *lab.Host, text string) string {
	t.Helper()
	var ln net.Listener
	listen := func() (err error) {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}
	if err := h.Do(listen); err != nil {
		t.Fatal(err)
	}
	handleEach(t, ln, func(c net.Conn) { _, _ = io.WriteString(c, text) })
	return ln.Addr().String()
}

func wantError(t *testing.T, err error, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %q in it", err, want)
		}
	}
}
