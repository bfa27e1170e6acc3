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

// moreBytes are 43 of the streams' own: a hello, a longer name, and headers. The rest is
// what the muxer (12) and TLS (22) put around up to three more pieces: an end is one, and
// so is that of the carrier behind it.
const moreBytes = 43 + 3*(12+22)

// A short stream that outlives its connection takes few bytes more than a plain one.
func TestDurableBytesOfAShortStream(t *testing.T) {
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
	for range 20 { // the nodes have business of their own at times
		for _, k := range kinds {
			before := w.bytes.Load()
			if err := echo(k.ctx(testContext(t)), from, to.ID(), "/echo/1"); err != nil {
				t.Fatal(err)
			}
			until(t, "the stream has ended", func() bool { return from.openStreams() == 0 && to.openStreams() == 0 })
			for _, n := range []struct{ from, to *Node }{{from, to}, {to, from}} { // behind all that
				if _, err := n.from.Ping(testContext(t), n.to.ID()); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.bytes.Load() - before; least[k.name] == 0 || got < least[k.name] {
				least[k.name] = got
			}
		}
	}
	t.Logf("a stream of 4 bytes each way, and two pings: %v bytes", least)
	if more := least["durable"] - least["plain"]; more > moreBytes {
		t.Errorf("%d bytes more than a plain stream, want %d at most", more, moreBytes)
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
