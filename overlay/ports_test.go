package overlay_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

func listenPorts(t testing.TB, m *overlay.Mesh, c overlay.ListenConfig) *overlay.Listener {
	t.Helper()
	l, err := m.ListenWith(overlay.PortsService, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

var forAll = overlay.Access{Allow: []overlay.Rule{overlay.Everyone}}

// A stream to a service that is named like a port comes to the Listener of ports, which
// learns which it was. Whatever is no port of them is no service.
func TestPorts(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	l := listenPorts(t, alice, overlay.ListenConfig{Access: forAll, Ports: overlay.Ports{First: 8000, Last: 8999}})
	await(t, "found", l.Found())
	if got := l.Addr().String(); got != "alice/*" {
		t.Errorf("Addr() = %s, want alice/*", got)
	}
	for _, tt := range []struct {
		target, network string
		want            error
	}{
		{"alice/8000", "tcp", nil},
		{"alice/8080", "tcp", nil},
		{"alice/8999", "tcp", nil},
		{"8080.alice.mesh:80", "tcp", nil},
		{"alice/7999", "tcp", overlay.ErrNoService},
		{"alice/9000", "tcp", overlay.ErrNoService},
		{"alice/0", "tcp", overlay.ErrNoService},
		{"alice/08080", "tcp", overlay.ErrNoService},
		{"alice/73616", "tcp", overlay.ErrNoService}, // 8080 in 16 bits
		{"alice/1f90", "tcp", overlay.ErrNoService},
		{"alice/99999999999999999999999", "tcp", overlay.ErrNoService},
		{"alice/8080", "udp", overlay.ErrKind},
		{"alice/*", "tcp", overlay.ErrBadTarget},
		{"/8080", "tcp", nil},
		{"/9000", "tcp", overlay.ErrNoProvider},
	} {
		t.Run(tt.network+" "+tt.target, func(t *testing.T) {
			c, err := bob.DialContext(testContext(t), tt.network, tt.target)
			checkIs(t, "DialContext", err, tt.want)
			if err != nil {
				return
			}
			defer c.Close()
			far, err := l.AcceptConn()
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			if want := c.(*overlay.Conn).Service(); far.Service() != want || far.LocalAddr().String() != "alice/"+want {
				t.Errorf("accepted the service %s at %v, want %s", far.Service(), far.LocalAddr(), want)
			}
			checkBothWays(t, c.(*overlay.Conn), far)
		})
	}
	want := []overlay.Service{{Name: "*", Ports: overlay.Ports{First: 8000, Last: 8999}}}
	if got, err := bob.ServicesOf(testContext(t), "alice"); err != nil || !slices.Equal(got, want) {
		t.Errorf("ServicesOf = %v, %v, want %v", got, err, want)
	}
	if got := alice.Services(); !slices.Equal(got, want) {
		t.Errorf("Services() = %v, want %v", got, want)
	}
	l.Close()
	_, err := bob.Dial(testContext(t), "alice/8080")
	checkIs(t, "Dial after Close", err, overlay.ErrNoService)
}

// A service with a name of its own is that service, and its rules are its own.
func TestServiceGoesBeforePorts(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	listenPorts(t, alice, overlay.ListenConfig{Access: forAll, Ports: overlay.Ports{First: 1, Last: 65535}})
	own := listen(t, alice, "8080")
	_, far := held(t, bob, own, "alice/8080")
	if far.Service() != "8080" {
		t.Errorf("Service() = %s, want 8080", far.Service())
	}
	own.SetAccess(overlay.Access{})
	_, err := bob.Dial(testContext(t), "alice/8080")
	checkIs(t, "Dial of the service that is for nobody", err, overlay.ErrNotPermitted)
	own.Close()
	_, err = bob.Dial(testContext(t), "alice/8080")
	checkIs(t, "Dial of the port", err, nil)
}

// Who may use the ports is who the rules say, also when those change.
func TestAccessToPorts(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 3)
	waitAll(t, nodes...)
	one := overlay.PeerRule(nodes[1].Self().ID)
	l := listenPorts(t, nodes[0], overlay.ListenConfig{Access: overlay.Access{Allow: []overlay.Rule{one}}, Ports: overlay.Ports{First: 80, Last: 90}})
	_, cut := held(t, nodes[1], l, "node0/80")
	_, err := nodes[2].Dial(testContext(t), "node0/80")
	checkIs(t, "Dial by who may not", err, overlay.ErrNotPermitted)
	_, err = nodes[2].Dial(testContext(t), "node0/91")
	checkIs(t, "Dial of no port of them", err, overlay.ErrNoService)

	l.SetAccess(forAll.Without(one))
	_, err = io.ReadAll(cut)
	checkIs(t, "Read where the port is", err, overlay.ErrNotPermitted)
	_, err = nodes[1].Dial(testContext(t), "node0/81")
	checkIs(t, "Dial by who may no more", err, overlay.ErrNotPermitted)
	held(t, nodes[2], l, "node0/81")
}

// A member that is restricted to a service may use the port of that name, and no other.
func TestPortsOfMemberRestrictedToServices(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	bob := join(t, invite(t, alice, overlay.InviteOptions{Services: []string{"8080"}}), overlay.Config{Name: "bob"})
	waitAll(t, alice, bob)
	l := listenPorts(t, alice, overlay.ListenConfig{Access: forAll, Ports: overlay.Ports{First: 8000, Last: 8999}})
	_, kept := held(t, bob, l, "alice/8080")
	_, err := bob.Dial(testContext(t), "alice/8081")
	checkIs(t, "Dial of another port", err, overlay.ErrNotPermitted)
	if got, err := bob.ServicesOf(testContext(t), "alice"); err != nil || !slices.Equal(serviceNames(got), []string{"8080"}) {
		t.Errorf("ServicesOf = %v, %v, want the one port", got, err)
	}
	l.SetAccess(forAll) // which is no change
	if _, err := kept.Write([]byte("on")); err != nil {
		t.Errorf("Write after SetAccess = %v, want nil", err)
	}
}

func TestListenForPortsErrors(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	for _, tt := range []struct {
		name, service string
		ports         overlay.Ports
		want          string
	}{
		{"no ports", "*", overlay.Ports{}, "listen: service *: ListenConfig.Ports is 0-0: want two ports above 0, the lower one first"},
		{"port 0", "*", overlay.Ports{First: 0, Last: 9}, "listen: service *: ListenConfig.Ports is 0-9: want two ports above 0, the lower one first"},
		{"backwards", "*", overlay.Ports{First: 9, Last: 8}, "listen: service *: ListenConfig.Ports is 9-8: want two ports above 0, the lower one first"},
		{"a service with ports", "web", overlay.Ports{First: 8, Last: 9}, "listen: service web: ListenConfig.Ports is for the service *"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := alice.ListenWith(tt.service, overlay.ListenConfig{Access: forAll, Ports: tt.ports})
			if err == nil || err.Error() != tt.want {
				t.Errorf("ListenWith = %v, want %s", err, tt.want)
			}
		})
	}
	_, err := alice.Listen("**")
	checkIs(t, "Listen of **", err, credential.ErrInvalid)
	listenPorts(t, alice, overlay.ListenConfig{Ports: overlay.Ports{First: 8, Last: 8}})
	if _, err := alice.ListenWith("*", overlay.ListenConfig{Ports: overlay.Ports{First: 9, Last: 9}}); !errors.Is(err, overlay.ErrServiceExists) {
		t.Errorf("ListenWith twice = %v, want %v", err, overlay.ErrServiceExists)
	}
}
