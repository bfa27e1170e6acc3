package p2p

import (
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
)

// Much over QUIC brings a connection by TCP, which new streams take; a little does not.
func TestMuchOverQUIC(t *testing.T) {
	from, to := newOutsideNode(t, Config{}), newOutsideNode(t, Config{})
	var quic []multiaddr.Multiaddr
	for _, a := range directOf(to) {
		if isQUIC(a) {
			quic = append(quic, a)
		}
	}
	if err := from.Connect(testContext(t), to.ID(), quic...); err != nil {
		t.Fatal(err)
	}
	serveEcho(t, to, "/echo/1")
	s, err := from.Dial(testContext(t), to.ID(), "/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	say(t, s, "little")
	if !from.runsQUIC(to.ID()) {
		t.Fatal("after a few bytes the best connection is not by QUIC")
	}
	block := string(make([]byte, 64<<10))
	for range muchInAll / len(block) {
		say(t, s, block)
	}
	for _, n := range []*Node{from, to} {
		waitFor(t, n, "the best by TCP", func([]Connection) bool { return !n.runsQUIC(from.ID()) && !n.runsQUIC(to.ID()) })
	}
	say(t, s, "still there")
}

func TestMuchInAll(t *testing.T) {
	began := time.Now()
	w := newTraffic()
	for _, tt := range []struct {
		name  string
		bytes int64
		after time.Duration
		want  bool
	}{
		{"some", muchInAll - 1, 0, false},
		{"together much", 1, 0, true},
		{"told already", 2 * muchInAll, cheaperEvery - 1, false},
		{"told long ago", 1, cheaperEvery, true},
		{"a little since", 1, 2 * cheaperEvery, false},
	} {
		if got := w.add("a", tt.bytes, began.Add(tt.after)); got != tt.want {
			t.Errorf("%s: add = %v, want %v", tt.name, got, tt.want)
		}
	}
	if w.add("b", muchInAll-1, began) {
		t.Error("what goes to one peer counts for another")
	}
}
