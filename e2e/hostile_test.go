package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2pyamux "github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

const (
	// hostileConns are held open against one node at once, as far as it holds them.
	hostileConns = 10_000

	// hostileMemory is what they may add to the node's resident memory, in KiB.
	hostileMemory = 64 << 10

	// joinsMeanwhile join, each within joinWithin.
	joinsMeanwhile = 3
	joinWithin     = 2 * time.Second
)

// Whoever connects and gets no further costs a node little, and keeps nobody out.
func TestHostileConnections(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory and descriptors are read from /proc, which is Linux's")
	}
	count := hostileConns
	if testing.Short() {
		count /= 10
	}
	for _, tt := range []struct {
		name    string
		sources []string
	}{
		{"from many addresses", manyLoopbacks()},
		{"from the address of those who join", []string{"127.0.0.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) { withstand(t, newAttack(t, tt.sources), count) })
	}
}

// manyLoopbacks returns enough addresses that no limit by address is reached.
func manyLoopbacks() (addrs []string) {
	for i := range 200 {
		addrs = append(addrs, fmt.Sprint("127.0.1.", i+1))
	}
	return addrs
}

func withstand(t *testing.T, a *attack, count int) {
	memberJoins(t, a.alice, "first") // what the first one makes a node load is not the attack's
	before := a.alice.usage(t)
	resetPeak(t, a.alice)
	var peak usage
	for i := range joinsMeanwhile {
		a.fill(count)
		held := a.alice.usage(t)
		took := memberJoins(t, a.alice, fmt.Sprint("late", i))
		peak = a.alice.usage(t)
		t.Logf("join %d took %v, while the node had %d descriptors and %d MiB, %d MiB at most", i+1, took.Round(time.Millisecond), held.descriptors, held.resident>>10, peak.peak>>10)
		if took > joinWithin {
			t.Errorf("join %d took %v, want at most %v", i+1, took, joinWithin)
		}
	}
	added := peak.peak - before.resident
	t.Logf("%d hostile connections, %d with those made again: %s", count, a.made.Load(), a.alive())
	t.Logf("they added %d KiB to %d KiB", added, before.resident)
	if added > hostileMemory {
		t.Errorf("hostile connections add %d KiB to the node's memory, want at most %d KiB", added, hostileMemory)
	}
	a.end()
	await(t, "the node lets go of its descriptors", func() bool { return a.alice.usage(t).descriptors <= before.descriptors })
	t.Logf("afterwards the node has %+v, before it had %+v", a.alice.usage(t), before)
}

// memberJoins has a member join by a process of its own, and leave, and returns
// how long it took to be ready.
func memberJoins(t *testing.T, through *node, name string) time.Duration {
	t.Helper()
	invite := through.invite()
	n := newNode(t, name)
	began := time.Now()
	if err := n.start(invite, "join", "-", "--ephemeral", "--listen", "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1"); err != nil {
		t.Error(err)
		return time.Since(began)
	}
	took := time.Since(began)
	n.end(n.cmd)
	return took
}

// An attack is what strangers do to a node from some addresses.
type attack struct {
	t       *testing.T
	alice   *node
	id      peer.ID
	tcp     string // the node's addresses
	udp     net.Addr
	sources []string
	udps    []*quic.Transport // one a source, for connections that are held
	hello   []byte            // the first packet of a TLS handshake
	life    context.Context
	cancel  context.CancelFunc
	ways    []way
	held    []*hostile
	made    atomic.Int64
}

// A way is one thing that hostile connections do.
type way struct {
	name  string
	open  func(ctx context.Context, source string) (hostile, error)
	share int // of all, in a tenth
}

// A hostile is a connection that is of no use to anybody.
type hostile struct {
	closer func()
	gone   <-chan struct{} // closed once the node has hung up
	way    string
}

func newAttack(t *testing.T, sources []string) *attack {
	a := &attack{t: t, sources: sources, hello: clientHello(t)}
	addr := freePort(t)
	at := "/ip4/127.0.0.1/tcp/" + port(addr)
	a.alice = newNode(t, "alice").up("--listen", at+","+at+"/ws,"+at+"/tls/ws,/ip4/127.0.0.1/udp/"+port(addr)+"/quic-v1")
	var err error
	if a.id, err = peer.Decode(a.alice.ready.ID); err != nil {
		t.Fatal(err)
	}
	a.tcp, a.udp = addr, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	a.life, a.cancel = context.WithCancel(t.Context())
	for _, s := range sources {
		a.udps = append(a.udps, &quic.Transport{Conn: udpSocket(t, s)})
	}
	a.ways = []way{
		{"TCP, silent", a.tcpThatSays(""), 2},
		{"TCP, named a protocol", a.tcpThatSays("\x13/multistream/1.0.0\n"), 1},
		{"TCP, half a TLS handshake", a.tcpThatSays("\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n" + string(a.hello)), 1},
		{"WebSocket over TLS, half a hello", a.tcpThatSays(string(a.hello[:len(a.hello)/2])), 1},
		{"TCP, half an HTTP request", a.tcpThatSays("GET / HTTP/1.1\r\nHost: x\r\n"), 1},
		{"QUIC, a first packet", a.quicInitial, 3},
		{"TCP, stalled admission", a.stalledTCP, 1},
		{"QUIC, stalled admission", a.stalledQUIC, 1},
	}
	t.Cleanup(a.end)
	return a
}

// fill opens what is missing of so many connections, those included that the
// node has closed since.
func (a *attack) fill(count int) {
	if a.held == nil {
		a.held = make([]*hostile, count)
	}
	var plan []way
	for len(plan) < count {
		for _, w := range a.ways {
			for range w.share {
				plan = append(plan, w)
			}
		}
	}
	var g errgroup.Group
	g.SetLimit(64)
	for i := range count {
		if a.held[i].alive() {
			continue
		}
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(a.life, time.Second)
			defer cancel()
			h, err := plan[i].open(ctx, a.sources[mathrand.IntN(len(a.sources))])
			a.made.Add(1)
			if err == nil { // the node may well refuse
				h.way = plan[i].name
				a.held[i] = &h
			}
			return nil
		})
	}
	_ = g.Wait()
}

func (h *hostile) alive() bool {
	if h == nil {
		return false
	}
	select {
	case <-h.gone:
		return false
	default:
		return true
	}
}

// alive tells how many connections of each kind the node has not closed.
func (a *attack) alive() string {
	count := map[string]int{}
	for _, h := range a.held {
		if h.alive() {
			count[h.way]++
		}
	}
	var all []string
	for _, w := range a.ways {
		all = append(all, fmt.Sprintf("%d %s", count[w.name], w.name))
	}
	return strings.Join(all, "; ")
}

func (a *attack) end() {
	a.cancel()
	for _, h := range a.held {
		if h != nil {
			h.closer()
		}
	}
	a.held = nil
	for _, u := range a.udps {
		u.Close()
		u.Conn.Close()
	}
	a.udps = nil
}

func (a *attack) dialTCP(ctx context.Context, source string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	return d.DialContext(ctx, "tcp", a.tcp)
}

// tcpThatSays connects, says something that is the beginning of more, and waits.
func (a *attack) tcpThatSays(what string) func(context.Context, string) (hostile, error) {
	return func(ctx context.Context, source string) (hostile, error) {
		c, err := a.dialTCP(ctx, source)
		if err != nil {
			return hostile{}, err
		}
		if _, err := io.WriteString(c, what); err != nil {
			c.Close()
			return hostile{}, err
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = io.Copy(io.Discard, c)
		}()
		return hostile{closer: func() { c.Close() }, gone: gone}, nil
	}
}

// stalledTCP proves who it is and then says nothing in the admission exchange,
// or begins it and does not end it.
func (a *attack) stalledTCP(ctx context.Context, source string) (hostile, error) {
	raw, err := a.dialTCP(ctx, source)
	if err != nil {
		return hostile{}, err
	}
	m, err := manet.WrapNetConn(raw)
	if err != nil {
		return hostile{}, err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return hostile{}, err
	}
	muxers := []upgrader.StreamMuxer{{ID: libp2pyamux.ID, Muxer: libp2pyamux.DefaultTransport}}
	security, err := libp2ptls.New(libp2ptls.ID, key, muxers)
	if err != nil {
		return hostile{}, err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, nil, nil)
	if err != nil {
		return hostile{}, err
	}
	c, err := up.Upgrade(ctx, nil, m, network.DirOutbound, a.id, &network.NullScope{})
	if err != nil {
		return hostile{}, err
	}
	if mathrand.IntN(2) == 0 {
		if s, err := c.OpenStream(ctx); err == nil {
			_, _ = s.Write([]byte{1})
		}
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = c.AcceptStream()
	}()
	return hostile{closer: func() { c.Close() }, gone: gone}, nil
}

// stalledQUIC is stalledTCP over QUIC.
func (a *attack) stalledQUIC(ctx context.Context, source string) (hostile, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return hostile{}, err
	}
	identity, err := libp2ptls.NewIdentity(key)
	if err != nil {
		return hostile{}, err
	}
	config, _ := identity.ConfigForPeer(a.id)
	config.NextProtos = []string{"libp2p"}
	from := a.udps[0]
	for i, s := range a.sources {
		if s == source {
			from = a.udps[i]
		}
	}
	c, err := from.Dial(ctx, a.udp, config, &quic.Config{EnableDatagrams: true})
	if err != nil {
		return hostile{}, err
	}
	if mathrand.IntN(2) == 0 {
		if s, err := c.OpenStream(); err == nil {
			_, _ = s.Write([]byte{1})
		}
	}
	return hostile{closer: func() { _ = c.CloseWithError(0, "") }, gone: c.Context().Done()}, nil
}

// quicInitial sends the first packet of a QUIC connection from a port of its
// own, and never another.
func (a *attack) quicInitial(_ context.Context, source string) (hostile, error) {
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(source)})
	if err != nil {
		return hostile{}, err
	}
	defer u.Close()
	first := &firstPacket{PacketConn: u, sent: make(chan struct{})}
	ctx, cancel := context.WithCancel(a.life)
	go func() {
		<-first.sent
		cancel()
	}()
	tr := quic.Transport{Conn: first}
	defer tr.Close()
	_, err = tr.Dial(ctx, a.udp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"libp2p"}}, nil)
	if !errors.Is(err, context.Canceled) {
		return hostile{}, fmt.Errorf("dial that is given up = %w, want %w", err, context.Canceled)
	}
	// The node can't say when it has given up.
	gone, timer := make(chan struct{}), (*time.Timer)(nil)
	timer = time.AfterFunc(5*time.Second, func() { close(gone) })
	return hostile{closer: func() { timer.Stop() }, gone: gone}, nil
}

// A firstPacket sends one packet and hears nothing.
type firstPacket struct {
	net.PacketConn
	once sync.Once
	sent chan struct{}
}

func (f *firstPacket) WriteTo(p []byte, to net.Addr) (n int, err error) {
	f.once.Do(func() {
		n, err = f.PacketConn.WriteTo(p, to)
		close(f.sent)
	})
	return len(p), err
}

func udpSocket(t testing.TB, ip string) net.PacketConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// clientHello returns the first thing that a TLS client sends.
func clientHello(t testing.TB) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		defer near.Close()
		_ = tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"libp2p"}}).Handshake()
	}()
	hello := make([]byte, 4<<10)
	n, err := far.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	return hello[:n]
}

// A usage is what a process takes of the machine, memory in KiB.
type usage struct{ resident, peak, descriptors int }

func (n *node) usage(t testing.TB) (u usage) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", n.cmd.Process.Pid)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		_, _ = fmt.Sscanf(string(line), "VmRSS: %d kB", &u.resident)
		_, _ = fmt.Sscanf(string(line), "VmHWM: %d kB", &u.peak)
	}
	open, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil || u.resident == 0 || u.peak == 0 {
		t.Fatalf("usage of %s = %+v, %v", n.name, u, err)
	}
	u.descriptors = len(open)
	return u
}

// resetPeak makes the peak of a process's memory what it is now.
func resetPeak(t testing.TB, n *node) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}
