package overlay_test

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

func TestListen(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	first := listen(t, alice, "web")
	if _, err := alice.Listen("web"); !errors.Is(err, overlay.ErrServiceExists) || err.Error() != "listen for web: the service is offered already" {
		t.Errorf("Listen twice = %v, want %v", err, overlay.ErrServiceExists)
	}
	for _, name := range []string{"", "Web", "alice/web", "-"} {
		_, err := alice.Listen(name)
		checkIs(t, "Listen of "+name, err, credential.ErrInvalid)
	}
	listen(t, alice, "ssh")
	if got := serviceNames(alice.Services()); !slices.Equal(got, []string{"ssh", "web"}) {
		t.Errorf("Services() = %v, want ssh and web", got)
	}
	if got := first.Addr(); got.Network() != "mesh" || got.String() != "alice/web" {
		t.Errorf("Addr() = %v of %s, want alice/web of mesh", got, got.Network())
	}
	first.Close()
	if got := serviceNames(alice.Services()); !slices.Equal(got, []string{"ssh"}) {
		t.Errorf("Services() after Close = %v, want ssh", got)
	}
	second := listen(t, alice, "web")
	first.Close() // again, which must not withdraw the second
	if got := serviceNames(alice.Services()); !slices.Equal(got, []string{"ssh", "web"}) {
		t.Errorf("Services() after the second Listen = %v, want ssh and web", got)
	}
	second.Close()
}

func TestAcceptAfterClose(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	l := listen(t, alice, "web")
	waiting := make(chan error)
	go func() {
		_, err := l.Accept()
		waiting <- err
	}()
	if err := l.Close(); err != nil {
		t.Errorf("Close = %v, want nil", err)
	}
	checkIs(t, "Accept during Close", <-waiting, net.ErrClosed)
	c, err := l.Accept()
	var op *net.OpError
	if c != nil || !errors.As(err, &op) || op.Op != "accept" || op.Addr.String() != "alice/web" {
		t.Errorf("Accept after Close = %v, %v, want nothing and a net.OpError for alice/web", c, err)
	}
	checkIs(t, "Accept after Close", err, net.ErrClosed)
	if err := l.Close(); err != nil {
		t.Errorf("Close again = %v, want nil", err)
	}
}

// Streams that nobody has accepted are given up when the service is withdrawn,
// and those that somebody has stay.
func TestCloseWhileStreamsWait(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	l := listen(t, alice, "web")
	dial := func() *overlay.Conn {
		t.Helper()
		c, err := bob.Dial(testContext(t), "alice/web")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	near := dial()
	far, err := l.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	var waiting []*overlay.Conn
	for range 10 {
		waiting = append(waiting, dial())
	}
	l.Close()
	for _, c := range waiting {
		_, err := c.Read(make([]byte, 1))
		checkIs(t, "Read of a stream that was not accepted", err, p2p.ErrReset)
	}
	checkBothWays(t, near, far)
	_, err = bob.Dial(testContext(t), "alice/web")
	checkIs(t, "Dial after Close", err, overlay.ErrNoService)
}

// What was written before the service accepted is there when it does.
func TestStreamWaitsToBeAccepted(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	l := listen(t, alice, "web")
	c, err := bob.Dial(testContext(t), "alice/web")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "early"); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if got, err := io.ReadAll(far); err != nil || string(got) != "early" {
		t.Errorf("read %q, %v, want %q", got, err, "early")
	}
}

// Who takes a service for one of another kind is told, unless it may not use it.
func TestKindsDoNotMix(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	everyone := overlay.Access{Allow: []overlay.Rule{overlay.Everyone}}
	for name, c := range map[string]overlay.ListenConfig{
		"web":    {Access: everyone},
		"dns":    {Access: everyone, Kind: overlay.KindDatagram},
		"secret": {Kind: overlay.KindDatagram},
	} {
		l, err := alice.ListenWith(name, c)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got, want := l.Datagrams(), c.Kind == overlay.KindDatagram; got != want {
			t.Errorf("Datagrams() of %s = %v, want %v", name, got, want)
		}
	}
	for _, tt := range []struct {
		network, target string
		want            error
	}{
		{"tcp", "alice/web", nil},
		{"udp", "alice/web", overlay.ErrKind},
		{"udp", "dns.alice.mesh:53", nil},
		{"udp6", "/dns", nil},
		{"tcp", "alice/dns", overlay.ErrKind},
		{"tcp", "/dns", overlay.ErrKind},
		{"tcp", "alice/secret", overlay.ErrNotPermitted},
	} {
		t.Run(tt.network+" "+tt.target, func(t *testing.T) {
			c, err := bob.DialContext(testContext(t), tt.network, tt.target)
			checkIs(t, "DialContext", err, tt.want)
			if err == nil {
				c.Close()
			}
		})
	}
	_, err := alice.ListenWith("later", overlay.ListenConfig{Kind: 2})
	if err == nil || err.Error() != "listen for later: ListenConfig.Kind is unknown: 2" {
		t.Errorf("ListenWith of an unknown kind = %v, want that it is unknown", err)
	}
}
