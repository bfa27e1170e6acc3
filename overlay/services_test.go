package overlay_test

import (
	"io"
	"slices"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// held dials a service and accepts the stream.
func held(t testing.TB, from *overlay.Mesh, l *overlay.Listener, target string) (dialed, accepted *overlay.Conn) {
	t.Helper()
	dialed, err := from.Dial(testContext(t), target)
	if err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.AcceptConn(); err != nil {
		t.Fatal(err)
	}
	return dialed, accepted
}

func serviceNames(all []overlay.Service) (names []string) {
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// Who loses access loses the streams that are open, and nobody else does.
func TestSetAccessCuts(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 3)
	waitAll(t, nodes...)
	l := listen(t, nodes[0], "web")
	other := listen(t, nodes[0], "db")
	cut, cutHere := held(t, nodes[1], l, "node0/web")
	kept, keptHere := held(t, nodes[2], l, "node0/web")
	elsewhere, elsewhereHere := held(t, nodes[1], other, "node0/db")

	id := nodes[1].Self().ID
	l.SetAccess(l.Access().Without(overlay.PeerRule(id)))
	_, err := io.ReadAll(cutHere)
	checkIs(t, "Read where the service is", err, overlay.ErrNotPermitted)
	if _, err := io.ReadAll(cut); err == nil {
		t.Error("Read by who lost access = nil, want an error")
	}
	_, err = nodes[1].Dial(testContext(t), "node0/web")
	checkIs(t, "Dial by who lost access", err, overlay.ErrNotPermitted)
	for _, c := range []struct {
		name     string
		from, to *overlay.Conn
	}{{"another member's stream", kept, keptHere}, {"a stream to another service", elsewhere, elsewhereHere}} {
		if _, err := c.from.Write([]byte("on")); err != nil {
			t.Errorf("Write to %s = %v, want nil", c.name, err)
		}
		c.from.CloseWrite()
		if got, err := io.ReadAll(c.to); string(got) != "on" || err != nil {
			t.Errorf("Read of %s = %q, %v, want on", c.name, got, err)
		}
	}

	l.SetAccess(l.Access().With(overlay.PeerRule(id)))
	if _, err := nodes[1].Dial(testContext(t), "node0/web"); err != nil {
		t.Errorf("Dial by who got access back = %v, want nil", err)
	}
}

// A service for some only is found by them, and heard of by nobody else.
func TestServiceForSome(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 3)
	waitAll(t, nodes...)
	l, err := nodes[0].Listen("web", overlay.PeerRule(nodes[1].Self().ID))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	await(t, "found", l.Found())
	for _, tt := range []struct {
		name  string
		by    *overlay.Mesh
		finds []string
		dial  error
		near  error
	}{
		{"who may", nodes[1], []string{"web"}, nil, nil},
		{"who may not", nodes[2], nil, overlay.ErrNotPermitted, overlay.ErrNoProvider},
		{"the node itself", nodes[0], []string{"web"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.by.ServicesOf(testContext(t), "node0")
			if err != nil || !slices.Equal(serviceNames(got), tt.finds) {
				t.Errorf("ServicesOf = %v, %v, want %v", got, err, tt.finds)
			}
			_, err = tt.by.Dial(testContext(t), "node0/web")
			checkIs(t, "Dial of the member", err, tt.dial)
			_, err = tt.by.Dial(testContext(t), "/web")
			checkIs(t, "Dial of the nearest", err, tt.near)
		})
	}
	if _, err := nodes[1].ServicesOf(testContext(t), "nobody"); err == nil {
		t.Error("ServicesOf nobody = nil, want an error")
	}
}

// What is restricted to some services may use no other, even if all may.
func TestMemberRestrictedToServices(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	bob := join(t, invite(t, alice, overlay.InviteOptions{Services: []string{"web"}}), overlay.Config{Name: "bob"})
	waitAll(t, alice, bob)
	listen(t, alice, "web")
	listen(t, alice, "db")
	if got, err := bob.ServicesOf(testContext(t), "alice"); err != nil || !slices.Equal(serviceNames(got), []string{"web"}) {
		t.Errorf("ServicesOf = %v, %v, want web alone", got, err)
	}
	_, err := bob.Dial(testContext(t), "alice/web")
	checkIs(t, "Dial of the service it is restricted to", err, nil)
	_, err = bob.Dial(testContext(t), "alice/db")
	checkIs(t, "Dial of another", err, overlay.ErrNotPermitted)
}

// What members tell of their services has their kinds, and the ports.
func TestKindsOfServices(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	forAll := overlay.Access{Allow: []overlay.Rule{overlay.Everyone}}
	for name, c := range map[string]overlay.ListenConfig{
		"web": {Access: forAll},
		"dns": {Access: forAll, Kind: overlay.KindDatagram},
		"*":   {Access: forAll, Kind: overlay.KindDatagram, Ports: overlay.Ports{First: 5000, Last: 5009}},
	} {
		l, err := alice.ListenWith(name, c)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	want := []overlay.Service{
		{Name: "*", Kind: overlay.KindDatagram, Ports: overlay.Ports{First: 5000, Last: 5009}},
		{Name: "dns", Kind: overlay.KindDatagram},
		{Name: "web"},
	}
	for name, by := range map[string]*overlay.Mesh{"another member": bob, "the node itself": alice} {
		if got, err := by.ServicesOf(testContext(t), "alice"); err != nil || !slices.Equal(got, want) {
			t.Errorf("ServicesOf by %s = %v, %v, want %v", name, got, err, want)
		}
	}
	if s := want[0]; !s.Is("5009") || !s.Is("*") || s.Is("5010") || s.Is("dns") {
		t.Errorf("%v is not what it is, or is what it isn't", s)
	}
}
