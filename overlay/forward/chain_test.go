package forward

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// A chain is client -> Forward -> stream -> Expose -> server.
type chain struct {
	forward *Forward
	expose  *Expose
	server  net.Listener
	client  Address // what clients dial
}

// newChain makes a chain whose client and server sides are "tcp" or "unix".
func newChain(tb testing.TB, mesh fakeMesh, clientNet, serverNet string) *chain {
	tb.Helper()
	c := &chain{server: listenFor(tb, serverNet)}
	var err error
	if c.expose, err = NewExpose(serviceOf(tb, mesh), addressOf(tb, c.server.Addr()), Config{}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.expose.Close() })
	listen := mustParse(tb, ownAddress())
	if clientNet == "unix" {
		listen = mustParse(tb, unixPrefix+tb.TempDir()+"/f")
	}
	if c.forward, err = NewForward(mesh, "alice/web", listen, Config{}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.forward.Close() })
	c.client = addressOf(tb, c.forward.Addr())
	return c
}

func newMesh(tb testing.TB, kind string) fakeMesh {
	tb.Helper()
	if kind == "mux" {
		a, b := pair(tb, "tcp")
		return newMuxMesh(tb, a, b)
	}
	return newTCPMesh(tb)
}

// connectRaw returns both ends of a new connection through the chain. A test that
// hangs fails when the deadline comes.
func (c *chain) connectRaw(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	client, err := c.client.dial(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close() })
	if server, err = c.server.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { server.Close() })
	for _, conn := range []net.Conn{client, server} {
		conn.SetDeadline(time.Now().Add(patience))
	}
	return client, server
}

func (c *chain) connect(tb testing.TB) (client, server *end) {
	tb.Helper()
	x, y := c.connectRaw(tb)
	client, server = newEnd(x), newEnd(y)
	tb.Cleanup(client.close)
	tb.Cleanup(server.close)
	return client, server
}

// An end is one end of a connection through the chain. It reads all the time.
type end struct {
	conn     net.Conn
	readDone chan struct{} // closed when got and readErr are final

	mu      sync.Mutex
	cond    *sync.Cond // got has grown, or reading is over
	got     []byte
	readErr error // nil if reading came to a clean end
	over    bool

	// The kernel reports a reset once. If it did so to a write, a read meets
	// what looks like an end.
	writeErr error
}

func newEnd(c net.Conn) *end {
	e := &end{conn: c, readDone: make(chan struct{})}
	e.cond = sync.NewCond(&e.mu)
	go e.read()
	return e
}

func (e *end) read() {
	defer close(e.readDone)
	buf := make([]byte, 32<<10)
	for {
		n, err := e.conn.Read(buf)
		e.mu.Lock()
		e.got = append(e.got, buf[:n]...)
		if err != nil {
			e.over = true
			if err != io.EOF {
				e.readErr = err
			}
		}
		e.cond.Broadcast()
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (e *end) close() {
	e.conn.Close()
	<-e.readDone
}

// abort sends a RST, or closes if this is a unix socket.
func (e *end) abort() { reset(e.conn) }

// waitFor returns when n bytes have come in, or when no more will.
func (e *end) waitFor(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.got) < n && !e.over {
		e.cond.Wait()
	}
}

func (e *end) isTCP() bool { return e.conn.LocalAddr().Network() == "tcp" }

func (e *end) send(t *testing.T, data []byte) {
	t.Helper()
	if err := e.write(data); err != nil {
		t.Errorf("write = %v", err)
	}
}

func (e *end) write(data []byte) error {
	_, err := e.conn.Write(data)
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.writeErr = err
	}
	return err
}

func (e *end) finish(t *testing.T) {
	t.Helper()
	if err := e.closeWrite(); err != nil {
		t.Errorf("CloseWrite = %v", err)
	}
}

func (e *end) closeWrite() error { return newSide(e.conn).closeWrite() }

// writeUntilError returns true when a write fails other than by the deadline.
func (e *end) writeUntilError() bool {
	block := make([]byte, 64<<10)
	for {
		if err := e.write(block); err != nil {
			return !isTimeout(err)
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// wantAll checks that exactly want came in, and then a clean end.
func (e *end) wantAll(t *testing.T, name string, want []byte) {
	t.Helper()
	<-e.readDone
	if e.readErr != nil || !bytes.Equal(e.got, want) {
		t.Errorf("%s got %d bytes and then %v, want %d bytes and a clean end", name, len(e.got), e.readErr, len(want))
	}
}

// wantAborted checks that all of want came in, and then what the abort of the
// other end gives: if that is a unix socket, a clean end.
func (e *end) wantAborted(t *testing.T, name string, want []byte, by *end) {
	t.Helper()
	if by.isTCP() {
		e.wantBroken(t, name, want, len(want))
	} else {
		e.wantAll(t, name, want)
	}
}

// wantBroken checks that a prefix of want came in, of at least atLeast bytes, and
// then an error. A unix socket may show an end instead.
func (e *end) wantBroken(t *testing.T, name string, want []byte, atLeast int) {
	t.Helper()
	<-e.readDone
	if !bytes.HasPrefix(want, e.got) || len(e.got) < atLeast {
		t.Errorf("%s got %d bytes, want the first %d to %d of what was sent", name, len(e.got), atLeast, len(want))
	}
	err := cmp.Or(e.readErr, e.writeErr)
	if e.isTCP() && (err == nil || isTimeout(err)) {
		t.Errorf("%s: after %d bytes, read = %v, want a reset", name, len(e.got), err)
	}
}

func payload(r *rand.Rand, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], r.Uint64())
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// TestEndings goes through the ways in which a connection ends: who is first,
// how, with what in flight, over which sockets and streams.
func TestEndings(t *testing.T) {
	for _, mesh := range []string{"mux", "tcp"} {
		for _, clientNet := range []string{"tcp", "unix"} {
			for _, serverNet := range []string{"tcp", "unix"} {
				t.Run(fmt.Sprintf("%s-%s-%s", clientNet, mesh, serverNet), func(t *testing.T) {
					c := newChain(t, newMesh(t, mesh), clientNet, serverNet)
					testEndings(t, c)
				})
			}
		}
	}
}

func testEndings(t *testing.T, c *chain) {
	sizes := [][2]int{{0, 0}, {1, 1}, {0, 1}, {70 << 10, 1}, {1, 3 << 20}, {2 << 20, 1 << 20}}
	for _, first := range []string{"client", "server"} {
		for _, size := range sizes {
			for _, way := range endings {
				t.Run(fmt.Sprintf("%s/%s-first/%d-%d", way.name, first, size[0], size[1]), func(t *testing.T) {
					a, b := c.connect(t)
					if first == "server" {
						a, b = b, a
					}
					r := rand.New(rand.NewPCG(1, uint64(size[0]+size[1])))
					way.run(t, a, b, payload(r, size[0]), payload(r, size[1]))
				})
			}
		}
	}
}

// In each, a ends first; data goes from a to b and back from b to a.
var endings = []struct {
	name string
	run  func(t *testing.T, a, b *end, data, back []byte)
}{
	{"FIN then answer", func(t *testing.T, a, b *end, data, back []byte) {
		a.send(t, data)
		a.finish(t)
		b.wantAll(t, "b", data)
		b.send(t, back)
		b.finish(t)
		a.wantAll(t, "a", back)
	}},
	{"FIN while both send", func(t *testing.T, a, b *end, data, back []byte) {
		var wg sync.WaitGroup
		wg.Go(func() { b.send(t, back); b.finish(t) })
		a.send(t, data)
		a.finish(t)
		wg.Wait()
		a.wantAll(t, "a", back)
		b.wantAll(t, "b", data)
	}},
	{"RST when idle", func(t *testing.T, a, b *end, data, back []byte) {
		var wg sync.WaitGroup
		wg.Go(func() { b.send(t, back) })
		a.send(t, data)
		wg.Wait()
		a.waitFor(len(back))
		b.waitFor(len(data))
		a.abort()
		b.wantAborted(t, "b", data, a)
		<-a.readDone
		if !bytes.Equal(a.got, back) {
			t.Errorf("a got %d bytes, want the %d that were sent", len(a.got), len(back))
		}
	}},
	{"RST after FIN", func(t *testing.T, a, b *end, data, back []byte) {
		a.send(t, data)
		a.finish(t)
		b.wantAll(t, "b", data)
		b.send(t, back)
		a.waitFor(len(back))
		a.abort()
		if !b.writeUntilError() {
			t.Errorf("b could go on writing after a was gone")
		}
	}},
	{"RST after the FIN of the other", func(t *testing.T, a, b *end, data, back []byte) {
		b.send(t, back)
		b.finish(t)
		a.wantAll(t, "a", back)
		a.send(t, data)
		b.waitFor(len(data))
		a.abort()
		b.wantAborted(t, "b", data, a)
	}},
	{"RST while the other sends", func(t *testing.T, a, b *end, data, back []byte) {
		broke := make(chan bool)
		go func() { broke <- b.writeUntilError() }()
		a.send(t, data)
		a.waitFor(len(back))
		a.abort()
		if !<-broke {
			t.Errorf("b could go on writing after a was gone")
		}
		if a.isTCP() {
			b.wantBroken(t, "b", data, 0)
		}
	}},
}

var seed = flag.Uint64("seed", 0, "seed of TestRandomEndings; 0 takes one from the clock")

// TestRandomEndings has both ends act at random, at the same time.
func TestRandomEndings(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	networks := []string{"tcp", "unix"}
	chains := map[[2]string]*chain{}
	for _, a := range networks {
		for _, b := range networks {
			chains[[2]string{a, b}] = newChain(t, newMesh(t, "mux"), a, b)
		}
	}
	for i := range 200 {
		r := rand.New(rand.NewPCG(s, uint64(i)))
		c := chains[[2]string{networks[r.IntN(2)], networks[r.IntN(2)]}]
		t.Run(fmt.Sprint(i), func(t *testing.T) { testRandomEnding(t, c, r) })
	}
}

// A script is what one end does.
type script struct {
	data  []byte
	chunk int  // bytes a write
	after int  // bytes to have been received before the end
	abort bool // at the end
}

func testRandomEnding(t *testing.T, c *chain, r *rand.Rand) {
	client, server := c.connect(t)
	a, b := randomScript(r, client), randomScript(r, server)
	a.after, b.after = r.IntN(len(b.data)+1), r.IntN(len(a.data)+1)
	if a.after+b.after > 0 && r.IntN(2) == 0 {
		a.after, b.after = 0, 0 // neither waits for the other
	}
	var wg sync.WaitGroup
	wg.Go(func() { client.play(a) })
	server.play(b)
	wg.Wait()
	client.check(t, "client", a, b)
	server.check(t, "server", b, a)
	if t.Failed() {
		t.Logf("client %v, server %v", a, b)
	}
}

func (s script) String() string {
	return fmt.Sprintf("%d bytes by %d, end after %d, abort %v", len(s.data), s.chunk, s.after, s.abort)
}

func randomScript(r *rand.Rand, e *end) script {
	size := r.IntN(1 << r.IntN(21))
	return script{
		data:  payload(r, size),
		chunk: 1 + size/(1+r.IntN(20)),
		abort: r.IntN(3) == 0 && e.isTCP(),
	}
}

// play does what a script says, as far as the other end lets it.
func (e *end) play(s script) {
	for rest := s.data; len(rest) > 0; {
		n := min(s.chunk, len(rest))
		if err := e.write(rest[:n]); err != nil {
			return
		}
		rest = rest[n:]
	}
	e.waitFor(s.after)
	if s.abort {
		e.abort()
		return
	}
	// Fails if the other end has aborted, which check finds out.
	_ = e.closeWrite()
}

// check says whether what an end got is right, for what both did.
func (e *end) check(t *testing.T, name string, own, other script) {
	t.Helper()
	switch {
	case own.abort: // it may have cut off anything
	case other.abort:
		e.wantBroken(t, name, other.data, 0)
	default:
		e.wantAll(t, name, other.data)
	}
}

// echoAll sends back what comes in at each connection, until the listener is closed.
func echoAll(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}
