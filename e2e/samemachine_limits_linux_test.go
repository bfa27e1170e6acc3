package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A stream never seems to end because the process at its other end died, and
// nothing of it is left.
func TestKilledDuringManyStreams(t *testing.T) {
	const streams = 1000
	for _, tt := range []struct {
		name           string
		killedAccepted bool // the streams, rather than having opened them
	}{
		{"who had accepted them", true},
		{"who had opened them", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := sharedDirectory(t, 0o700)
			left, killed := startProcess(t, "left", dir, placed{}), startProcess(t, "killed", dir, placed{})
			killed.join(left.found())
			checkReaches(t, left, killed)
			left.do(order{Do: "ends", Count: 1}) // that of the check
			before := left.state()
			opens, to := killed, "left/echo"
			if tt.killedAccepted {
				opens, to = left, "killed/echo"
			}
			if a := opens.do(order{Do: "open", Text: to, Count: streams}); a.Text != fmt.Sprint(streams) {
				t.Fatalf("%s streams are open, want %d", a.Text, streams)
			}
			if s := left.state(); s.Streams != streams {
				t.Fatalf("%d streams are open, want %d", s.Streams, streams)
			}
			at := killed.kill()
			checkBroken(t, left.do(order{Do: "ends", Count: streams}).Ends, streams, at)
			var after state
			await(t, "what the streams held is given back", func() bool {
				after = left.state()
				return after.Files <= before.Files && after.Goroutines <= before.Goroutines && after.Streams == 0
			})
			t.Logf("files %d before, %d after; goroutines %d before, %d after", before.Files, after.Files, before.Goroutines, after.Goroutines)
		})
	}
}

// checkBroken checks that streams ended with an error, soon after the kill.
func checkBroken(t testing.TB, ends []ending, want int, kill time.Time) {
	t.Helper()
	if len(ends) != want {
		t.Fatalf("%d streams ended, want %d", len(ends), want)
	}
	var took []time.Duration
	clean := 0
	for _, e := range ends {
		took = append(took, e.At.Sub(kill))
		if e.Err == cleanEnd {
			clean++
		}
	}
	slices.Sort(took)
	t.Logf("streams broke %v (median) and at most %v after the kill: %s", took[len(took)/2], took[len(took)-1], ends[0].Err)
	if clean > 0 || took[len(took)-1] > 5*time.Second {
		t.Errorf("%d streams ended as if the other end had closed them, the last after %v; want errors within 5s", clean, took[len(took)-1])
	}
}

// A process that is out of descriptors says so of each stream that it can't have.
// Those it has work, and when they are gone so do others.
func TestFewDescriptors(t *testing.T) {
	const limit, streams = 64, 100
	for _, tt := range []struct {
		name        string
		limitOpener bool
	}{
		{"at the end that opens streams", true},
		{"at the end that accepts them", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := sharedDirectory(t, 0o700)
			opener, other := startProcess(t, "opener", dir, placed{}), startProcess(t, "other", dir, placed{})
			limited := other
			if tt.limitOpener {
				limited = opener
			}
			limited.do(order{Do: "limit", Count: limit})
			opener.join(other.found())
			checkReaches(t, opener, other)
			other.do(order{Do: "ends", Count: 1})
			for range 2 { // the second time all is as it was
				a, err := opener.try(order{Do: "open", Text: "other/echo", Count: streams})
				var open int
				if _, scanErr := fmt.Sscan(a.Text, &open); scanErr != nil || open < 10 || open >= streams {
					t.Fatalf("%q streams are open with %d descriptors, want 10 to %d", a.Text, limit, streams-1)
				}
				if err == nil {
					t.Fatalf("%d of %d streams are open and there is no error", open, streams)
				}
				t.Logf("%d streams are open, then %s", open, firstLine(err))
				for line := range strings.Lines(err.Error()) {
					if !strings.Contains(line, "too many open files") && !strings.Contains(line, "resource limit") {
						t.Fatalf("error %q, want one that says what there is too little of", line)
					}
				}
				opener.do(order{Do: "reset"})
				opener.do(order{Do: "ends", Count: open})
				other.do(order{Do: "ends", Count: open})
				checkReaches(t, opener, other)
				other.do(order{Do: "ends", Count: 1})
				opener.do(order{Do: "ends", Count: 1})
			}
		})
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// The path of the directory may be longer than that of a socket.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(sharedDirectory(t, 0o700), strings.Repeat("long/", 40), "d")
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	alice, bob := startProcess(t, "alice", dir, placed{}), startProcess(t, "bob", dir, placed{})
	bob.join(alice.found())
	checkReaches(t, alice, bob)
}

// A node that can't have a socket in the directory that it was told of says why.
func TestFullDirectory(t *testing.T) {
	const full = "no space left on device"
	n := startProcess(t, "alice", sharedDirectory(t, 0o700), placed{namespaces: unix.CLONE_NEWNS})
	n.do(order{Do: "mount tmpfs", Text: "nr_inodes=2", At: n.dir})
	c := n.config()
	if _, err := n.try(order{Do: "start", Config: c}); err == nil || !strings.Contains(err.Error(), full) || !strings.Contains(err.Error(), n.dir) {
		t.Errorf("a node of this machine alone = %v, want %q of %s", err, full, n.dir)
	}
	c.LocalOnly = false
	if _, err := n.try(order{Do: "start", Config: c}); err == nil || !strings.Contains(err.Error(), full) {
		t.Errorf("a node that is told of the directory = %v, want %q", err, full)
	}
}

// A node whose socket was replaced makes another, says so, and is found by those
// who come later. What is in its place is left alone.
func TestReplacedSocket(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replace func(path, elsewhere string) error
	}{
		{"by a file", func(path, _ string) error { return os.WriteFile(path+"x", []byte("mine"), 0o600) }},
		{"by a link", func(path, elsewhere string) error { return os.Symlink(elsewhere, path+"x") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := sharedDirectory(t, 0o700)
			elsewhere := filepath.Join(sharedDirectory(t, 0o700), "file")
			if err := os.WriteFile(elsewhere, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			alice, bob := startProcess(t, "alice", dir, placed{}), startProcess(t, "bob", dir, placed{})
			invite := alice.found()
			sockets, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
			if err != nil || len(sockets) != 1 {
				t.Fatalf("the directory has %v, %v, want one socket", sockets, err)
			}
			if err := tt.replace(sockets[0], elsewhere); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(sockets[0]+"x", sockets[0]); err != nil {
				t.Fatal(err)
			}
			var s state
			await(t, "the socket is made again", func() bool { s = alice.state(); return s.Remade == 1 })
			if s.LocalError != "" || !strings.Contains(alice.log, "made again") {
				t.Errorf("Local = %q, the log is %q; want no error and that the socket is made again", s.LocalError, alice.log)
			}
			bob.join(invite)
			checkReaches(t, alice, bob)
			for _, path := range []string{sockets[0], elsewhere} {
				if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
					t.Errorf("%s has %q, %v, want it left alone", path, got, err)
				}
			}
		})
	}
}

// When a socket was handed over, the death of either process breaks the connection
// to the target off.
func TestKilledWithHandedOver(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, who := range []string{"the forwarding process", "the exposing process"} {
			t.Run(who+", target over "+network, func(t *testing.T) {
				dir, sockets := sharedDirectory(t, 0o700), sharedDirectory(t, 0o700)
				exposes, forwards := startProcess(t, "exposes", dir, placed{}), startProcess(t, "forwards", dir, placed{})
				forwards.join(exposes.found())
				l := listenFor(t, network, filepath.Join(sockets, "target"))
				at := l.Addr().String()
				if network == "unix" {
					at = "unix:" + at
				}
				exposes.do(order{Do: "expose", Text: "web", At: at})
				addr := forwards.do(order{Do: "forward", Text: "exposes/web", At: "127.0.0.1:0"}).Text
				client, target := connectThrough(t, addr, l)
				if n := sharedSockets(t, exposes, forwards); n != 1 {
					t.Fatalf("%d sockets are handed over, want 1", n)
				}
				killed := exposes
				if who == "the forwarding process" {
					killed = forwards
				}
				began := killed.kill()
				checkOver(t, "the target", target, began)
				if killed == exposes { // else the kernel closes the client's connection as if it had ended
					checkOver(t, "the client", client, began)
				}
			})
		}
	}
}

// A member that is revoked while it has a socket that was handed over loses it.
func TestRevokedWithHandedOver(t *testing.T) {
	dir := sharedDirectory(t, 0o700)
	exposes, forwards := startProcess(t, "exposes", dir, placed{}), startProcess(t, "forwards", dir, placed{})
	forwards.join(exposes.found())
	l := listenFor(t, "tcp", "")
	exposes.do(order{Do: "expose", Text: "web", At: l.Addr().String()})
	addr := forwards.do(order{Do: "forward", Text: "exposes/web", At: "127.0.0.1:0"}).Text
	client, target := connectThrough(t, addr, l)
	if n := sharedSockets(t, exposes, forwards); n != 1 {
		t.Fatalf("%d sockets are handed over, want 1", n)
	}
	began := time.Now()
	exposes.do(order{Do: "revoke", Text: "forwards"})
	checkOver(t, "the client", client, began)
	checkOver(t, "the target", target, began)
	if n := sharedSockets(t, exposes, forwards); n != 0 {
		t.Errorf("%d sockets are shared with the revoked, want none", n)
	}
}

func listenFor(t testing.TB, network, path string) net.Listener {
	t.Helper()
	if network == "tcp" {
		path = "127.0.0.1:0"
	}
	l, err := net.Listen(network, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// connectThrough returns both ends of a connection through a forward to a target,
// over which a byte went each way.
func connectThrough(t testing.TB, addr string, l net.Listener) (client, target net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if target, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	for _, c := range [][2]net.Conn{{client, target}, {target, client}} {
		_ = c[0].SetDeadline(time.Now().Add(patience))
		if _, err := c[0].Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c[1], make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return client, target
}

// checkOver checks that a connection has broken: that a TCP connection ends with an
// error, and a unix socket at all.
func checkOver(t testing.TB, who string, c net.Conn, began time.Time) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	t.Logf("%s: %d bytes, %v, after %v", who, n, err, time.Since(began))
	isTCP := c.LocalAddr().Network() == "tcp"
	if n > 0 || err == nil || isTCP && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s reads %d bytes, %v; want that the connection is broken off", who, n, err)
	}
}
