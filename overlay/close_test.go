package overlay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"go.uber.org/goleak"
)

// checkClosed sees that all that can fail says that the mesh is closed, and
// that the rest still answers.
func checkClosed(t testing.TB, m *overlay.Mesh) {
	t.Helper()
	ctx := testContext(t)
	for _, tt := range []struct {
		name string
		call func() error
	}{
		{"Dial of a member", func() error { _, err := m.Dial(ctx, "alice/web"); return err }},
		{"Dial of nobody", func() error { _, err := m.Dial(ctx, "nobody/web"); return err }},
		{"Dial of the nearest", func() error { _, err := m.Dial(ctx, "/web"); return err }},
		{"Dial of oneself", func() error { _, err := m.Dial(ctx, m.Self().Name+"/web"); return err }},
		{"Dial by ID", func() error { _, err := m.Dial(ctx, m.Self().ID.String()+"/web"); return err }},
		{"DialContext", func() error { _, err := m.DialContext(ctx, "tcp", "web.alice.mesh:80"); return err }},
		{"Listen", func() error { _, err := m.Listen("web"); return err }},
		{"Invite", func() error { _, err := m.Invite(overlay.InviteOptions{}); return err }},
		{"Ping", func() error { _, _, err := m.Ping(ctx, "alice"); return err }},
		{"Ping of nobody", func() error { _, _, err := m.Ping(ctx, "nobody"); return err }},
	} {
		err := tt.call()
		if !errors.Is(err, overlay.ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close = %v, want %v", tt.name, err, overlay.ErrClosed)
		}
	}
	for range m.Watch(ctx) { // ends by itself
	}
	if len(m.Members()) == 0 || len(m.Services()) != 0 || m.Self().Name == "" {
		t.Errorf("after Close there are %d members and the services %v, want members and none", len(m.Members()), m.Services())
	}
	m.Addrs()
	if err := m.Close(); err != nil {
		t.Errorf("Close again = %v, want nil", err)
	}
}

// Nothing that a mesh has started is left when it is closed. This test is not
// parallel: others start goroutines, too.
func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	alice, bob := newPair(t)
	l := listen(t, alice, "web")
	near, err := bob.Dial(testContext(t), "alice/web")
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*overlay.Mesh{bob, alice} {
		if err := m.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
		checkClosed(t, m)
	}
	for _, c := range []*overlay.Conn{near, far} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("Read of a stream after Close = %d bytes, %v, want an error that is no end", n, err)
		}
		c.Close()
	}
	_, err = l.Accept()
	checkIs(t, "Accept after Close of the mesh", err, net.ErrClosed)
	goleak.VerifyNone(t, before)
}

// Close may come at any time, several times at once.
func TestCloseAtAnyTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// busy keeps m busy until it is closed, and says when it has begun.
		busy func(m *overlay.Mesh, begun func()) error
		want error // of busy
	}{
		{"dialing", func(m *overlay.Mesh, begun func()) error {
			for {
				c, err := m.Dial(context.Background(), "node0/name")
				if err != nil {
					return err
				}
				begun()
				c.Close()
			}
		}, overlay.ErrClosed},
		{"looking for a name", func(m *overlay.Mesh, begun func()) error {
			for {
				_, err := m.Dial(context.Background(), "nobody/web")
				if !errors.Is(err, overlay.ErrUnknownMember) {
					return err
				}
				begun()
			}
		}, overlay.ErrClosed},
		{"looking for a service", func(m *overlay.Mesh, begun func()) error {
			for {
				_, err := m.Dial(context.Background(), "/nothing")
				if !errors.Is(err, overlay.ErrNoProvider) {
					return err
				}
				begun()
			}
		}, overlay.ErrClosed},
		{"pinging", func(m *overlay.Mesh, begun func()) error {
			for {
				if _, _, err := m.Ping(context.Background(), "node0"); err != nil {
					return err
				}
				begun()
			}
		}, overlay.ErrClosed},
		{"offering services", func(m *overlay.Mesh, begun func()) error {
			for {
				l, err := m.Listen("web")
				if err != nil {
					return err
				}
				begun()
				l.Close()
			}
		}, overlay.ErrClosed},
		{"accepting", func(m *overlay.Mesh, begun func()) error {
			l, err := m.Listen("web")
			if err != nil {
				return err
			}
			begun()
			for {
				c, err := l.Accept()
				if err != nil {
					return err // which is the listener's
				}
				c.Close()
			}
		}, net.ErrClosed},
		{"reading", func(m *overlay.Mesh, begun func()) error {
			c, err := m.Dial(context.Background(), "node0/silence")
			if err != nil {
				return err
			}
			begun()
			if _, err := io.Copy(io.Discard, c); err == nil {
				return errors.New("the stream ended as if the other end had closed it")
			}
			return overlay.ErrClosed
		}, overlay.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			nodes := overlaytest.New(t, 2)
			serveName(t, nodes[0], "name")
			listen(t, nodes[0], "silence")
			begun := make(chan struct{})
			done := make(chan error, 1)
			go func() { done <- tt.busy(nodes[1], sync.OnceFunc(func() { close(begun) })) }()
			await(t, "it has begun", begun)
			var closers sync.WaitGroup
			for range 3 {
				closers.Go(func() {
					if err := nodes[1].Close(); err != nil {
						t.Errorf("Close = %v, want nil", err)
					}
				})
			}
			closed := make(chan struct{})
			go func() { closers.Wait(); close(closed) }()
			await(t, "Close returns", closed)
			checkIs(t, tt.name+" during Close", <-done, tt.want)
		})
	}
}

// Whoever handles a stream may close the mesh.
func TestCloseFromAHandler(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	l := listen(t, alice, "stop")
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		c, err := l.AcceptConn()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if err := alice.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	}()
	c, err := bob.Dial(testContext(t), "alice/stop")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	await(t, "Close returns", closed)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("Read after the other mesh is closed = %d bytes, %v, want an error", n, err)
	}
	checkClosed(t, alice)
}

// So may whoever watches the members.
func TestCloseFromAWatcher(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	for range alice.Watch(testContext(t)) {
		if err := alice.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	}
	checkClosed(t, alice)
}

// The member that lets others in goes while they join: each gets in or is told
// that nobody was reached, and leaves nothing behind.
func TestCloseDuringJoin(t *testing.T) {
	t.Parallel()
	for range 3 {
		alice := open(t, overlay.Config{Name: "alice"})
		text := invite(t, alice, overlay.InviteOptions{})
		const joiners = 4
		var started sync.WaitGroup
		started.Add(joiners)
		done := make(chan error, joiners)
		for range joiners {
			go func() {
				started.Done()
				m, err := overlay.Join(testContext(t), text, onLoopback(overlay.Config{}))
				if err == nil {
					err = m.Close()
				}
				done <- err
			}()
		}
		started.Wait()
		if err := alice.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
		for range joiners {
			if err := <-done; err != nil && !errors.Is(err, overlay.ErrNoMemberReached) {
				t.Errorf("Join while the member goes = %v, want nil or %v", err, overlay.ErrNoMemberReached)
			}
		}
	}
}
