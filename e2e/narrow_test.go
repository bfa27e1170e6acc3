package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

const (
	// relayAtGate is where a member listens that is to be reached by all.
	relayAtGate = "/ip4/0.0.0.0/tcp/443/tls/ws,/ip4/0.0.0.0/tcp/4001,/ip4/0.0.0.0/udp/4001/quic-v1"

	// usable is how long it may take from the start of a member to bytes from another.
	usable = 5 * time.Second
)

// A narrow is a lab with a member that listens at port 443, one behind a NAT, and one
// whose router lets out TCP to port 443 alone.
type narrow struct {
	*lab.Lab
	alice, bob, carol *node
	gate              *lab.Router // bob's
	far               *lab.Router // carol's
	relay             *lab.Host   // alice's
}

// newNarrow makes one. Whatever is to be made in the lab besides is made by prepare.
func newNarrow(t *testing.T, prepare func(*narrow)) *narrow {
	t.Helper()
	l := lab.New(t)
	n := &narrow{Lab: l, relay: l.Host("alice"), gate: l.Router("gate", lab.NAT{Kind: lab.PortRestricted, OnlyTCP443: true}), far: l.Router("far", lab.NAT{Kind: lab.Symmetric})}
	home := n.far.Host("carol")
	office := n.gate.Host("bob")
	n.alice, n.bob, n.carol = labNode(t, n.relay), labNode(t, office), labNode(t, home)
	if err := l.Verify(testContext(t)); err != nil {
		t.Fatal(err)
	}
	services := map[*node]string{}
	for at, host := range map[*node]*lab.Host{n.alice: n.relay, n.bob: office, n.carol: home} {
		services[at] = serveAt(t, host, "hello from "+at.name)
	}
	prepare(n)
	n.alice.up("--no-local", "--listen", relayAtGate)
	n.alice.run("expose", "web", services[n.alice])
	n.carol.join(n.alice.invite(), "--no-local")
	n.carol.run("expose", "web", services[n.carol])
	eventually(t, n.carol, []string{"reached through alice"}, "doctor", "--no-try")
	return n
}

// join has bob join, and wants him to be of use in time, with both others.
func (n *narrow) join(t *testing.T) {
	t.Helper()
	invite := n.alice.invite()
	began := time.Now()
	n.bob.join(invite, "--no-local", "--verbose")
	ready := time.Since(began)
	n.wantHello(t, n.bob, "alice")
	first := time.Since(began)
	n.wantHello(t, n.bob, "carol")
	all := time.Since(began)
	t.Logf("ready after %v, bytes from alice after %v, from carol after %v", ready, first, all)
	if all > usable {
		t.Errorf("bob has bytes from both after %v, want %v", all, usable)
	}
}

// wantHello reads what a member's service says.
func (n *narrow) wantHello(t *testing.T, from *node, member string) {
	t.Helper()
	out, err := from.try("connect", member+"/web")
	if want := "hello from " + member; err != nil || out != want {
		t.Errorf("connect %s/web from %s = %q, %v, want %q", member, from.name, out, err, want)
	}
}

// wantPing wants a member to be reached by a path.
func wantPing(t *testing.T, from *node, member, path string) {
	t.Helper()
	if out := from.run("ping", member, "-n", "1"); !strings.HasPrefix(out, member+" via "+path+" in ") {
		t.Errorf("ping %s from %s = %q, want it via %s", member, from.name, out, path)
	}
}

// A host that can do nothing but connect to port 443 is a member like others, with
// one other member that listens there.
func TestOnlyPort443(t *testing.T) {
	n := newNarrow(t, func(*narrow) {})
	n.join(t)
	wantPing(t, n.bob, "alice", "direct")
	wantPing(t, n.bob, "carol", "relay alice")
	wantPing(t, n.carol, "bob", "relay alice")
	why := n.bob.run("why", "alice")
	if want := "/tcp/443/tls/ws"; !strings.Contains(why, want) {
		t.Errorf("why alice = %s\nwant %s in it", why, want)
	}
	t.Logf("why alice:\n%s", why)
	if doctor := n.bob.run("doctor", "--no-try"); !strings.Contains(doctor, "reached through alice") {
		t.Errorf("doctor = %s\nwant that bob is reached through alice", doctor)
	}
}

// A host that can do nothing but ask a proxy is, too.
func TestOnlyAProxy(t *testing.T) {
	var host *lab.Host
	n := newNarrow(t, func(n *narrow) {
		host = n.Host("proxy")
		// Of what is outside of the gate only the proxy is left.
		n.Partition(n.gate, n.relay)
		n.Partition(n.gate, n.far)
	})
	asked := runLabProxy(t, host, "bob:word")
	at := n.bob.at
	proxy := func(user string) string { return fmt.Sprintf("http://%s@%v:443", user, host.Addr()) }
	environment := ""
	n.bob.at = func(ctx context.Context, name string, args ...string) *exec.Cmd {
		cmd := at(ctx, name, args...)
		cmd.Env = append(os.Environ(), "HTTPS_PROXY="+environment)
		return cmd
	}

	environment = proxy("bob:secret")
	err := n.bob.start(n.alice.invite(), "join", "-", "--no-local")
	wantError(t, err, "proxy "+proxy("bob:xxxxx")+" asked for "+n.relay.Addr().String()+":443: 407 Proxy Authentication Required")
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the error has the password in it: %v", err)
	}

	environment = proxy("bob:word")
	n.join(t)
	wantPing(t, n.bob, "alice", "direct")
	wantPing(t, n.bob, "carol", "relay alice")
	wantPing(t, n.carol, "bob", "relay alice")
	if got, want := asked(), "CONNECT "+n.relay.Addr().String()+":443\n"; !strings.Contains(got, want) {
		t.Errorf("the proxy was asked for %q, want %q in it", got, want)
	}
	if doctor := n.bob.run("doctor", "--no-try"); !strings.Contains(doctor, "HTTPS_PROXY="+proxy("bob:xxxxx")) {
		t.Errorf("doctor = %s\nwant the proxy in it, without its password", doctor)
	}
	t.Logf("the proxy was asked for:\n%s", asked())
}

// proxyArgument makes this binary a proxy at port 443, for a user and password.
const proxyArgument = "e2e-proxy"

// runLabProxy runs a proxy on a machine of a lab. It returns what says for what it
// has been asked, a line each.
func runLabProxy(t *testing.T, h *lab.Host, user string) (asked func() string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), self, proxyArgument, user)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := startWithTest(cmd); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all bytes.Buffer
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		first := sync.OnceFunc(func() { close(ready) })
		defer first()
		for lines := bufio.NewScanner(out); lines.Scan(); first() {
			mu.Lock()
			all.WriteString(lines.Text() + "\n")
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait() // says that it was killed
	})
	<-ready
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// runProxy is the proxy's process.
func runProxy(user string) int {
	l, err := net.Listen("tcp", ":443")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(user)) {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		fmt.Println(r.Method, r.Host)
		out, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
		if err != nil || r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			out.Close()
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(in, out)
			in.Close()
		}()
		_, _ = io.Copy(out, in)
		out.Close()
	}))
	return 1
}
