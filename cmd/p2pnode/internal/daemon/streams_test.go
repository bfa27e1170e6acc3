package daemon

import (
	"io"
	"net"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// A stream of a command or a forward is plain if that was asked for, and is told of
// while it is open.
func TestPlainStreams(t *testing.T) {
	for _, plain := range []bool{false, true} {
		nodes := overlaytest.NewWith(t, 2, overlaytest.Network())
		l := listen(t, nodes[0], "web")
		s := serve(t, nodes[1])
		f, err := s.ForwardAs(testContext(t), control.Forward{Listen: "0", Target: "/web", Plain: plain})
		if err != nil || f.Plain != plain {
			t.Fatalf("ForwardAs = %+v, %v, want plain %v", f, err, plain)
		}
		for _, way := range []struct {
			name string
			dial func() (io.Closer, error)
		}{
			{"connect", func() (io.Closer, error) {
				return s.DialAs(testContext(t), "node0/web", control.DialOptions{Plain: plain})
			}},
			{"forward", func() (io.Closer, error) { return net.Dial("tcp", f.Listen) }},
		} {
			c, err := way.dial()
			if err != nil {
				t.Fatal(err)
			}
			far := accept(t, l)
			for streamsOf(t, s) == nil { // the other end may have agreed a moment before this one knows
			}
			checkStreams(t, way.name, s, plain)
			c.Close()
			far.Close()
			for streamsOf(t, s) != nil {
			}
		}
	}
}

func checkStreams(t *testing.T, way string, s *served, plain bool) {
	t.Helper()
	n, err := s.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	want, open := control.Stream{Member: "node0", Service: "web", Dialed: true, Path: "lan", Plain: plain}, 1
	if plain {
		open = 0
	}
	if len(n.Streams) == 1 {
		want.Since, want.Held = n.Streams[0].Since, n.Streams[0].Held
	}
	if len(n.Streams) != 1 || n.Streams[0] != want || n.StreamTotals.Open != open {
		t.Errorf("streams of %s = %+v, %+v, want %+v", way, n.Streams, n.StreamTotals, want)
	}
}

// streamsOf returns the streams that are open, nil if there are none.
func streamsOf(t *testing.T, s *served) []control.Stream {
	t.Helper()
	n, err := s.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Streams) == 0 {
		return nil
	}
	return n.Streams
}

// Not all of very many streams are told of.
func TestManyStreams(t *testing.T) {
	nodes := overlaytest.New(t, 1)
	l := listen(t, nodes[0], "web")
	for range maxStreams/2 + 1 { // each has two ends here
		c, err := nodes[0].Dial(testContext(t), "/web")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accept(t, l)
	}
	s := serve(t, nodes[0])
	if got := streamsOf(t, s); len(got) != maxStreams {
		t.Errorf("Status tells of %d streams, want %d", len(got), maxStreams)
	}
}
