package p2p

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// Bytes go on while their stream moves from a relay to a direct path.
func TestDurableMovesFromRelay(t *testing.T) {
	t.Parallel()
	from, _, to := newRelayed(t, Config{}, Config{})
	if _, err := from.Ping(testContext(t), to.ID()); err != nil {
		t.Fatal(err)
	}
	near, far := openStream(t, from, to)
	k := newEndlessTalk(t, near, far)
	for _, s := range []*Stream{near, far} {
		until(t, "the path is direct", func() bool { return s.Path() == PathLAN })
	}
	k.hear(1 << 20)
	k.finish()
}

// newTwoConnections returns two nodes with two connections: over the worse goes a
// stream that was opened before the other was there.
func newTwoConnections(t *testing.T) (from, to *Node, near, far *Stream, old network.Conn) {
	t.Helper()
	listen := addrs("/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0")
	to = newTestNode(t, Config{Listen: listen})
	from = newTestNode(t, Config{})
	from.settleAfter, to.settleAfter = 100*time.Millisecond, 100*time.Millisecond
	for _, a := range to.Addrs() {
		if transportRank(a) == rankWebSocket {
			if err := from.Connect(testContext(t), to.ID(), a); err != nil {
				t.Fatal(err)
			}
		}
	}
	near, far = openStream(t, from, to)
	return from, to, near, far, near.conn()
}

// dialBeside makes a connection over TCP beside the one that there is.
func dialBeside(t *testing.T, from, to *Node) {
	t.Helper()
	for _, a := range to.Addrs() {
		if transportRank(a) != rankTCP {
			continue
		}
		c, err := from.kit.swarm.TransportForDialing(a).Dial(testContext(t), a, to.ID())
		if err != nil {
			t.Fatal(err)
		}
		from.kit.beside.offer(&dialedConn{c})
	}
}

// A stream moves to a better connection to the same peer, and the old one is closed
// once nothing goes over it.
func TestDurableMovesToABetterConnection(t *testing.T) {
	t.Parallel()
	from, to, near, far, old := newTwoConnections(t)
	neverBulk(from)
	k := newEndlessTalk(t, near, far)
	k.hear(1 << 20)
	dialBeside(t, from, to)
	until(t, "the stream has moved", func() bool { c := near.conn(); return c != nil && c != old })
	k.hear(1 << 20)
	for name, n := range map[string]*Node{"opener": from, "acceptor": to} {
		if got := n.Streams(); len(got) != 1 || got[0].Moves != 1 || got[0].Resumes != 0 || got[0].Waiting {
			t.Errorf("%s: Streams() = %+v, want one that has moved once", name, got)
		}
	}
	k.finish()
	near.Close()
	far.Close()
	awaitConnections(t, []*Node{from, to}, 1)
	if !old.IsClosed() {
		t.Error("the worse connection is left, want the better one")
	}
}

// Streams that are not to outlive their connection, or have none, don't.
func TestPlainStreams(t *testing.T) {
	for _, tt := range []struct {
		name string
		pair func(t *testing.T) (near, far *Stream)
	}{
		{"asked for", func(t *testing.T) (near, far *Stream) {
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			return openPlainStream(t, from, to)
		}},
		{"unix", func(t *testing.T) (near, far *Stream) {
			from, to := newTestPair(t, onMachine)
			return openStream(t, from, to)
		}},
		{"self", func(t *testing.T) (near, far *Stream) {
			n := newTestNode(t, Config{})
			return openStream(t, n, n)
		}},
		{"to a peer of before", func(t *testing.T) (near, far *Stream) {
			from, to := newTestNode(t, Config{}), newTestNode(t, Config{})
			to.kit.host.RemoveStreamHandler(carrierProtocol)
			if err := from.Connect(testContext(t), to.ID(), to.Addrs()...); err != nil {
				t.Fatal(err)
			}
			if err := from.Identified(testContext(t), to.ID()); err != nil {
				t.Fatal(err)
			}
			return openStream(t, from, to)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			near, far := tt.pair(t)
			for _, s := range []*Stream{near, far} {
				if got := s.node.Streams(); len(got) > 0 {
					t.Errorf("Streams() = %+v, want none", got)
				}
			}
			if near.node == far.node {
				return
			}
			if err := near.node.bestConn(far.node.ID()).Close(); err != nil {
				t.Fatal(err)
			}
			for _, s := range []*Stream{near, far} {
				_, err := s.Read(make([]byte, 1))
				checkIs(t, "Read once the connection is closed", err, ErrReset)
			}
		})
	}
}

// A stream goes on over the path on this machine where there is one, and so it does when
// a connection there is lost.
func TestDurableGoesOnOverUnix(t *testing.T) {
	t.Parallel()
	local := &Local{Dir: t.TempDir(), Secret: []byte("of these")}
	c := Config{Listen: addrs("/ip4/127.0.0.1/tcp/0"), Local: local}
	from, to := newTestNode(t, c), newTestNode(t, c)
	waitLocal(t, from, to.ID())
	from.kit.host.Peerstore().AddAddrs(to.ID(), to.Addrs(), addressTTL)
	overTCP, err := from.kit.swarm.DialPeer(testContext(t), to.ID()) // as libp2p does
	if err != nil {
		t.Fatal(err)
	}
	l, err := to.Listen("/test/1")
	if err != nil {
		t.Fatal(err)
	}
	near, err := from.openDurable(testContext(t), overTCP, "/test/1")
	if err != nil {
		t.Fatal(err)
	}
	near.flush()
	far, err := l.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	k := newEndlessTalk(t, near, far)
	k.hear(1 << 20)
	_ = overTCP.Close()
	for range 3 {
		for _, s := range []*Stream{near, far} {
			until(t, "it goes on by the socket", func() bool { return s.Path() == PathUnix && !s.Broken() })
		}
		k.hear(1 << 20)
		cut(near)
	}
	k.hear(1 << 20)
	k.finish()
}

// A stream moves also before anything was written, though the peer has not heard of it.
func TestDurableMovesBeforeItIsKnown(t *testing.T) {
	t.Parallel()
	for range 10 {
		from, to, near, far, _ := newTwoConnections(t)
		l, err := to.Listen("/late/1")
		if err != nil {
			t.Fatal(err)
		}
		s, err := from.Dial(testContext(t), to.ID(), "/late/1")
		if err != nil {
			t.Fatal(err)
		}
		dialBeside(t, from, to)
		until(t, "both streams have moved", func() bool {
			all := from.Streams()
			return len(all) == 2 && all[0].Moves+all[0].Resumes > 0 && all[1].Moves+all[1].Resumes > 0
		})
		other, err := l.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		k := newTalk(t, s, other, [2]int64{1 << 10, 1 << 10}, 64)
		k.work.Wait()
		for _, n := range []*Stream{near, far, s, other} {
			n.Close()
		}
	}
}
