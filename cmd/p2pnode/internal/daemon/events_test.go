package daemon

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// A follower reads events in its own time.
type follower struct {
	t    testing.TB
	ch   chan control.Event
	past []control.Event // that nothing was expected of yet
}

func followEvents(t testing.TB, s *served) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	all, err := s.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, ch: make(chan control.Event, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(f.ch)
		for e, err := range all {
			if err != nil {
				return
			}
			f.ch <- e
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// expect waits for an event of a kind. What is seen in several places has no order.
func (f *follower) expect(kind control.EventKind) control.Event {
	f.t.Helper()
	for i, e := range f.past {
		if e.Kind == kind {
			f.past = slices.Delete(f.past, i, i+1)
			return e
		}
	}
	for e := range f.ch {
		if e.Version != control.Version || e.At.IsZero() {
			f.t.Errorf("event %+v has no version or time", e)
		}
		if e.Kind == kind {
			return e
		}
		f.past = append(f.past, e)
	}
	f.t.Fatalf("the events ended before %s", kind)
	return control.Event{}
}

func TestEvents(t *testing.T) {
	nodes := overlaytest.NewWith(t, 2, overlaytest.Network())
	s := serve(t, nodes[0])
	f := followEvents(t, s)
	ctx := testContext(t)
	if _, err := s.Expose(ctx, "web", "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	if e := f.expect(control.EventExposed); e.Service != "web" || e.Target != "127.0.0.1:1" {
		t.Errorf("exposed = %+v", e)
	}
	forward, err := s.Forward(ctx, "0", "/web")
	if err != nil {
		t.Fatal(err)
	}
	if e := f.expect(control.EventForward); e.Listen != forward.Listen || e.Target != "/web" {
		t.Errorf("forward = %+v", e)
	}
	if _, err := s.Deny(ctx, "web", "role:admin"); err != nil {
		t.Fatal(err)
	}
	if e := f.expect(control.EventAccess); e.Service != "web" {
		t.Errorf("access = %+v", e)
	}
	proxy, err := s.Proxy(ctx, control.Proxy{Listen: "0"})
	if err != nil {
		t.Fatal(err)
	}
	if e := f.expect(control.EventProxy); e.Listen != proxy.Listen {
		t.Errorf("proxy = %+v", e)
	}
	if err := errors.Join(s.Unproxy(ctx, proxy.Listen), s.Unforward(ctx, forward.Listen), s.Unexpose(ctx, "web")); err != nil {
		t.Fatal(err)
	}
	if e := f.expect(control.EventUnproxy); e.Listen != proxy.Listen {
		t.Errorf("unproxy = %+v", e)
	}
	if e := f.expect(control.EventUnforward); e.Listen != forward.Listen {
		t.Errorf("unforward = %+v", e)
	}
	if e := f.expect(control.EventUnexposed); e.Service != "web" {
		t.Errorf("unexposed = %+v", e)
	}
	invite, err := nodes[0].Invite(overlay.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	third := overlaytest.Join(t, "third", invite.Text())
	if e := f.expect(control.EventPath); e.To == "" || e.From != "" || e.Why == "" || e.ID == "" {
		t.Errorf("path = %+v, want one from nowhere and why", e)
	}
	if e := f.expect(control.EventMemberUp); e.Member != "third" {
		t.Errorf("member-up = %+v, want third", e)
	}
	third.Listen("web")
	c, err := s.Dial(ctx, "third/web")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	third.Kill()
	if e := f.expect(control.EventStreamWaiting); e.Member != "third" || e.Stream == nil || e.Stream.Service != "web" || !e.Stream.Waiting || e.From == "" {
		t.Errorf("stream-waiting = %+v, want that of third/web", e)
	}
	if err := s.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if e := f.expect(control.EventDown); e.Why == "" {
		t.Errorf("down = %+v, want why", e)
	}
	if e, more := <-f.ch; more {
		t.Errorf("%+v follows the last event", e)
	}
}

// Events keep their order, and a reader that is too slow is told how many it missed.
func TestSlowReaderIsToldWhatItLost(t *testing.T) {
	all := newEvents()
	slow, err := all.enter()
	if err != nil {
		t.Fatal(err)
	}
	for range maxEvents + 7 {
		all.tell(control.Event{Kind: control.EventExposed})
	}
	got := slow.take()
	if len(got) != maxEvents+1 || got[maxEvents].Kind != control.EventLost || got[maxEvents].Lost != 7 {
		t.Errorf("take() = %d events, the last %+v, want %d and that 7 were lost", len(got), got[len(got)-1], maxEvents)
	}
	all.tell(control.Event{Kind: control.EventUnexposed})
	if got := slow.take(); len(got) != 1 || got[0].Kind != control.EventUnexposed {
		t.Errorf("take() then = %+v, want the next", got)
	}
}

func TestTooManyReaders(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	ctx, cancel := context.WithCancel(testContext(t))
	for range maxReaders {
		if _, err := s.Events(ctx); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Events(ctx)
	wantCode(t, "Events once more", err, control.CodeBusy)
	cancel()
}

// What became of members and streams is told, and nothing else.
func TestEventsOfChanges(t *testing.T) {
	member := func(up bool) *overlay.Member { return &overlay.Member{Name: "bob", Up: up} }
	stream := func(waiting bool, moves, resumes int) *overlay.StreamInfo {
		s := &overlay.StreamInfo{Member: "bob", Service: "web"}
		s.Waiting, s.Moves, s.Resumes = waiting, moves, resumes
		return s
	}
	for _, tt := range []struct {
		name string
		got  *control.Event
		want control.EventKind // empty if nothing is told
	}{
		{"a new member that is up", memberEvent(nil, member(true)), control.EventMemberUp},
		{"a new member that is not", memberEvent(nil, member(false)), ""},
		{"up again", memberEvent(member(false), member(true)), control.EventMemberUp},
		{"up still", memberEvent(member(true), member(true)), ""},
		{"down", memberEvent(member(true), member(false)), control.EventMemberDown},
		{"gone", memberEvent(member(true), nil), control.EventMemberGone},
		{"a new stream", streamEvent(nil, stream(false, 0, 0)), ""},
		{"a new stream that has moved", streamEvent(nil, stream(false, 1, 0)), control.EventStreamMoved},
		{"moved", streamEvent(stream(false, 1, 0), stream(false, 2, 0)), control.EventStreamMoved},
		{"waiting", streamEvent(stream(false, 1, 0), stream(true, 1, 0)), control.EventStreamWaiting},
		{"waiting still", streamEvent(stream(true, 1, 0), stream(true, 1, 0)), ""},
		{"resumed", streamEvent(stream(true, 1, 0), stream(false, 1, 1)), control.EventStreamResumed},
		{"over", streamEvent(stream(false, 1, 0), nil), ""},
	} {
		kind := control.EventKind("")
		if tt.got != nil {
			kind = tt.got.Kind
		}
		if kind != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, kind, tt.want)
		}
	}
}

// A reader that takes nothing keeps the node from nothing, its end included.
func TestReaderThatTakesNothing(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	c := connectSocket(t, s)
	if _, err := io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: node\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	for range 1500 { // more than the socket and the queue take
		if _, err := s.Forward(ctx, "0", "/web"); err != nil {
			t.Fatal(err)
		}
		n, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Unforward(ctx, n.Forwards[0].Listen); err != nil {
			t.Fatal(err)
		}
	}
}
