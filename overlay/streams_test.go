package overlay_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"github.com/p2pnode/p2pnode/p2p"
)

// Streams are told by member and service, at both ends, until they are over, and are
// plain where that was asked for.
func TestStreams(t *testing.T) {
	alice, bob := newPair(t)
	l := listen(t, alice, "web")
	listen(t, bob, "db")
	if got := bob.Streams(); len(got) != 0 {
		t.Errorf("Streams of a node without any = %+v", got)
	}
	durable, err := bob.Dial(t.Context(), "alice/web")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := bob.DialContext(p2p.Plain(t.Context()), "tcp", "web.alice.mesh:80")
	if err != nil {
		t.Fatal(err)
	}
	own, err := bob.Dial(t.Context(), "bob/db")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for range 2 {
		far, err := l.AcceptConn()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
	}
	type told struct {
		member, service string
		dialed, plain   bool
	}
	check := func(when string, m *overlay.Mesh, want ...told) {
		t.Helper()
		var got []told
		for _, s := range m.Streams() {
			got = append(got, told{s.Member, s.Service, s.Dialed, s.Plain})
			if s.Waiting || s.Moves+s.Resumes+s.Stalls != 0 || s.Path == p2p.PathUnknown || time.Since(s.Since) > patience {
				t.Errorf("%s has %+v, want that it is quiet", when, s)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s = %+v, want %+v", when, got, want)
		}
	}
	check("Streams of bob", bob, told{"alice", "web", true, false}, told{"alice", "web", true, true}, told{"bob", "db", false, true}, told{"bob", "db", true, true})
	check("Streams of alice", alice, told{"bob", "web", false, false}, told{"bob", "web", false, true})
	durable.Close()
	plain.Close()
	check("Streams of bob after two were closed", bob, told{"bob", "db", false, true}, told{"bob", "db", true, true})
}

// A stream is over after as long as the configuration says.
func TestStreamLimit(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice", StreamLimit: time.Millisecond})
	other := overlaytest.Join(t, "other", invite(t, alice, overlay.InviteOptions{}))
	other.Listen("web")
	c, err := alice.Dial(testContext(t), "other/web")
	if err != nil {
		t.Fatal(err)
	}
	other.Kill()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, p2p.ErrReset) {
		t.Errorf("Read of a stream to one that is gone = %v, want %v", err, p2p.ErrReset)
	}
	if got := alice.Node().StreamTotals(); got.Expired != 1 {
		t.Errorf("StreamTotals = %+v, want one stream over the limit", got)
	}
	if got := alice.Streams(); len(got) != 0 {
		t.Errorf("Streams = %+v, want none", got)
	}
}

func TestBadStreamMemory(t *testing.T) {
	_, err := overlay.Open(t.Context(), overlay.Config{NoLocal: true, StreamMemory: -1})
	if err == nil {
		t.Error("Open with a negative StreamMemory = nil, want an error")
	}
}

// Who watches is told when a stream is without a connection, and that the path is gone.
func TestWatchStreamsAndPaths(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	other := overlaytest.Join(t, "other", invite(t, alice, overlay.InviteOptions{}))
	other.Listen("web")
	c, err := alice.Dial(testContext(t), "other/web")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	paths := alice.WatchPaths(testContext(t))
	seen := 0
	for streams := range alice.WatchStreams(testContext(t)) {
		if seen++; seen == 1 {
			other.Kill()
		}
		if len(streams) != 1 || streams[0].Service != "web" {
			t.Fatalf("WatchStreams yields %+v, want the stream to web", streams)
		}
		if streams[0].Waiting {
			break
		}
	}
	if seen < 2 {
		t.Errorf("WatchStreams yielded %d times, want the present state first", seen)
	}
	for changes := range paths {
		if last := changes[len(changes)-1]; last.To == p2p.PathUnknown && last.From != p2p.PathUnknown && last.Why != "" {
			break
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range alice.WatchPaths(ended) {
		t.Error("WatchPaths yields after its context has ended")
	}
}
