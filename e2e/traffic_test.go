package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// startPair starts two nodes: alice exposes an address as web, and bob has a
// forward to it.
func startPair(t *testing.T, target string) (bob *node, forward string) {
	alice := newNode(t, "alice").up()
	alice.run("expose", "web", target)
	bob = newNode(t, "bob").join(alice.invite())
	return bob, bob.forward("alice/web")
}

func TestDownloadThroughForward(t *testing.T) {
	needs(t, "python3", "curl")
	size := int64(1 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	dir := t.TempDir()
	want := writeRandom(t, filepath.Join(dir, "file"), size)
	server := freePort(t)
	web := exec.Command("python3", "-m", "http.server", port(server), "--bind", "127.0.0.1", "--directory", dir)
	startServer(t, web, server)
	_, forward := startPair(t, server)

	out := filepath.Join(dir, "copy")
	if msg, err := exec.CommandContext(testContext(t), "curl", "-sSf", "-o", out, "http://"+forward+"/file").CombinedOutput(); err != nil {
		t.Fatalf("curl: %v: %s", err, msg)
	}
	if got := hashFile(t, out); got != want {
		t.Errorf("sha256 of what came through the forward = %s, want %s", got, want)
	}
}

// startSSHD runs an sshd of the test's own, on this machine or one of a lab.
func startSSHD(t *testing.T, h *lab.Host) (addr, key string) {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(sshd); err != nil {
		skip(t, "sshd is not installed")
	}
	dir := t.TempDir()
	key = filepath.Join(dir, "key")
	for _, k := range []string{key, filepath.Join(dir, "host")} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", k).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	if os.Getuid() == 0 { // sshd wants it for separation of privileges
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	addr = freePort(t)
	config := filepath.Join(dir, "config")
	text := fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nPidFile none\nUsePAM no\n",
		addr, filepath.Join(dir, "host"), key+".pub")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-D", "-e", "-f", config}
	if h == nil {
		startServer(t, exec.Command(sshd, args...), addr)
	} else {
		startServerAt(t, h, h.Command(context.Background(), sshd, args...), addr)
	}
	return addr, key
}

// startServer runs a server until the test ends, and waits until it listens.
func startServer(t *testing.T, cmd *exec.Cmd, addr string) {
	t.Helper()
	awaitServer(t, cmd, addr, func(try func() error) error { return try() })
}

// startServerAt is startServer on a machine of a lab.
func startServerAt(t *testing.T, h *lab.Host, cmd *exec.Cmd, addr string) {
	t.Helper()
	awaitServer(t, cmd, addr, h.Do)
}

func awaitServer(t *testing.T, cmd *exec.Cmd, addr string, do func(func() error) error) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	await(t, cmd.Path+" listens at "+addr, func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %v: %s", cmd.Path, err, stderr.Bytes())
		default:
		}
		return do(func() error {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err
		}) == nil
	})
}

// await asks again and again until something is so: for what other programs do
// and tell nobody.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

func writeRandom(t testing.TB, path string, size int64) (sum string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, h), rand.Reader, size)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashFile(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// serve handles each connection at a local port.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handleEach(t, l, func(c net.Conn) { handle(c.(*net.TCPConn)) })
	return l.Addr().String()
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(testContext(t), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	context.AfterFunc(testContext(t), func() { c.Close() })
	return c.(*net.TCPConn)
}
