package p2p

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// What a peer may refuse is told by the first Read.
func TestDurableRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, to *Node)
		want    error
	}{
		{"nobody listens", func(*testing.T, *Node) {}, ErrNoListener},
		{"too many wait to be accepted", func(t *testing.T, to *Node) {
			l, err := to.Listen("/test/1")
			if err != nil {
				t.Fatal(err)
			}
			l.pending = make(chan *Stream) // for none
		}, ErrReset},
		{"the listener is closed", func(t *testing.T, to *Node) {
			l, err := to.Listen("/test/1")
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
		}, ErrNoListener},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			tt.prepare(t, to)
			s, err := from.Dial(testContext(t), to.ID(), "/test/1")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, err = s.Read(make([]byte, 1))
			checkIs(t, "Read", err, tt.want)
			for _, n := range []*Node{from, to} {
				until(t, "nothing is left", func() bool { return len(n.Streams()) == 0 })
			}
		})
	}
	t.Run("a name too long", func(t *testing.T) {
		from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
		if s, err := from.Dial(testContext(t), to.ID(), "/"+strings.Repeat("x", durable.MaxProtocol)); err == nil {
			s.Close()
			t.Error("Dial = nil, want an error")
		}
	})
}

// sayHello opens a carrier that begins with bytes, and returns what comes back until it ends.
func sayHello(t *testing.T, from, to *Node, hello []byte) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(testContext(t), patience)
	defer cancel()
	if err := from.Connect(ctx, to.ID(), to.Addrs()...); err != nil {
		t.Fatal(err)
	}
	raw, err := from.openRaw(ctx, from.bestConn(to.ID()), carrierProtocol, hello)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Reset()
	raw.(*namer).Flush()
	_ = raw.CloseWrite()
	return io.ReadAll(raw)
}

// A carrier that is not the opener's to make is refused, and the stream goes on.
func TestCarrierOfSomebodyElse(t *testing.T) {
	for _, tt := range []struct {
		name  string
		by    func(from, to, third *Node) (*Node, *Node)
		hello durable.Hello
		want  []byte // where it does not end with an error
	}{
		{"a third node resumes it", func(_, to, third *Node) (*Node, *Node) { return third, to },
			durable.Hello{Resume: true, Epoch: 7}, durable.Answer{Gone: true, Code: durable.CodeUnknown}.Append(nil)},
		{"a third node resumes it at the opener", func(from, _, third *Node) (*Node, *Node) { return third, from },
			durable.Hello{Resume: true, Epoch: 7}, durable.Answer{Gone: true, Code: durable.CodeUnknown}.Append(nil)},
		{"the opener opens it again", func(from, to, _ *Node) (*Node, *Node) { return from, to },
			durable.Hello{Protocol: "/test/1"}, nil},
		{"the acceptor opens it", func(from, to, _ *Node) (*Node, *Node) { return to, from },
			durable.Hello{Protocol: "/test/1"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			neverBulk(from)
			near, far := openStream(t, from, to)
			k := newEndlessTalk(t, near, far)
			for _, n := range []*Node{from, to} {
				l, err := n.Listen("/test/1")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			a, b := tt.by(from, to, newTestNode(t, Config{}))
			h := tt.hello
			h.ID = durableOf(t, near).id
			got, err := sayHello(t, a, b, h.Append(nil))
			if (err != nil) != (tt.want == nil) || string(got) != string(tt.want) {
				t.Errorf("the answer is %x, %v, want %x", got, err, tt.want)
			}
			k.hear(1 << 20)
			k.finish()
			if got := from.durables.resumes.Load() + from.durables.moves.Load(); got != 0 {
				t.Errorf("%d resumes, want none", got)
			}
		})
	}
}

// An acceptor that resumes violates the protocol, and so does an opener which says that
// it has more than was sent: the stream is over at both ends.
func TestCarrierViolations(t *testing.T) {
	for _, tt := range []struct {
		name  string
		hello durable.Hello
		back  bool // by the acceptor
	}{
		{"the acceptor resumes", durable.Hello{Resume: true, Epoch: 1}, true},
		{"more than was sent", durable.Hello{Resume: true, Epoch: 1, Got: 1 << 20}, false},
		{"far more", durable.Hello{Resume: true, Epoch: 1<<64 - 1, Got: 1 << 60}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			near, far := openStream(t, from, to)
			a, b := from, to
			if tt.back {
				a, b = to, from
			}
			h := tt.hello
			h.ID = durableOf(t, near).id
			want := durable.Answer{Gone: true, Code: durable.CodeProtocol}.Append(nil)
			if got, err := sayHello(t, a, b, h.Append(nil)); err != nil || string(got) != string(want) {
				t.Errorf("the answer is %x, %v, want %x", got, err, want)
			}
			for _, s := range []*Stream{near, far} {
				_, err := s.Read(make([]byte, 1))
				checkIs(t, "Read", err, ErrReset)
			}
		})
	}
}

// What is no hello is reset, and leaves nothing.
func TestCarrierMalformed(t *testing.T) {
	id := make([]byte, 8)
	hello := func(kind byte, rest ...byte) []byte { return append(append([]byte{kind}, id...), rest...) }
	from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
	for name, b := range map[string][]byte{
		"nothing":                  nil,
		"no such kind":             hello(0, 1, 'x'),
		"an answer":                {3, 0, 0},
		"half an ID":               hello(1)[:4],
		"no protocol":              hello(1, 0),
		"a protocol of 300 bytes":  hello(1, 0xac, 2),
		"half a protocol":          hello(1, 4, 'x'),
		"a length of 2^63":         hello(1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1),
		"a length that is longer":  hello(1, 0x81, 0),
		"epoch 0":                  hello(2, 0, 0),
		"got 2^63":                 hello(2, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1),
		"a number of eleven bytes": hello(2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sayHello(t, from, to, b)
			if len(got) > 0 || !errors.Is(err, network.ErrReset) {
				t.Errorf("the answer is %x, %v, want a reset", got, err)
			}
		})
	}
	if got := to.Streams(); len(got) > 0 {
		t.Errorf("Streams() = %+v, want none", got)
	}
	serveEcho(t, to, "/echo/1")
	if err := echo(testContext(t), from, to.ID(), "/echo/1"); err != nil {
		t.Error(err)
	}
}

// Frames that no end may send end the stream, and not the connection.
func TestCarrierOfBadFrames(t *testing.T) {
	for name, frames := range map[string][]byte{
		"data of nothing":           {0},
		"a frame of 2^61 bytes":     {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1},
		"a number that is longer":   {0x84, 0},
		"more acknowledged than is": {0xfe, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := newTestPair(t, "/ip4/127.0.0.1/tcp/0")
			l, err := to.Listen("/test/1")
			if err != nil {
				t.Fatal(err)
			}
			raw, err := from.openRaw(testContext(t), from.bestConn(to.ID()), carrierProtocol,
				append(durable.Hello{ID: newStreamID(), Protocol: "/test/1"}.Append(nil), frames...))
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Reset()
			raw.(*namer).Flush()
			s, err := l.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Read(make([]byte, 1))
			checkIs(t, "Read", err, ErrReset)
			s.Close()
			if _, err := from.Ping(testContext(t), to.ID()); err != nil {
				t.Error(err)
			}
		})
	}
}
