package p2p

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A wire is between a node and those that connect to it over TCP. It counts bytes, and
// can be stopped in either direction.
type wire struct {
	at    multiaddr.Multiaddr
	bytes atomic.Int64
	stop  [2]sync.RWMutex // to the node, and from it; held while it is stopped
}

func newWire(t *testing.T, to *Node) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := new(wire)
	if w.at, err = manet.FromNetAddr(l.Addr()); err != nil {
		t.Fatal(err)
	}
	target, err := manet.ToNetAddr(to.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); to.Close(); work.Wait() })
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target.String())
			if err != nil {
				in.Close()
				continue
			}
			work.Go(func() { w.pass(0, out, in) })
			work.Go(func() { w.pass(1, in, out) })
		}
	})
	return w
}

func (w *wire) pass(way int, to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		w.stop[way].RLock()
		w.bytes.Add(int64(n))
		_, werr := to.Write(b[:n])
		w.stop[way].RUnlock()
		if err != nil || werr != nil {
			return
		}
	}
}

// kinds are of a stream.
var kinds = []struct {
	name string
	ctx  func(context.Context) context.Context
}{
	{"plain", Plain},
	{"durable", func(ctx context.Context) context.Context { return ctx }},
}

// A short stream that outlives its connection takes no more bytes than a plain one where
// there is a carrier from the last. Else it takes what its hello, a longer name, headers
// and an acknowledgement have.
func TestDurableBytesOfAShortStream(t *testing.T) {
	const moreBytes, moreWithCarrier = 0, 64
	from, to := newTestNode(t, Config{}), newTestNode(t, Config{})
	w := newWire(t, to)
	serveEcho(t, to, "/echo/1")
	if err := from.Connect(testContext(t), to.ID(), w.at); err != nil {
		t.Fatal(err)
	}
	if err := from.Identified(testContext(t), to.ID()); err != nil {
		t.Fatal(err)
	}
	least := map[string]int64{}
	measure := func(kind string, ctx context.Context) {
		before, open := w.bytes.Load(), from.openStreams()
		if err := echo(ctx, from, to.ID(), "/echo/1"); err != nil {
			t.Fatal(err)
		}
		until(t, "the stream has ended", func() bool { return from.openStreams() == open && to.openStreams() == open })
		for _, n := range []struct{ from, to *Node }{{from, to}, {to, from}} { // behind all that
			if _, err := n.from.Ping(testContext(t), n.to.ID()); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.bytes.Load() - before; least[kind] == 0 || got < least[kind] {
			least[kind] = got
		}
	}
	for range 20 { // the nodes have business of their own at times
		measure("plain", Plain(testContext(t)))
		measure("durable", testContext(t))
		from.durables.spares.drop(from.bestConn(to.ID()))
		measure("durable with a carrier of its own", testContext(t))
	}
	t.Logf("a stream of 4 bytes each way, and two pings: %v bytes", least)
	if more := least["durable"] - least["plain"]; more > moreBytes {
		t.Errorf("%d bytes more than a plain stream, want %d at most", more, moreBytes)
	}
	if more := least["durable with a carrier of its own"] - least["plain"]; more > moreWithCarrier {
		t.Errorf("%d bytes more than a plain stream with a carrier of its own, want %d at most", more, moreWithCarrier)
	}
}

// The question goes out without that anything comes back, and so does the answer.
func TestDurableRoundTripsOfAShortStream(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			from, to := newTestNode(t, Config{}), newTestNode(t, Config{})
			w := newWire(t, to)
			l, err := to.Listen("/test/1")
			if err != nil {
				t.Fatal(err)
			}
			if err := from.Connect(testContext(t), to.ID(), w.at); err != nil {
				t.Fatal(err)
			}
			if err := from.Identified(testContext(t), to.ID()); err != nil {
				t.Fatal(err)
			}
			w.stop[1].Lock()
			near, err := from.Dial(k.ctx(testContext(t)), to.ID(), "/test/1")
			if err != nil {
				t.Fatal(err)
			}
			defer near.Close()
			if _, err := io.WriteString(near, "question"); err != nil {
				t.Error(err)
			}
			_ = near.CloseWrite()
			far, err := l.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			readsAll(t, far, []byte("question"))
			w.stop[0].Lock()
			w.stop[1].Unlock()
			if _, err := io.WriteString(far, "answer"); err != nil {
				t.Error(err)
			}
			far.Close()
			readsAll(t, near, []byte("answer"))
			w.stop[0].Unlock()
		})
	}
}
