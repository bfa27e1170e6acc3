package p2p

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/p2p/durable"
	"github.com/prometheus/client_golang/prometheus"
)

// cutConns closes the connections of a node to another, as a network would.
func cutConns(from, to *Node) {
	for _, c := range from.kit.swarm.ConnsToPeer(to.ID()) {
		_ = c.Close() // the other end may have closed it
	}
}

// What a stream goes through is told while it goes on, and in the totals after it has
// ended.
func TestWhatStreamsGoThrough(t *testing.T) {
	reg := prometheus.NewRegistry()
	to := newTestNode(t, Config{})
	from := newTestNode(t, Config{Metrics: reg})
	if err := from.Connect(testContext(t), to.ID(), to.Addrs()...); err != nil {
		t.Fatal(err)
	}
	near, far := openStream(t, from, to)
	if info, ok := near.Info(); !ok || info.Plain || !info.Dialed || info.Waiting || info.Path != PathLAN || info.Peer != to.ID() || time.Since(info.Since) > patience {
		t.Errorf("Info of a stream = %+v, %v", info, ok)
	}
	if info, ok := far.Info(); !ok || info.Dialed || info.Peer != from.ID() {
		t.Errorf("Info of the other end = %+v, %v, want that it did not dial", info, ok)
	}
	if _, err := near.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if info, _ := near.Info(); info.Held == 0 {
		t.Errorf("Info with bytes that nobody has read = %+v, want memory held", info)
	}
	cutConns(from, to)
	until(t, "the stream goes on", func() bool { return from.StreamTotals().Resumes == 1 })
	if _, err := io.ReadFull(far, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	info, ok := near.Info()
	if all := from.Streams(); !ok || info.Resumes != 1 || info.Moves != 0 || info.Replayed < 1000 || len(all) != 1 || all[0].Resumes != 1 {
		t.Errorf("Info after a cut = %+v, %v, and Streams %+v, want one resume, and its bytes sent again", info, ok, all)
	}
	// A scrape sees it before the stream ends, and after.
	for _, when := range []string{"while it goes on", "after its end"} {
		got := values(t, reg)
		if got["stream_resumes_total"] != 1 || got["stream_replayed_bytes_total"] != float64(info.Replayed) || got["stream_moves_total"] != 0 {
			t.Errorf("metrics %s = %v, want one resume and %d bytes sent again", when, got, info.Replayed)
		}
		near.Reset()
	}
	if _, ok := near.Info(); ok {
		t.Error("Info of a stream that was reset = true, want false")
	}
	if got := from.StreamTotals(); got.Open != 0 || got.Held != 0 || got.Waiting != 0 || got.Expired+got.Unknown != 0 {
		t.Errorf("StreamTotals after the end = %+v, want none open or lost", got)
	}
}

func TestInfoOfAPlainStream(t *testing.T) {
	dialer, listener := newTestPair(t, transports[0].listen)
	near, _ := openPlainStream(t, dialer, listener)
	if info, ok := near.Info(); !ok || !info.Plain || info.Peer != listener.ID() || info.Path != PathLAN {
		t.Errorf("Info of a plain stream = %+v, %v", info, ok)
	}
	if got := dialer.StreamTotals(); got.Open != 0 {
		t.Errorf("StreamTotals = %+v, want that a plain stream is not among them", got)
	}
	near.Reset()
	if _, ok := near.Info(); ok {
		t.Error("Info after Reset = true, want false")
	}
}

func TestLostStreamsAreCounted(t *testing.T) {
	forget := func(t *testing.T, from, to *Node) {
		to.durables.mu.Lock()
		defer to.durables.mu.Unlock()
		clear(to.durables.peers[from.ID()].streams) // as a restart does
	}
	for _, tt := range []struct {
		name   string
		limit  time.Duration
		before func(t *testing.T, from, to *Node)
		want   StreamTotals
		metric string
		err    error
	}{
		{"no connection in time", 1, func(*testing.T, *Node, *Node) {}, StreamTotals{Expired: 1}, "streams_lost_total why=time limit", durable.ErrTimeLimit},
		{"the peer does not know it", 0, forget, StreamTotals{Unknown: 1}, "streams_lost_total why=unknown", durable.ErrUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			to := newTestNode(t, Config{})
			from := newTestNode(t, Config{Metrics: reg, StreamLimit: tt.limit})
			if err := from.Connect(testContext(t), to.ID(), to.Addrs()...); err != nil {
				t.Fatal(err)
			}
			near, far := openStream(t, from, to)
			if _, err := far.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := near.Read(make([]byte, 1)); err != nil { // so that it is known to both
				t.Fatal(err)
			}
			tt.before(t, from, to)
			cutConns(from, to)
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, tt.err) || !errors.Is(err, ErrReset) {
				t.Errorf("Read of a lost stream = %v, want %v", err, tt.err)
			}
			until(t, "the stream is forgotten", func() bool { return from.openStreams() == 0 })
			if got := from.StreamTotals(); got != tt.want {
				t.Errorf("StreamTotals = %+v, want %+v", got, tt.want)
			}
			if got := values(t, reg)[tt.metric]; got != 1 {
				t.Errorf("%s = %v, want 1", tt.metric, got)
			}
		})
	}
}

// A stall is one from its beginning to its end, however often it is looked at.
func TestAStallIsCountedOnce(t *testing.T) {
	dialer, listener := newTestPair(t, transports[0].listen)
	near, far := openStream(t, dialer, listener)
	d := near.raw.(*durableStream)
	d.mu.Lock()
	d.watched = true // by this test
	d.mu.Unlock()
	for i := range 2 {
		if _, err := near.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Minute)
		for range 3 {
			if d.stalled(later) == nil {
				t.Fatal("stalled a minute after a Write that nobody has read = nil, want the connection")
			}
		}
		if info, _ := near.Info(); info.Stalls != i+1 || dialer.StreamTotals().Stalls != uint64(i+1) {
			t.Errorf("stalls = %+v of %+v, want %d", info, dialer.StreamTotals(), i+1)
		}
		if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		until(t, "the peer has acknowledged", func() bool { return d.stalled(later) == nil })
	}
}
