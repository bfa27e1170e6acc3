package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"github.com/p2pnode/p2pnode/p2p"
)

// ask dials a target and returns what is read there.
func ask(t testing.TB, m *overlay.Mesh, target string) (string, error) {
	t.Helper()
	c, err := m.Dial(testContext(t), target)
	if err != nil {
		return "", err
	}
	defer c.Close()
	answer, err := io.ReadAll(c)
	return string(answer), err
}

func checkAnswer(t testing.TB, m *overlay.Mesh, target, want string) {
	t.Helper()
	if got, err := ask(t, m, target); err != nil || got != want {
		t.Errorf("%s dials %s and reads %q, %v, want %q", m.Self().Name, target, got, err, want)
	}
}

func TestDial(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 3)
	for i, m := range nodes {
		serveName(t, m, "name")
		if i == 1 {
			await(t, "the service can be found", serveName(t, m, "single").Found())
		}
	}
	waitAll(t, nodes...)
	for i, from := range nodes {
		for j, to := range nodes {
			checkAnswer(t, from, fmt.Sprintf("node%d/name", j), fmt.Sprint("node", j))
			checkAnswer(t, from, to.Self().ID.String()+"/name", fmt.Sprint("node", j))
		}
		checkAnswer(t, from, "/single", "node1")
		checkAnswer(t, from, "/name", fmt.Sprint("node", i)) // nobody is nearer than oneself
	}
}

func TestConn(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	for _, tt := range []struct {
		name     string
		from, to *overlay.Mesh
		path     func(p2p.Path) bool
	}{
		{"to another", bob, alice, func(p p2p.Path) bool { return p == p2p.PathLAN }},
		{"to oneself", alice, alice, func(p p2p.Path) bool { return p == p2p.PathSelf }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := listen(t, tt.to, "web")
			near, err := tt.from.Dial(testContext(t), "alice/web")
			if err != nil {
				t.Fatal(err)
			}
			defer near.Close()
			far, err := l.AcceptConn()
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			for _, end := range []struct {
				name          string
				conn          *overlay.Conn
				peer          *overlay.Mesh
				local, remote string
			}{
				{"dialer's end", near, tt.to, tt.from.Self().Name + "/", "alice/web"},
				{"listener's end", far, tt.from, "alice/web", tt.from.Self().Name + "/"},
			} {
				if p := end.conn.Peer(); p.ID != end.peer.Self().ID || p.Name != end.peer.Self().Name || p.Roles != end.peer.Self().Roles {
					t.Errorf("%s: Peer() = %+v, want %+v", end.name, p, end.peer.Self())
				}
				if got := end.conn.LocalAddr().String(); got != end.local {
					t.Errorf("%s: LocalAddr() = %s, want %s", end.name, got, end.local)
				}
				if got := end.conn.RemoteAddr().String(); got != end.remote || end.conn.RemoteAddr().Network() != "mesh" {
					t.Errorf("%s: RemoteAddr() = %s, want %s", end.name, got, end.remote)
				}
				if end.conn.Service() != "web" || !tt.path(end.conn.Path()) {
					t.Errorf("%s: Service() = %s, Path() = %v", end.name, end.conn.Service(), end.conn.Path())
				}
			}
			checkBothWays(t, near, far)
		})
	}
}

// checkBothWays sees that each end reads what the other writes, up to its end.
func checkBothWays(t testing.TB, a, b *overlay.Conn) {
	t.Helper()
	for _, way := range [][2]*overlay.Conn{{a, b}, {b, a}} {
		if _, err := io.WriteString(way[0], "word"); err != nil {
			t.Fatal(err)
		}
		if err := way[0].CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(way[1]); err != nil || string(got) != "word" {
			t.Errorf("the other end reads %q, %v, want %q", got, err, "word")
		}
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	stranger := overlaytest.New(t, 1)[0].Self().ID
	listen(t, alice, "web")
	for _, tt := range []struct {
		name, target string
		want         error
		says         string
	}{
		{"no target", "alice", overlay.ErrBadTarget, `dial: not a target: "alice"`},
		{"unknown name", "carol/web", overlay.ErrUnknownMember, "dial carol/web: no such member: carol"},
		{"unknown ID", stranger.String() + "/web", overlay.ErrUnknownMember, "no known address"},
		{"no such service", "alice/ssh", overlay.ErrNoService, "dial alice/ssh: no such service"},
		{"no such service of one's own", "bob/ssh", overlay.ErrNoService, "dial bob/ssh: no such service"},
		{"nobody offers it", "/ssh", overlay.ErrNoProvider, "dial /ssh: no member offers the service"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := bob.Dial(testContext(t), tt.target)
			if c != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Dial(%s) = %v, %v, want %v, saying %q", tt.target, c, err, tt.want, tt.says)
			}
			if conn, err := bob.DialContext(testContext(t), "tcp", tt.target); conn != nil || err == nil {
				t.Errorf("DialContext(%s) = %v, %v, want nothing and an error", tt.target, conn, err)
			}
		})
	}
}

// A member that is gone is known, and the error says where it was looked for.
func TestDialMemberThatIsAway(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	waitAll(t, alice, bob)
	id, addr := bob.Self().ID, bob.Addrs()[0].String()
	bob.Close()
	waitUp(t, alice, id, false)
	for _, target := range []string{"bob/web", id.String() + "/web"} {
		_, err := alice.Dial(testContext(t), target)
		var dial *p2p.DialError
		if !errors.As(err, &dial) || dial.Peer != id || errors.Is(err, overlay.ErrUnknownMember) {
			t.Fatalf("Dial(%s) = %v, want a DialError about bob", target, err)
		}
		if !strings.Contains(err.Error(), addr) {
			t.Errorf("Dial(%s) = %v, want it to name %s", target, err, addr)
		}
	}
	if _, _, err := alice.Ping(testContext(t), "bob"); err == nil {
		t.Error("Ping of a member that is gone = nil, want an error")
	}
}

func TestDialAmbiguousName(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	twin := join(t, invite(t, alice, overlay.InviteOptions{}), overlay.Config{Name: "bob"})
	waitAll(t, alice, bob, twin)
	for _, m := range []*overlay.Mesh{bob, twin} {
		serveName(t, m, "name")
	}
	ids := []peer.ID{bob.Self().ID, twin.Self().ID}
	slices.Sort(ids)
	for _, from := range []*overlay.Mesh{alice, bob} { // who is one of them can't tell either
		_, err := from.Dial(testContext(t), "bob/name")
		var ambiguous *overlay.AmbiguousError
		if !errors.As(err, &ambiguous) || ambiguous.Name != "bob" {
			t.Fatalf("Dial = %v, want an AmbiguousError about bob", err)
		}
		got := slices.Sorted(slices.Values(ambiguous.IDs))
		if !slices.Equal(got, ids) || !strings.Contains(err.Error(), "2 members are named bob: ") {
			t.Errorf("Dial = %v, want it to name %v", err, ids)
		}
	}
	checkAnswer(t, alice, twin.Self().ID.String()+"/name", "bob")
	named := 0
	for _, m := range alice.Members() {
		if m.Name == "bob" {
			named++
		}
	}
	if named != 2 {
		t.Errorf("Members() has %d named bob, want both", named)
	}
	twin.Close()
	waitUp(t, alice, twin.Self().ID, false)
	checkAnswer(t, alice, "bob/name", "bob") // the one that is up
}

func TestDialContextWithHTTP(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	l := listen(t, alice, "web")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s", r.Host, r.RemoteAddr)
	})}
	go server.Serve(l)
	defer server.Close()
	await(t, "the service can be found", l.Found())
	for _, tt := range []struct{ url, want string }{
		{"http://web.alice.mesh/", "web.alice.mesh from bob/"},
		{"http://web.mesh:8080/", "web.mesh:8080 from bob/"},
	} {
		t.Run(tt.url, func(t *testing.T) {
			transport := &http.Transport{DialContext: bob.DialContext}
			defer transport.CloseIdleConnections()
			response, err := (&http.Client{Transport: transport}).Get(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || string(body) != tt.want {
				t.Errorf("Get(%s) = %q, %v, want %q", tt.url, body, err, tt.want)
			}
		})
	}
	transport := &http.Transport{DialContext: bob.DialContext}
	_, err := (&http.Client{Transport: transport}).Get("http://example.com/")
	checkIs(t, "Get of a host outside the mesh", err, overlay.ErrBadTarget)
}

func TestPing(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	for _, member := range []string{"alice", alice.Self().ID.String()} {
		rtt, path, err := bob.Ping(testContext(t), member)
		if err != nil || rtt <= 0 || path != p2p.PathLAN {
			t.Errorf("Ping(%s) = %v, %v, %v, want a time over the LAN", member, rtt, path, err)
		}
	}
	if rtt, path, err := bob.Ping(testContext(t), "bob"); err != nil || rtt != 0 || path != p2p.PathSelf {
		t.Errorf("Ping of oneself = %v, %v, %v, want no time and the path to oneself", rtt, path, err)
	}
	for _, member := range []string{"", "carol", "Carol", "a/b", "/"} {
		_, _, err := bob.Ping(testContext(t), member)
		checkIs(t, fmt.Sprintf("Ping(%q)", member), err, overlay.ErrUnknownMember)
	}
}

// Many dial and hang up at once, each in its own way.
func TestManyDialsAtOnce(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 3)
	for _, m := range nodes {
		serveName(t, m, "name")
	}
	waitAll(t, nodes...)
	const workers, dials = 24, 20
	errs := make(chan error, workers)
	for w := range workers {
		go func() { errs <- dialOften(nodes[w%3], w, dials) }()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func dialOften(m *overlay.Mesh, seed, dials int) error {
	for n := range dials {
		target := fmt.Sprintf("node%d", (seed+n)%3)
		c, err := m.Dial(context.Background(), target+"/name")
		if err != nil {
			return err
		}
		switch n % 3 {
		case 0:
			c.Close()
		case 1:
			c.Reset()
		default:
			got, err := io.ReadAll(c)
			c.Close()
			if err != nil || string(got) != target {
				return fmt.Errorf("%s reads %q, %w", target, got, err)
			}
		}
	}
	return nil
}
