package p2p

import (
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// tell has a node tell another bytes as notes, on a stream of its own, and returns it.
func tell(t *testing.T, from, to *Node, b []byte) network.MuxedStream {
	t.Helper()
	raw, err := from.openRaw(testContext(t), from.bestConn(to.ID()), noteProtocol, b)
	if err != nil {
		t.Fatal(err)
	}
	raw.(*namer).Flush()
	return raw
}

// Notes that are malformed are refused with their stream. Neither the streams they
// might be about nor the connection end.
func TestNotesMalformed(t *testing.T) {
	t.Parallel()
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	near, far := openStream(t, from, to)
	k := newEndlessTalk(t, near, far)
	id := durableOf(t, near).id
	note := func(kind byte, rest ...byte) []byte { return append(append([]byte{kind}, id[:]...), rest...) }
	for name, b := range map[string][]byte{
		"kind 0":                   note(0, 1),
		"kind 5":                   note(5, 1),
		"an offset above 2^60":     note(1, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10),
		"a code of 2^32":           note(2, 0x80, 0x80, 0x80, 0x80, 0x10),
		"a gone with code 2^32":    note(4, 0x80, 0x80, 0x80, 0x80, 0x10),
		"a number that is longer":  note(2, 0x80, 0),
		"a number of eleven bytes": note(3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"no number after a good":   append(note(3, 9), 7),
	} {
		t.Run(name, func(t *testing.T) {
			raw := tell(t, from, to, b)
			defer raw.Reset()
			if got, err := io.ReadAll(raw); len(got) > 0 || !errors.Is(err, network.ErrReset) {
				t.Errorf("the answer is %x, %v, want a reset", got, err)
			}
		})
	}
	t.Run("half of one", func(t *testing.T) {
		raw := tell(t, from, to, note(2)[:5])
		defer raw.Reset()
		_ = raw.CloseWrite()
		if got, err := io.ReadAll(raw); len(got) > 0 || err != nil {
			t.Errorf("the answer is %x, %v, want the end", got, err)
		}
	})
	k.hear(1 << 20)
	k.finish()
}

// A note is about a stream with the peer that tells it.
func TestNotesOfAThirdNode(t *testing.T) {
	t.Parallel()
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	near, far := openStream(t, from, to)
	k := newEndlessTalk(t, near, far)
	third := newTestNode(t, Config{})
	id := durableOf(t, near).id
	var all []byte
	for kind := byte(durable.MessageAck); kind <= durable.MessageGone; kind++ {
		all = durable.Message{Kind: kind, ID: id, Value: 1}.Append(all)
	}
	for _, n := range []*Node{from, to} {
		if err := third.Connect(testContext(t), n.ID(), n.Addrs()...); err != nil {
			t.Fatal(err)
		}
		raw := tell(t, third, n, all)
		_ = raw.CloseWrite()
		if _, err := io.ReadAll(raw); err != nil { // it has taken in all
			t.Error(err)
		}
	}
	k.hear(1 << 20)
	k.finish()
}

// What a note says of a stream that does not fit it changes nothing or ends it.
func TestNotesOutOfPlace(t *testing.T) {
	for _, tt := range []struct {
		name string
		note durable.Message
		back bool // told by the acceptor
		ends bool
	}{
		{"an acknowledgement of what was not sent", durable.Message{Kind: durable.MessageAck, Value: 1 << 50}, false, true},
		{"the same of the acceptor", durable.Message{Kind: durable.MessageAck, Value: 1 << 50}, true, true},
		{"an acknowledgement of nothing", durable.Message{Kind: durable.MessageAck}, false, false},
		{"a lost of the opener", durable.Message{Kind: durable.MessageLost}, false, false},
		{"a lost of a carrier that is not", durable.Message{Kind: durable.MessageLost, Value: 9}, true, false},
		{"a lost of the one that is", durable.Message{Kind: durable.MessageLost}, true, false},
		{"a gone of the opener", durable.Message{Kind: durable.MessageGone, Value: 1}, false, false},
		{"a gone of the acceptor", durable.Message{Kind: durable.MessageGone, Value: 1}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			awaitPeers(t, from, to)
			near, far := openStream(t, from, to)
			a, b := from, to
			s := far
			if tt.back {
				a, b, s = to, from, near
			}
			m := tt.note
			m.ID = durableOf(t, near).id
			raw := tell(t, a, b, m.Append(nil))
			defer raw.Reset()
			if tt.ends {
				_, err := s.Read(make([]byte, 1))
				checkIs(t, "Read", err, ErrReset)
				return
			}
			_ = raw.CloseWrite()
			_, _ = io.ReadAll(raw) // it has taken in all
			k := newEndlessTalk(t, near, far)
			k.hear(1 << 20)
			k.finish()
		})
	}
}

// A reset that is told counts behind what the carrier still brings, and at once for who
// writes.
func TestNoteOfReset(t *testing.T) {
	t.Parallel()
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	near, far := openStream(t, from, to)
	if _, err := far.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	raw := tell(t, from, to, durable.Message{Kind: durable.MessageReset, ID: durableOf(t, near).id, Value: 77}.Append(nil))
	defer raw.Reset()
	under := durableOf(t, far)
	until(t, "the reset is known", func() bool {
		under.mu.Lock()
		defer under.mu.Unlock()
		return under.resetBy != nil
	})
	_, err := far.Write([]byte("x"))
	checkIs(t, "Write", err, ErrReset)
	reads(t, near, []byte("last words"))
	if _, err := near.Write([]byte("before it")); err != nil {
		t.Fatal(err)
	}
	reads(t, far, []byte("before it"))
	cut(near)
	_, err = far.Read(make([]byte, 1))
	checkIs(t, "Read when there is no more", err, ErrReset)
}

// A peer that asks for streams that there are not, and does not read the answers, costs
// no more than some memory, and others are served meanwhile.
func TestNotesFlood(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	serveEcho(t, to, "/echo/1")
	if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
		t.Fatal(err)
	}
	hostile := newTestNode(t, Config{})
	hostile.kit.host.SetStreamHandler(noteProtocol, func(network.Stream) {}) // reads nothing
	if err := hostile.Connect(testContext(t), to.ID(), to.Addrs()...); err != nil {
		t.Fatal(err)
	}
	awaitPeers(t, hostile, to)
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	raw := tell(t, hostile, to, nil)
	var b []byte
	for i := range 1000 {
		b = durable.Message{Kind: durable.MessageLost, ID: newStreamID(), Value: uint64(i)}.Append(b)
	}
	for range 200 {
		if _, err := raw.Write(b); err != nil {
			break // it has had enough
		}
	}
	if c := to.bestConn(hostile.ID()); c != nil { // else it was closed, as it takes no notes
		l := to.durables.notes(c)
		l.mu.Lock()
		queued := len(l.queue)
		l.mu.Unlock()
		if queued > maxNotes {
			t.Errorf("%d notes wait to be told, want %d at most", queued, maxNotes)
		}
	}
	if got := runtime.NumGoroutine() - goroutines; got > 16 {
		t.Errorf("%d goroutines more, want a few", got)
	}
	if got := int64(heapInUse()) - int64(heap); got > 16<<20 {
		t.Errorf("%d KiB of memory more, want a few", got>>10)
	}
	if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
		t.Errorf("somebody else's echo = %v", err)
	}
	_ = raw.Reset()
}

// So does one that resumes streams that there are not.
func TestResumeFlood(t *testing.T) {
	hostile, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	awaitPeers(t, hostile, to) // who is not admitted yet is cut off
	goroutines := runtime.NumGoroutine()
	c := hostile.bestConn(to.ID())
	for range 8 {
		var all []network.MuxedStream
		for range 256 {
			raw, err := hostile.openRaw(testContext(t), c, carrierProtocol, durable.Hello{ID: newStreamID(), Resume: true, Epoch: 1}.Append(nil))
			if err != nil {
				t.Fatal(err)
			}
			raw.(*namer).Flush()
			all = append(all, raw)
		}
		for _, raw := range all {
			a, err := durable.ReadAnswer(raw)
			if err != nil || !a.Gone || a.Code != durable.CodeUnknown {
				t.Fatalf("the answer is %+v, %v, want that it is not known", a, err)
			}
			_ = raw.Reset()
		}
	}
	until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines+8 })
	if got := len(to.Streams()); got != 0 {
		t.Errorf("%d streams, want none", got)
	}
}

// What has ended is remembered, within bounds.
func TestEndedIsBounded(t *testing.T) {
	ds := newTestNode(t, Config{}).durables
	var first, last durable.ID
	for i := range 3 * maxEnded {
		last = newStreamID()
		if i == 0 {
			first = last
		}
		ds.mu.Lock()
		ds.gaveUp.add(endedKey{"a", last}, durable.CodeTimeLimit)
		ds.mu.Unlock()
	}
	if e := ds.gaveUp; len(e.codes) != maxEnded || len(e.order) != maxEnded {
		t.Errorf("%d and %d are remembered, want %d", len(e.codes), len(e.order), maxEnded)
	}
	for id, want := range map[durable.ID]uint32{first: durable.CodeUnknown, last: durable.CodeTimeLimit} {
		if got, _ := ds.whyEnded("a", id); got != want {
			t.Errorf("whyEnded = %d, want %d", got, want)
		}
		if got, known := ds.whyEnded("b", id); known || got != durable.CodeUnknown {
			t.Errorf("whyEnded for another peer = %d, want that it is not known", got)
		}
	}
}

// A connection that takes no notes, and on which the peer answers all the same, is kept,
// and they are told again.
func TestNotesAreToldAgain(t *testing.T) {
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	var refused atomic.Int32
	to.kit.host.SetStreamHandler(noteProtocol, func(s network.Stream) {
		if refused.Add(1) == 1 {
			_ = s.Reset()
			return
		}
		to.receiveNotes(s.Conn(), s)
	})
	conn := from.bestConn(to.ID())
	near, far := openStream(t, from, to)
	defer near.Close()
	defer far.Reset()
	raw, err := from.openRaw(testContext(t), conn, noteProtocol, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw.(*namer).Flush()
	_, err = raw.Read(make([]byte, 1))
	checkIs(t, "Read", err, network.ErrReset)
	d := durableOf(t, far)
	l := from.durables.notes(conn)
	l.mu.Lock()
	l.raw = raw
	l.mu.Unlock()
	l.send(durable.Message{Kind: durable.MessageReset, ID: d.id, Value: uint64(durable.CodeReset)})
	until(t, "the peer is told", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.resetBy != nil
	})
	if conn.IsClosed() {
		t.Error("the connection is closed")
	}
}
