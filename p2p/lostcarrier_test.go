package p2p

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// A heldConn is a connection of which only its name is used.
type heldConn struct{ network.Conn }

func (heldConn) ID() string                           { return "held" }
func (heldConn) IsClosed() bool                       { return false }
func (heldConn) As(any) bool                          { return false }
func (heldConn) RemotePeer() peer.ID                  { return "held" }
func (heldConn) Close() error                         { return nil }
func (heldConn) RemoteMultiaddr() multiaddr.Multiaddr { return addrs("/ip4/192.0.2.1/tcp/1")[0] }

func (heldConn) NewStream(context.Context) (network.Stream, error) {
	return nil, io.ErrUnexpectedEOF
}

// A heldRaw is a carrier that brings what the test sends. A read goes on even if the
// carrier is reset meanwhile, as one may that has just got something.
type heldRaw struct {
	network.MuxedStream
	inside chan struct{} // one for each read
	in     chan []byte
}

func newHeldRaw() *heldRaw { return &heldRaw{inside: make(chan struct{}, 8), in: make(chan []byte)} }

func (r *heldRaw) Read(p []byte) (int, error) {
	r.inside <- struct{}{}
	b, ok := <-r.in
	if !ok {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(p, b), nil
}

func (*heldRaw) Write(p []byte) (int, error)      { return len(p), nil }
func (*heldRaw) Close() error                     { return nil }
func (*heldRaw) Reset() error                     { return nil }
func (*heldRaw) SetReadDeadline(time.Time) error  { return nil }
func (*heldRaw) SetWriteDeadline(time.Time) error { return nil }
func (*heldRaw) SetDeadline(time.Time) error      { return nil }

// What a reader gets from a carrier that was lost meanwhile is not counted: it comes
// again on the next one.
func TestReadFromALostCarrier(t *testing.T) {
	n := newTestNode(t, Config{})
	d, err := n.durables.add(newTestNode(t, Config{}).ID(), newStreamID(), "/test/1", false)
	if err != nil {
		t.Fatal(err)
	}
	first, second := newHeldRaw(), newHeldRaw()
	s := d.begin(&durableCarrier{conn: heldConn{}, raw: first})
	got := make(chan string, 2)
	go func() {
		for b := make([]byte, 3); ; {
			k, err := s.Read(b)
			if err != nil {
				close(got)
				return
			}
			got <- string(b[:k])
		}
	}()
	<-first.inside
	first.in <- []byte{3 << 2} // a frame of three bytes
	<-first.inside             // which are awaited

	d.mu.Lock()
	d.lostLocked(d.carrier)
	d.mu.Unlock()
	d.resume(&durableCarrier{epoch: 1, conn: heldConn{}, raw: second}, durable.Hello{ID: d.id, Resume: true, Epoch: 1})
	first.in <- []byte("abc")
	for _, want := range []string{"abc", "def"} {
		<-second.inside
		second.in <- append([]byte{3 << 2}, want...)
		if text := <-got; text != want {
			t.Errorf("Read gives %q, want %q", text, want)
		}
	}
	d.mu.Lock()
	d.failLocked(network.ErrReset, durable.CodeReset)
	d.mu.Unlock()
	<-second.inside
	close(second.in)
	if text, ok := <-got; ok {
		t.Errorf("Read gives %q after the stream was given up", text)
	}
}

// twice has two nodes connected twice, the second time past libp2p, and returns both
// connections of the first node, the better one first.
func twice(t testing.TB) (a, b *Node, better, worse network.Conn) {
	t.Helper()
	a, b = newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	a.upgrades.dial(testContext(t), b.Addrs()[0], b.ID())
	until(t, "both ends have two connections", func() bool {
		return len(a.kit.swarm.ConnsToPeer(b.ID())) == 2 && len(b.kit.swarm.ConnsToPeer(a.ID())) == 2
	})
	better = a.bestConn(b.ID())
	for _, c := range a.kit.swarm.ConnsToPeer(b.ID()) {
		if c != better {
			worse = c
		}
	}
	return a, b, better, worse
}

// What is just looked at is used only if there is nothing else.
func TestSuspectedConnections(t *testing.T) {
	a, b, better, worse := twice(t)
	suspect := func(c network.Conn, by int) {
		a.durables.mu.Lock()
		defer a.durables.mu.Unlock()
		a.durables.suspect[c.ID()] += by
	}
	for _, tt := range []struct {
		name  string
		first func()
		want  network.Conn
	}{
		{"the better one is suspected", func() { suspect(better, 1) }, worse},
		{"both are", func() { suspect(worse, 1) }, better},
		{"the worse one is", func() { suspect(better, -1) }, better},
	} {
		tt.first()
		if got := a.bestConn(b.ID()); got != tt.want {
			t.Errorf("%s: the best is %v, want %v", tt.name, got.ID(), tt.want.ID())
		}
	}
	suspect(worse, -1)
	a.durables.inspect(better, checkPatience)
	until(t, "it has answered", func() bool { return !a.durables.suspected(better) })
	if better.IsClosed() {
		t.Error("a connection that answers was closed")
	}
}
