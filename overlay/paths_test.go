package overlay

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
)

// Each change is told once, in order, and the last ones are remembered.
func TestPathLog(t *testing.T) {
	l := newPathLog()
	l.put(p2p.PathChange{Peer: "a", To: p2p.PathRelay, Relay: "c"})
	l.put(p2p.PathChange{Peer: "b", To: p2p.PathLAN})
	l.put(p2p.PathChange{Peer: "a", From: p2p.PathRelay, To: p2p.PathDirect})
	got, total, more := l.after(0)
	if len(got) != 3 || got[0].Relay != "c" || got[2].To != p2p.PathDirect || got[0].At.IsZero() || total != 3 || l.count() != 3 {
		t.Errorf("after(0) = %+v, %d, want the three in order", got, total)
	}
	if got, _, _ := l.after(total); len(got) != 0 {
		t.Errorf("after(%d) = %+v, want none", total, got)
	}
	l.put(p2p.PathChange{Peer: "b"})
	<-more
	if got, _, _ := l.after(total); len(got) != 1 || got[0].Peer != "b" {
		t.Errorf("after(%d) = %+v, want the one that came since", total, got)
	}
	if got := l.of("a"); len(got) != 2 || got[0].To != p2p.PathRelay || got[1].To != p2p.PathDirect {
		t.Errorf("of(a) = %+v, want its two", got)
	}
}

// What is not told in time is forgotten, and the rest is told all the same.
func TestPathLogIsBounded(t *testing.T) {
	l := newPathLog()
	for range 3 * maxPathChanges {
		l.put(p2p.PathChange{Peer: "a"})
	}
	l.put(p2p.PathChange{Peer: "b"})
	if got, _, _ := l.after(0); len(got) != maxPathChanges || got[len(got)-1].Peer != "b" {
		t.Errorf("after(0) = %d changes, want %d with the last at the end", len(got), maxPathChanges)
	}
	if got := len(l.of("a")); got != maxPathChanges-1 {
		t.Errorf("of(a) = %d changes, want %d", got, maxPathChanges-1)
	}
	if got := l.of(peer.ID("nobody")); got != nil {
		t.Errorf("of(nobody) = %+v, want none", got)
	}
}
