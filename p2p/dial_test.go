package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// silentTCP accepts connections and says nothing on them. It returns where.
func silentTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port(l.Addr()))
}

// closedTCP returns a TCP address at which nobody listens, and nobody will while the
// test lasts: a connection has it.
func closedTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port(c.LocalAddr()))
}

func strangerID(t *testing.T) peer.ID {
	t.Helper()
	id, err := peer.Decode(testID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var took = regexp.MustCompile(`\([0-9.µmns]+\)`)

// goldenText takes out of an error what differs from run to run: how long
// attempts took, and the given strings, each replaced by the next.
func goldenText(err error, replace ...string) string {
	if err == nil {
		return ""
	}
	return took.ReplaceAllString(strings.NewReplacer(replace...).Replace(err.Error()), "(TIME)")
}

func TestDialErrorText(t *testing.T) {
	dialer := newTestNode(t, Config{})
	hasty := newTestNode(t, Config{DialTimeout: 100 * time.Millisecond})
	other := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1")})
	otherWS := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0/ws")})
	closed := closedTCP(t)
	closedUDP := strings.Replace(closed, "/tcp/", "/udp/", 1) + "/quic-v1" // not tried
	silent := silentTCP(t)
	names := []string{
		testID, "PEER", other.ID().String(), "OTHER", otherWS.ID().String(), "OTHER", closed, "CLOSED", closedUDP, "CLOSED-UDP", silent, "SILENT",
		other.Addrs()[0].String(), "TCP", other.Addrs()[1].String(), "QUIC", otherWS.Addrs()[0].String(), "WS",
		dialer.Addrs()[0].String(), "OWN",
	}
	for _, tt := range []struct {
		name     string
		addrs    []string
		attempts int
		is       error
		want     string
	}{
		{"no address", nil, 0, ErrNoAddress, "dial peer PEER: no known address"},
		{"a closed port", []string{closed}, 1, syscall.ECONNREFUSED,
			"dial peer PEER: CLOSED: connect: connection refused (TIME)"},
		{"a closed port over WebSocket", []string{closed + "/ws"}, 1, syscall.ECONNREFUSED,
			"dial peer PEER: CLOSED/ws: connect: connection refused (TIME)"},
		{"a closed port of this machine, over TCP and QUIC", []string{closed, closedUDP}, 2, errNobodyThere,
			"dial peer PEER: CLOSED: connect: connection refused (TIME); CLOSED-UDP: not tried: TCP was refused at this port of this machine"},
		{"a silent port", []string{silent}, 1, context.DeadlineExceeded,
			"dial peer PEER: SILENT: no answer (TIME)"},
		{"another peer over TCP", []string{other.Addrs()[0].String()}, 1, nil,
			"dial peer PEER: TCP: another peer is there: OTHER (TIME)"},
		{"another peer over QUIC", []string{other.Addrs()[1].String()}, 1, nil,
			"dial peer PEER: QUIC: another peer is there: OTHER (TIME)"},
		{"another peer over WebSocket", []string{otherWS.Addrs()[0].String()}, 1, nil,
			"dial peer PEER: WS: another peer is there: OTHER (TIME)"},
		{"the node's own address", []string{dialer.Addrs()[0].String()}, 1, swarm.ErrDialToSelf,
			"dial peer PEER: OWN: dial to self attempted"},
		{"a transport there is not", []string{"/ip4/192.0.2.1/udp/4001"}, 1, swarm.ErrNoTransport,
			"dial peer PEER: /ip4/192.0.2.1/udp/4001: no transport for protocol"},
		{"an address that means any", []string{"/ip4/0.0.0.0/tcp/4001"}, 0, swarm.ErrNoGoodAddresses,
			"dial peer PEER: no good addresses"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from := dialer
			if slices.Contains(tt.addrs, silent) {
				from = hasty
			}
			from.kit.host.Peerstore().ClearAddrs(strangerID(t))
			err := from.Connect(testContext(t), strangerID(t), addrs(tt.addrs...)...)
			if got := goldenText(err, names...); got != tt.want {
				t.Errorf("Connect = %q,\nwant %q", got, tt.want)
			}
			if tt.is != nil {
				checkIs(t, "Connect", err, tt.is)
			}
			checkAttempts(t, err, tt.attempts)
		})
	}
}

func checkAttempts(t *testing.T, err error, want int) {
	t.Helper()
	var dial *DialError
	if !errors.As(err, &dial) {
		t.Fatalf("Connect = %#v, want a DialError", err)
	}
	if len(dial.Attempts) != want {
		t.Errorf("Attempts = %v, want %d", dial.Attempts, want)
	}
	seen := map[string]bool{}
	for _, a := range dial.Attempts {
		if seen[a.Addr.String()] {
			t.Errorf("Attempts has %v twice", a.Addr)
		}
		seen[a.Addr.String()] = true
		if a.Err == nil {
			t.Errorf("the attempt at %v has no error", a.Addr)
		}
		if a.Path != pathTo(a.Addr) {
			t.Errorf("the attempt at %v is by path %v, want %v", a.Addr, a.Path, pathTo(a.Addr))
		}
	}
}

func TestDialErrorOfARefusal(t *testing.T) {
	dialer := newTestNode(t, Config{Admission: secret("wrong")})
	listener := newTestNode(t, Config{Admission: secret("word"), Listen: addrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1")})
	_, err := dialer.Dial(testContext(t), listener.ID(), "/echo/1")
	checkIs(t, "Dial", err, ErrNoAddress)
	err = dialer.Connect(testContext(t), listener.ID(), append(listener.Addrs(), addrs(closedTCP(t))...)...)
	if got, want := goldenText(err, listener.ID().String(), "PEER"), "dial peer PEER: peer refuses: reason 20"; got != want {
		t.Errorf("Connect = %q, want %q", got, want)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	silent, closed := silentTCP(t), closedTCP(t)
	errMine := errors.New("called off")
	timely, cancelTimely := context.WithTimeout(context.Background(), time.Second) // on a busy machine a refusal takes some of it
	defer cancelTimely()
	ended, cancelEnded := context.WithCancelCause(context.Background())
	cancelEnded(errMine)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		is   error
		want string
	}{
		{"in time", timely, context.DeadlineExceeded,
			"dial peer PEER: context deadline exceeded; CLOSED: connect: connection refused (TIME); SILENT: no answer (TIME)"},
		{"before it began", ended, errMine, "dial peer PEER: called off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newTestNode(t, Config{})
			err := n.Connect(tt.ctx, strangerID(t), addrs(silent, closed)...)
			checkIs(t, "Connect", err, tt.is)
			if got := goldenText(err, testID, "PEER", silent, "SILENT", closed, "CLOSED"); got != tt.want {
				t.Errorf("Connect = %q,\nwant %q", got, tt.want)
			}
		})
	}
}

// All who wait for one dial get the same report of it.
func TestDialsAtTheSameTimeBecomeOne(t *testing.T) {
	n := newTestNode(t, Config{DialTimeout: 100 * time.Millisecond})
	silent := silentTCP(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = n.Connect(testContext(t), strangerID(t), addrs(silent)...) })
	}
	wg.Wait()
	for _, err := range errs {
		if got, want := goldenText(err, testID, "PEER", silent, "SILENT"), "dial peer PEER: SILENT: no answer (TIME)"; got != want {
			t.Errorf("Connect = %q, want %q", got, want)
		}
	}
}

func TestDialErrorListsManyAddresses(t *testing.T) {
	n := newTestNode(t, Config{})
	var all []string
	var held []net.Listener
	for range 20 { // libp2p's own report ends at sixteen
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		all = append(all, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port(l.Addr())))
	}
	for _, l := range held { // all together, so that no port comes twice
		l.Close()
	}
	err := n.Connect(testContext(t), strangerID(t), addrs(all...)...)
	checkAttempts(t, err, len(all))
}

func TestDialReusesAConnection(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	serveEcho(t, to, "/echo/1")
	for range 3 {
		if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
			t.Fatal(err)
		}
	}
	if c := from.Connections(); len(c) != 1 {
		t.Errorf("Connections() after three Dials = %v, want one", c)
	}
}

// A connection that has died is replaced when somebody dials.
func TestDialAfterADisconnect(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	serveEcho(t, to, "/echo/1")
	for range 5 {
		if err := to.Disconnect(from.ID()); err != nil {
			t.Fatal(err)
		}
		if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
			if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
				t.Fatalf("echo after the other end hung up = %v, want nil", err)
			}
		}
	}
}

func TestConnectToOneself(t *testing.T) {
	n := newTestNode(t, Config{})
	if err := n.Connect(testContext(t), n.ID()); err != nil {
		t.Errorf("Connect to oneself = %v, want nil", err)
	}
	if c := n.Connections(); len(c) != 0 {
		t.Errorf("Connections() = %v, want none", c)
	}
}

// QUIC is dialed from the port it is listened at, if there is one, so that a
// NAT has one mapping for both; and at any rate from one socket.
func TestQUICDialsFromOneSocket(t *testing.T) {
	for name, listen := range map[string]string{"listens by QUIC": "/ip4/127.0.0.1/udp/0/quic-v1", "listens by TCP": "/ip4/127.0.0.1/tcp/0"} {
		t.Run(name, func(t *testing.T) {
			from := newTestNode(t, Config{Listen: addrs(listen)})
			seen := map[string]bool{}
			for range 3 {
				to := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/udp/0/quic-v1")})
				if err := from.Connect(testContext(t), to.ID(), to.Addrs()...); err != nil {
					t.Fatal(err)
				}
				waitFor(t, to, "one", func(c []Connection) bool {
					if len(c) == 1 {
						seen[c[0].Addr.String()] = true
					}
					return len(c) == 1
				})
				if err := from.Disconnect(to.ID()); err != nil {
					t.Fatal(err)
				}
			}
			if len(seen) != 1 {
				t.Errorf("dials came from %v, want one address", seen)
			}
			if own := from.Addrs()[0].String(); listen != "/ip4/127.0.0.1/tcp/0" && !seen[own] {
				t.Errorf("dials came from %v, want %s, where the node listens", seen, own)
			}
		})
	}
}
