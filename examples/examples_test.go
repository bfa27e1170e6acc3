package examples_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestEcho(t *testing.T) {
	alice := start(t, "echo")
	invite := alice.invite()

	bob := start(t, "echo", invite)
	bob.send("hello\nworld\n")
	bob.expect(`^hello$`)
	bob.expect(`^world$`)
	bob.endInput()
	alice.expect(`^12 bytes echoed to \S+, path \w+$`)

	carol := start(t, "echo", invite)
	carol.send("hello\n")
	carol.expect(`^hello$`)
	carol.interrupt()
	alice.interrupt()
}

func TestChat(t *testing.T) {
	alice := start(t, "chat", "-name", "alice")
	invite := alice.invite()
	bob := start(t, "chat", "-name", "bob", invite)
	carol := start(t, "chat", "-name", "carol", invite)
	for _, p := range []*program{alice, bob, carol} {
		p.expect(`^\* here: alice bob carol$`)
	}

	alice.send("hello\nis it raining?\n")
	for _, p := range []*program{bob, carol} {
		p.expect(`^alice: hello$`)
		p.expect(`^alice: is it raining\?$`)
	}
	carol.send("it is\n")
	alice.expect(`^carol: it is$`)
	bob.expect(`^carol: it is$`)

	alice.endInput() // the founder; the others go on without it
	bob.expect(`^\* here: bob carol$`)
	carol.expect(`^\* here: bob carol$`)
	bob.send("so we are two\n")
	carol.expect(`^bob: so we are two$`)
	carol.interrupt()
	bob.expect(`^\* here: bob$`)
	bob.interrupt()
}

func TestHTTP(t *testing.T) {
	alice := start(t, "http")
	invite := alice.invite()
	for range 2 {
		bob := start(t, "http", invite)
		name := bob.expect(`^Hello (\S+), this is web\.alice\.mesh\.$`)[1]
		bob.wait()
		alice.expect(`^GET / for ` + regexp.QuoteMeta(name) + `, path \w+$`)
	}
	alice.interrupt()
}

func TestGRPC(t *testing.T) {
	alice := start(t, "grpc")
	bob := start(t, "grpc", alice.invite())
	bob.expect(`^called: SERVING$`)
	bob.expect(`^watched: SERVING$`)
	alice.interrupt()
	bob.expect(`^gone$`)
	bob.wait()
}

func TestRedis(t *testing.T) {
	alice := start(t, "redis", "-at", startRedis(t))
	invite := alice.invite()
	for visit := range 2 {
		bob := start(t, "redis", invite)
		bob.expect(fmt.Sprintf(`^visit %d, by \S+$`, visit+1))
		bob.wait()
	}
	alice.interrupt()
}

// startRedis starts a Redis server that keeps nothing, and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	dir, err := os.MkdirTemp("", "r") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	server := exec.Command(path, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	said := bufio.NewScanner(out)
	for said.Scan() {
		if strings.Contains(strings.ToLower(said.Text()), "ready to accept connections") {
			go io.Copy(io.Discard, out) // or it would wait for a reader
			return "unix:" + socket
		}
	}
	t.Fatal("redis-server ended before it was ready")
	return ""
}

func TestDrop(t *testing.T) {
	dir := t.TempDir()
	alice := startIn(t, dir, "drop")
	invite := alice.invite()
	sent := strings.Repeat("all of it ", 100_000)
	bob := start(t, "drop", invite)
	bob.send(sent)
	bob.endInput()
	if said := bob.seen.String(); said != "1000000 bytes kept\n" {
		t.Errorf("drop prints %q, want 1000000 bytes kept", said)
	}
	kept := alice.expect(`^\./?(\S+): 1000000 bytes, path \w+$`)[1]
	if got, err := os.ReadFile(filepath.Join(dir, kept)); err != nil || string(got) != sent {
		t.Errorf("%s has %d bytes, %v, want the %d that were sent", kept, len(got), err, len(sent))
	}
	alice.interrupt()
}

// Both workers do jobs, and what one of them leaves undone is done by the other.
func TestWorker(t *testing.T) {
	boss := start(t, "worker")
	invite := boss.invite()
	leaver := start(t, "worker", invite)
	leaver.expect(`^counting .* for boss$`)
	done := boss.expect(answer)
	stayer := start(t, "worker", invite)
	stayer.expect(`^counting .* for boss$`)
	leaver.interrupt()

	jobs := map[string]bool{}
	names := map[string]bool{}
	for ; ; done = boss.expect(answer) {
		checkDigits(t, done[1], done[2])
		jobs[done[1]] = true
		names[done[3]] = true
		if len(jobs) == 20 {
			break
		}
	}
	boss.wait()
	if len(names) != 2 {
		t.Errorf("the jobs were done by %v, want two workers", names)
	}
	stayer.interrupt()
}

const answer = `^(\d+)! has (\d+) digits, says (\S+)$`

func checkDigits(t *testing.T, number, digits string) {
	t.Helper()
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	log, _ := math.Lgamma(float64(n) + 1)
	if want := strconv.Itoa(int(log/math.Ln10) + 1); digits != want {
		t.Errorf("%s! has %s digits by the workers, want %s", number, digits, want)
	}
}

// A founder that nobody joins ends as well.
func TestInterruptAlone(t *testing.T) {
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			p := start(t, name)
			p.invite()
			p.interrupt()
		})
	}
}

func TestBadInvite(t *testing.T) {
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), filepath.Join(programs, name), "p2pnode1nonsense").CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("%s with a bad invite = %v, want exit code 1", name, err)
			}
			if want := name + ": join: "; !strings.HasPrefix(string(out), want) || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%s with a bad invite prints %q, want one line that begins %q", name, out, want)
			}
		})
	}
}
