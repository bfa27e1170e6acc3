package p2ptest_test

import (
	"errors"
	"io"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/p2pnode/p2pnode/p2p"
	"github.com/p2pnode/p2pnode/p2p/p2ptest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestNodesAreOnLoopbackAndApart(t *testing.T) {
	nodes := p2ptest.New(t, 3)
	for _, n := range nodes {
		if c := n.Connections(); len(c) != 0 {
			t.Errorf("Connections() = %v, want none", c)
		}
		if a := n.Addrs(); len(a) != 2 {
			t.Errorf("Addrs() = %v, want one for TCP and one for QUIC", a)
		}
		for _, a := range n.Addrs() {
			if first := a[0].Value(); first != "127.0.0.1" {
				t.Errorf("Addrs() has %v, want loopback alone", a)
			}
		}
	}
}

func TestConnect(t *testing.T) {
	nodes := p2ptest.New(t, 4)
	p2ptest.Connect(t, nodes...)
	for i, n := range nodes {
		if c := n.Connections(); len(c) != 3 {
			t.Errorf("node %d has connections %v, want three", i, c)
		}
	}
}

func TestClosedAtTheEnd(t *testing.T) {
	var n *p2p.Node
	t.Run("the test", func(t *testing.T) {
		n = p2ptest.New(t, 1)[0]
		p2ptest.Echo(t, n, "/echo/1")
	})
	if _, err := n.Listen("/x/1"); !errors.Is(err, p2p.ErrClosed) {
		t.Errorf("Listen after the test = %v, want %v", err, p2p.ErrClosed)
	}
}

func TestCutBreaksStreams(t *testing.T) {
	nodes := p2ptest.New(t, 3)
	p2ptest.Connect(t, nodes...)
	p2ptest.Echo(t, nodes[0], "/echo/1")
	var streams []*p2p.Stream
	for _, n := range nodes[1:] {
		s, err := n.Dial(p2ptest.Context(t), nodes[0].ID(), "/echo/1")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := echo(s); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	p2ptest.Cut(t, nodes[0], nodes[1])
	if err := echo(streams[0]); !errors.Is(err, p2p.ErrReset) {
		t.Errorf("echo after Cut = %v, want %v", err, p2p.ErrReset)
	}
	if err := echo(streams[1]); err != nil {
		t.Errorf("echo of a third node after Cut = %v, want nil", err)
	}
	p2ptest.Cut(t, nodes[0], nodes[1]) // of nothing
	p2ptest.Connect(t, nodes...)
}

// echo sends a byte there and back.
func echo(s *p2p.Stream) error {
	if _, err := s.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(s, make([]byte, 1))
	return err
}

func TestWall(t *testing.T) {
	wall := &p2ptest.Wall{}
	n := p2ptest.Node(t, p2p.Config{Admission: wall})
	other := p2ptest.Node(t, p2p.Config{Admission: &p2ptest.Wall{}})
	third := p2ptest.Node(t, p2p.Config{Admission: &p2ptest.Wall{}})
	p2ptest.Connect(t, n, other)

	wall.Shut(other.ID())
	p2ptest.Cut(t, n, other)
	var refused *p2p.RefusedError
	if err := other.Connect(p2ptest.Context(t), n.ID(), n.Addrs()...); !errors.As(err, &refused) || refused.Here {
		t.Errorf("Connect in through a wall = %v, want that the peer refuses", err)
	}
	if err := n.Connect(p2ptest.Context(t), other.ID(), other.Addrs()...); !errors.Is(err, p2ptest.ErrWall) {
		t.Errorf("Connect out through a wall = %v, want %v", err, p2ptest.ErrWall)
	}
	p2ptest.Connect(t, n, third)

	wall.Open(other.ID())
	// The other end had admitted n, and may still have to learn that n hung up.
	p2ptest.Until(t, other, "none", func(conns []p2p.Connection) bool { return len(conns) == 0 })
	p2ptest.Connect(t, n, other)
}

// A closed Admission lets nobody in.
type closed struct{}

func (closed) Proof(peer.ID) []byte        { return []byte("mine") }
func (closed) Check(peer.ID, []byte) error { return p2p.Refusal(99) }

func TestWallBeforeAnAdmission(t *testing.T) {
	wall := &p2ptest.Wall{Admission: closed{}}
	if got := string(wall.Proof("")); got != "mine" {
		t.Errorf("Proof = %q, want the Admission's", got)
	}
	if err := wall.Check("p", nil); !errors.Is(err, p2p.Refusal(99)) {
		t.Errorf("Check = %v, want the Admission's", err)
	}
}

func TestExample(t *testing.T) { testGone(t) }
