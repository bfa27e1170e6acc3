package daemon

import (
	"errors"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
)

// openIn runs the node of a directory.
func openIn(t testing.TB, dir string) *overlay.Mesh {
	t.Helper()
	local, err := os.MkdirTemp("", "d") // a socket's path must not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(local) })
	mesh, err := overlay.Open(testContext(t), overlay.Config{Dir: dir, Name: "alice", LocalDir: local, LocalOnly: true, NoLAN: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mesh.Close() })
	return mesh
}

// restored returns a daemon of the node of a directory that has begun again what it
// did, until the test ends.
func restored(t testing.TB, dir string) *Daemon {
	t.Helper()
	d := newDaemon(t.Context(), openIn(t, dir), Config{})
	t.Cleanup(func() { endDaemon(d) })
	if err := d.restore(); err != nil {
		t.Fatal(err)
	}
	return d
}

// endDaemon ends a daemon unless a test has done so.
func endDaemon(d *Daemon) {
	select {
	case <-d.down:
	default:
		d.close()
	}
}

func mustForward(t testing.TB, d *Daemon, want control.Forward) control.Forward {
	t.Helper()
	f, err := d.forward(want)
	if err != nil {
		t.Fatalf("forward(%+v) = %v", want, err)
	}
	return f
}

func mustExpose(t testing.TB, d *Daemon, want control.Exposed) control.Exposed {
	t.Helper()
	x, err := d.expose(want)
	if err != nil {
		t.Fatalf("expose(%+v) = %v", want, err)
	}
	return x
}

// canConnect tells whether somebody listens at an address. A forward to nobody may
// reset the connection before it has been made.
func canConnect(addr string) bool { return connectTo(addr) == nil }

func connectTo(addr string) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	c, err := net.Dial(network, addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// What a node exposes and forwards is as it was when the node is started anew, the
// rules and the ports that were chosen included; what was withdrawn stays away.
func TestServicesAndForwardsAreKept(t *testing.T) {
	dir := t.TempDir()
	sock, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sock)
	d := restored(t, dir)
	self := d.mesh.Self().ID.String()
	mustExpose(t, d, control.Exposed{Service: "web", Target: "3000"})
	mustExpose(t, d, control.Exposed{Service: "db", Target: "unix:/run/db", Allow: []control.Rule{{Rule: "role:admin"}, {Rule: "alice"}, {Rule: "carol"}}})
	mustExpose(t, d, control.Exposed{Service: "*", Target: "localhost:8000-8999", Allow: []control.Rule{{Rule: "alice"}}})
	mustExpose(t, d, control.Exposed{Service: "old", Target: "1"})
	if _, err := d.editAccess(control.Access{Service: "db", Deny: []control.Rule{{Rule: "carol"}}}); err != nil {
		t.Fatal(err)
	}
	mustForward(t, d, control.Forward{Listen: "0", Target: "bob/web", DirectOnly: true, WaitDirect: time.Second})
	mustForward(t, d, control.Forward{Listen: "localhost:0", Target: "/web", Plain: true})
	mustForward(t, d, control.Forward{Listen: "unix:" + sock + "/s", Target: "/db"})
	old := mustForward(t, d, control.Forward{Listen: "0", Target: "bob/old"})
	if err := errors.Join(d.unexpose("old"), d.unforward(old.Listen)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []control.Proxy{{Listen: "0", Others: true}, {Listen: "unix:" + sock + "/proxy"}} {
		if _, err := d.beginProxy(want); err != nil {
			t.Fatal(err)
		}
	}
	exposed, forwards, proxies := d.listExposed(), d.listForwards(), d.listProxies()
	if len(exposed) != 3 || len(forwards) != 3 || len(proxies) != 2 {
		t.Fatalf("there are %d services, %d forwards and %d proxies, want 3, 3 and 2", len(exposed), len(forwards), len(proxies))
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is what was restored
		d = restored(t, dir)
		if got := d.listExposed(); !slices.EqualFunc(got, exposed, sameExposed) {
			t.Errorf("exposed = %+v, want %+v", got, exposed)
		}
		if got := d.listForwards(); !reflect.DeepEqual(got, forwards) {
			t.Errorf("forwards = %+v, want %+v", got, forwards)
		}
		if got := d.listProxies(); !reflect.DeepEqual(got, proxies) {
			t.Errorf("proxies = %+v, want %+v", got, proxies)
		}
		for _, f := range forwards {
			if err := connectTo(f.Listen); err != nil {
				t.Errorf("connect to %s = %v", f.Listen, err)
			}
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
	if d = restored(t, dir); d.mesh.Self().ID.String() != self {
		t.Fatal("it is another node")
	}
}

func sameExposed(a, b control.Exposed) bool {
	return a.Service == b.Service && a.Target == b.Target && a.Down == b.Down && a.From == b.From &&
		slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny)
}

// takePort ends a node, and has another program listen where a forward of it did.
func takePort(t *testing.T, d *Daemon, f control.Forward) net.Listener {
	t.Helper()
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", f.Listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	return other
}

// A node whose port another program has at its start runs all the same, says so, and
// listens once the port is free.
func TestPortInUseAtRestart(t *testing.T) {
	dir := t.TempDir()
	d := restored(t, dir)
	taken := mustForward(t, d, control.Forward{Listen: "0", Target: "bob/web"})
	free := mustForward(t, d, control.Forward{Listen: "0", Target: "bob/db"})
	other := takePort(t, d, taken)
	d = restored(t, dir)
	at := func(listen string) control.Forward {
		for _, f := range d.listForwards() {
			if f.Listen == listen {
				return f
			}
		}
		t.Fatalf("there is no forward at %s", listen)
		return control.Forward{}
	}
	for range 2 {
		if f := at(taken.Listen); !strings.Contains(f.Down, syscall.EADDRINUSE.Error()) || f.Target != "bob/web" {
			t.Errorf("the forward at the port in use = %+v, want that it is down for that", f)
		}
		if f := at(free.Listen); f.Down != "" {
			t.Errorf("the other forward = %+v, want that it is there", f)
		}
		d.retry()
	}
	other.Close()
	d.retry()
	if f := at(taken.Listen); f.Down != "" || !canConnect(f.Listen) {
		t.Errorf("once the port is free the forward = %+v, want that it listens", f)
	}
}

// One that is down can be taken back, and is not begun again.
func TestUnforwardOfOneThatIsDown(t *testing.T) {
	dir := t.TempDir()
	d := restored(t, dir)
	f := mustForward(t, d, control.Forward{Listen: "0", Target: "bob/web"})
	other := takePort(t, d, f)
	d = restored(t, dir)
	if err := d.unforward(f.Listen); err != nil {
		t.Fatalf("unforward = %v", err)
	}
	other.Close()
	d.retry()
	if got := d.listForwards(); len(got) > 0 || canConnect(f.Listen) {
		t.Errorf("forwards = %+v, want none", got)
	}
}

// runRetry does it by itself.
func TestRetryGoesOn(t *testing.T) {
	dir := t.TempDir()
	d := restored(t, dir)
	f := mustForward(t, d, control.Forward{Listen: "0", Target: "bob/web"})
	other := takePort(t, d, f)
	s := serve(t, openIn(t, dir))
	if n, err := s.Status(testContext(t)); err != nil || len(n.Forwards) != 1 || n.Forwards[0].Down == "" {
		t.Fatalf("Status = %+v, %v, want a forward that is down", n.Forwards, err)
	}
	other.Close()
	for ctx := testContext(t); !canConnect(f.Listen); {
		if ctx.Err() != nil {
			t.Fatalf("nobody listens at %s after %v", f.Listen, patience)
		}
	}
}

// A hundred forwards and services are there before it is said that the node is ready.
func TestAllIsThereWhenReady(t *testing.T) {
	const n = 100
	dir := t.TempDir()
	sock, err := os.MkdirTemp("", "d") // of a hundred ports another program may come to have one
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sock)
	d := restored(t, dir)
	var wants []control.Forward
	for i := range n {
		wants = append(wants, control.Forward{Listen: "unix:" + sock + "/" + strconv.Itoa(i), Target: "bob/" + strconv.Itoa(i)})
		mustExpose(t, d, control.Exposed{Service: "s" + strconv.Itoa(i), Target: "3000"})
	}
	made, err := d.forwardAll(wants)
	if err != nil || len(made) != n {
		t.Fatalf("forwardAll = %d forwards, %v, want %d", len(made), err, n)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	mesh := openIn(t, dir)
	d = newDaemon(t.Context(), mesh, Config{})
	t.Cleanup(func() { endDaemon(d) })
	began := time.Now()
	err = d.begin(Config{Ready: func() error {
		took := time.Since(began)
		if t.Logf("%d services and %d forwards took %v", n, n, took); took > time.Second {
			t.Errorf("they took %v, want at most 1s", took)
		}
		for _, f := range made {
			if !canConnect(f.Listen) {
				t.Errorf("nobody listens at %s", f.Listen)
			}
		}
		if got := len(mesh.Services()); got != n {
			t.Errorf("%d services are offered, want %d", got, n)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// Several forwards are there or none, and none is kept that was not made.
func TestForwardAllOrNone(t *testing.T) {
	dir := t.TempDir()
	d := restored(t, dir)
	port := freePort(t)
	for _, tt := range []struct {
		name  string
		wants []control.Forward
		err   string
	}{
		{"bad target", []control.Forward{{Listen: port, Target: "bob/web"}, {Listen: "0", Target: "web"}}, "forward 0 to web: "},
		{"bad address", []control.Forward{{Listen: port, Target: "bob/web"}, {Listen: "99999", Target: "/web"}}, "forward 99999 to /web: "},
		{"one address twice", []control.Forward{{Listen: port, Target: "bob/web"}, {Listen: port, Target: "/web"}}, "forward " + port + " to /web: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := d.forwardAll(tt.wants); err == nil || !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("forwardAll = %v, want %q and why", err, tt.err)
			}
			kept, err := d.mesh.Kept()
			if len(d.listForwards()) > 0 || len(kept) > 0 || err != nil || canConnect("127.0.0.1:"+port) {
				t.Errorf("there are %+v, kept %q, %v, want none", d.listForwards(), kept, err)
			}
		})
	}
	if made, err := d.forwardAll([]control.Forward{{Listen: port, Target: "bob/web"}, {Listen: "0", Target: "/web"}}); err != nil || len(made) != 2 {
		t.Errorf("forwardAll = %+v, %v, want two", made, err)
	}
}
