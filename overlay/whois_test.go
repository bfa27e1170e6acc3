package overlay_test

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
)

// wrapped is a connection in another, as libraries make them.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestWhoIs(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2)
	waitAll(t, nodes...)
	l := listen(t, nodes[0], "web")
	dialed, accepted := held(t, nodes[1], l, "node0/web")
	deep := net.Conn(accepted)
	for range 8 {
		deep = wrapped{deep}
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	for _, tt := range []struct {
		name string
		at   *overlay.Mesh
		conn net.Conn
		want string // empty: not known
	}{
		{"what was accepted", nodes[0], accepted, "node1"},
		{"what was dialed", nodes[1], dialed, "node0"},
		{"in TLS", nodes[0], tls.Server(accepted, &tls.Config{}), "node1"},
		{"in TLS in TLS", nodes[0], tls.Server(tls.Server(accepted, &tls.Config{}), &tls.Config{}), "node1"},
		{"a stream of another mesh", nodes[1], accepted, ""},
		{"something else", nodes[0], here, ""},
		{"something else in TLS", nodes[0], tls.Server(here, &tls.Config{}), ""},
		{"wrapped too deep", nodes[0], deep, ""},
		{"nothing", nodes[0], nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.at.WhoIs(tt.conn)
			if ok != (tt.want != "") || ok && got.Name != tt.want {
				t.Errorf("WhoIs = %q, %v, want %q", got.Name, ok, tt.want)
			}
		})
	}
}

func TestFindMember(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2)
	waitAll(t, nodes...)
	var at string
	for _, c := range nodes[1].Node().Connections() {
		at = c.Addr.String()
	}
	for _, tt := range []struct {
		name, who string
		want      error
	}{
		{"by name", "node0", nil},
		{"by peer ID", nodes[0].Self().ID.String(), nil},
		{"by multiaddr", at, nil},
		{"by IP address", "127.0.0.1", nil},
		{"by an address that nobody has", "192.0.2.1", overlay.ErrUnknownMember},
		{"by a name that nobody has", "nobody", overlay.ErrUnknownMember},
		{"by nothing", "", overlay.ErrUnknownMember},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := nodes[1].FindMember(testContext(t), tt.who)
			checkIs(t, "FindMember", err, tt.want)
			if err == nil && got.ID != nodes[0].Self().ID {
				t.Errorf("FindMember = %+v, want node0", got)
			}
		})
	}
	third := newNodes(t, 1)[0]
	if _, err := third.FindMember(testContext(t), "127.0.0.1"); !errors.Is(err, overlay.ErrUnknownMember) {
		t.Errorf("FindMember at who is alone = %v, want %v", err, overlay.ErrUnknownMember)
	}
}

// Two members behind one address are told apart by their IDs.
func TestFindMemberAmbiguous(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 3)
	waitAll(t, nodes...)
	until(t, "connections with both", func() bool { return len(nodes[0].Node().Connections()) >= 2 })
	var ambiguous *overlay.AmbiguousError
	if _, err := nodes[0].FindMember(testContext(t), "127.0.0.1"); !errors.As(err, &ambiguous) || len(ambiguous.IDs) != 2 {
		t.Errorf("FindMember at an address of two = %v, want an AmbiguousError of two", err)
	}
}
