package overlay

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// A proxy stands between two nodes, and can freeze: then nothing goes through,
// and no end hears that.
type proxy struct {
	listener net.Listener
	wg       sync.WaitGroup
	stuck    chan struct{} // gets a value when something is held back

	closeOnce sync.Once

	mu     sync.Mutex
	conns  []net.Conn
	frozen bool
	thaw   chan struct{}
}

// newProxy stands before a node.
func newProxy(t testing.TB, m *Mesh) *proxy {
	t.Helper()
	network, to, err := manet.DialArgs(m.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, stuck: make(chan struct{}, 1), thaw: make(chan struct{})}
	p.wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial(network, to)
			if err != nil {
				near.Close()
				continue
			}
			p.keep(near, far)
			p.wg.Go(func() { p.copy(near, far) })
			p.wg.Go(func() { p.copy(far, near) })
		}
	})
	t.Cleanup(p.close)
	return p
}

// addr returns the node's address through the proxy.
func (p *proxy) addr(t testing.TB, m *Mesh) multiaddr.Multiaddr {
	t.Helper()
	a, err := manet.FromNetAddr(p.listener.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return multiaddr.Join(a, multiaddr.StringCast("/p2p/"+m.node.ID().String()))
}

func (p *proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		if frozen {
			select {
			case p.stuck <- struct{}{}:
			default:
			}
			<-p.thaw
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// close breaks all connections.
func (p *proxy) close() {
	p.closeOnce.Do(func() {
		p.listener.Close()
		p.mu.Lock()
		close(p.thaw)
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
}

// The ctx of a dial ends it at any stage, and is why it ended.
func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	bob := founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"})
	for _, stage := range []struct {
		name string
		call func(ctx context.Context, m *Mesh) error
	}{
		{"looking for a name", dialing("carol/web")},
		{"looking for providers", dialing("/web")},
		{"looking for addresses", dialing(peerOf(t, 9).String() + "/web")},
		{"waiting for the answer", dialing("alice/web")},
		{"looking for whom to ping", pinging("carol")},
		{"waiting for the echo", pinging("alice")},
	} {
		t.Run(stage.name, func(t *testing.T) {
			t.Parallel()
			alice := mustOpenAs(t, founder)
			between := newProxy(t, alice)
			m := mustOpenAs(t, bob, between.addr(t, alice))
			between.freeze()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- stage.call(ctx, m) }()
			select {
			case <-between.stuck:
			case err := <-done:
				t.Fatalf("it returned %v, want it to wait for alice", err)
			}
			cancel()
			checkEnds(t, done)
			between.close() // the node need not wait for alice when it closes
		})
	}
}

func dialing(target string) func(context.Context, *Mesh) error {
	return func(ctx context.Context, m *Mesh) error {
		_, err := m.Dial(ctx, target)
		return err
	}
}

func pinging(member string) func(context.Context, *Mesh) error {
	return func(ctx context.Context, m *Mesh) error {
		_, _, err := m.Ping(ctx, member)
		return err
	}
}

func checkEnds(t testing.TB, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it returned %v, want %v", err, context.Canceled)
		}
	case <-time.After(patience):
		t.Errorf("it did not return within %v", patience)
	}
}

// blackHole accepts connections and says nothing on them. It sends each that
// it accepts.
func blackHole(t testing.TB) (multiaddr.Multiaddr, <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		close(accepted)
		for c := range accepted {
			c.Close()
		}
	})
	a, err := manet.FromNetAddr(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return a, accepted
}

func TestConnectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	bob := founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"})
	addr, accepted := blackHole(t)
	m := mustOpenAs(t, founder)
	if err := m.learn(memberCalled(peerOf(t, 3), "bob", now), bob.own, m.digest()); err != nil {
		t.Fatal(err)
	}
	m.node.Host().Peerstore().AddAddrs(peerOf(t, 3), []multiaddr.Multiaddr{addr}, time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- dialing("bob/web")(ctx, m) }()
	defer (<-accepted).Close()
	cancel()
	checkEnds(t, done)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.roster.entries[peerOf(t, 3)].silent {
		t.Error("a dial that was given up counts as one that was not answered")
	}
}

// Open and Join end with their ctx, too, and leave nothing behind.
func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	id := peerOf(t, 2)
	for _, tt := range []struct {
		name string
		open func(ctx context.Context, at multiaddr.Multiaddr, c Config) (*Mesh, error)
	}{
		{"Open", func(ctx context.Context, at multiaddr.Multiaddr, c Config) (*Mesh, error) {
			c.Bootstrap = []multiaddr.Multiaddr{multiaddr.Join(at, multiaddr.StringCast("/p2p/"+id.String()))}
			return Open(ctx, c)
		}},
		{"Join", func(ctx context.Context, at multiaddr.Multiaddr, c Config) (*Mesh, error) {
			return Join(ctx, inviteAt(t, founder, at).Text(), c)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, accepted := blackHole(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			dir := t.TempDir()
			done := make(chan error, 1)
			go func() {
				m, err := tt.open(ctx, addr, Config{Listen: loopback(), NoLocal: true, Dir: dir})
				if m != nil {
					m.Close()
				}
				done <- err
			}()
			defer (<-accepted).Close()
			cancel()
			checkEnds(t, done)
			openTestStore(t, dir) // which is free again
		})
	}
	t.Run("over already", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if m, err := Open(ctx, Config{Listen: loopback(), NoLocal: true}); m != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("Open = %v, %v, want %v", m, err, context.Canceled)
		}
	})
}
