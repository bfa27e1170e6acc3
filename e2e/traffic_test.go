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
	"strings"
	"syscall"
	"testing"
	"time"
)

// startPair starts two nodes: alice exposes an address as web, and bob has a
// forward to it.
func startPair(t *testing.T, target string) (alice *node, forward string) {
	alice = newNode(t, "alice").up()
	alice.run("expose", "web", target)
	bob := newNode(t, "bob").join(alice.invite())
	return alice, bob.forward("alice/web")
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

// ssh and rsync are what people use such a thing for.
func TestSSHAndRsyncThroughForward(t *testing.T) {
	needs(t, "ssh", "ssh-keygen", "rsync")
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(sshd); err != nil {
		skip(t, "sshd is not installed")
	}
	server, key := startSSHD(t, sshd)
	_, forward := startPair(t, server)
	options := []string{"-i", key, "-p", port(forward), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"}

	cmd := exec.CommandContext(testContext(t), "ssh", append(options, "127.0.0.1", "cat; echo done")...)
	cmd.Stdin = strings.NewReader("through the mesh\n")
	if out, err := cmd.Output(); err != nil || string(out) != "through the mesh\ndone\n" {
		t.Errorf("ssh = %q, %v", out, err)
	}

	src, dst := t.TempDir(), t.TempDir()
	for i := range 20 {
		writeRandom(t, filepath.Join(src, fmt.Sprint("f", i)), 1<<18)
	}
	sync := exec.CommandContext(testContext(t), "rsync", "-a", "-e", "ssh "+strings.Join(options, " "), src+"/", "127.0.0.1:"+dst+"/")
	if out, err := sync.CombinedOutput(); err != nil {
		t.Fatalf("rsync: %v: %s", err, out)
	}
	if out, err := exec.Command("diff", "-r", src, dst).CombinedOutput(); err != nil {
		t.Errorf("diff of what rsync copied: %v: %s", err, out)
	}
}

// startSSHD runs an sshd of the test's own.
func startSSHD(t *testing.T, sshd string) (addr, key string) {
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
	startServer(t, exec.Command(sshd, "-D", "-e", "-f", config), addr)
	return addr, key
}

// startServer runs a server until the test ends, and waits until it listens.
func startServer(t *testing.T, cmd *exec.Cmd, addr string) {
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
	for ctx := testContext(t); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %v: %s", cmd.Path, err, stderr.Bytes())
		case <-ctx.Done():
			t.Fatalf("%s does not listen at %s: %s", cmd.Path, addr, stderr.Bytes())
		case <-time.After(5 * time.Millisecond): // another program says it in no better way
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

// answerAfterEnd serves connections each of which is answered only once the
// client has ended its side.
func answerAfterEnd(t *testing.T) string {
	return serve(t, func(c *net.TCPConn) {
		data, err := io.ReadAll(c)
		if err == nil {
			fmt.Fprintf(c, "got %s", data)
		}
	})
}

// serve handles each connection at a local port.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
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

func TestClientEndsFirst(t *testing.T) {
	_, forward := startPair(t, answerAfterEnd(t))
	c := dialTCP(t, forward)
	if _, err := io.WriteString(c, "ping"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "got ping" {
		t.Errorf("answer = %q, %v, want %q", got, err, "got ping")
	}
}

func TestNetcatEndsFirst(t *testing.T) {
	needs(t, "nc")
	_, forward := startPair(t, answerAfterEnd(t))
	nc := exec.CommandContext(testContext(t), "nc", "-N", "127.0.0.1", port(forward))
	nc.Stdin = strings.NewReader("ping")
	if out, err := nc.Output(); err != nil || string(out) != "got ping" {
		t.Errorf("printf ping | nc -N = %q, %v, want %q", out, err, "got ping")
	}
}

func TestServerEndsFirst(t *testing.T) {
	received := make(chan string, 1)
	server := serve(t, func(c *net.TCPConn) {
		if c.CloseWrite() == nil {
			data, _ := io.ReadAll(c)
			received <- string(data)
		}
	})
	_, forward := startPair(t, server)
	c := dialTCP(t, forward)
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Fatalf("read of what the server has ended = %q, %v, want an end", got, err)
	}
	if _, err := io.WriteString(c, "still here"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-received:
		if got != "still here" {
			t.Errorf("the server read %q, want %q", got, "still here")
		}
	case <-testContext(t).Done():
		t.Error("the server never saw the client's end")
	}
}

// A reset is not an end: who is reset must not take what came so far for all.
func TestResetArrivesAsReset(t *testing.T) {
	t.Run("by the server", func(t *testing.T) {
		server := serve(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 4))
			_ = c.SetLinger(0)
		})
		_, forward := startPair(t, server)
		c := dialTCP(t, forward)
		if _, err := io.WriteString(c, "ping"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read after the server's reset = %v, want %v", err, syscall.ECONNRESET)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		seen := make(chan error, 1)
		server := serve(t, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "pong")
			_, err := io.Copy(io.Discard, c)
			seen <- err
		})
		_, forward := startPair(t, server)
		c := dialTCP(t, forward)
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-seen:
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server's read after the client's reset = %v, want %v", err, syscall.ECONNRESET)
			}
		case <-testContext(t).Done():
			t.Error("the server never saw the client's reset")
		}
	})
	t.Run("by a target that is not there", func(t *testing.T) {
		_, forward := startPair(t, freePort(t))
		c, err := net.Dial("tcp", forward)
		if err == nil { // the reset may already be there
			defer c.Close()
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("connect and read = %v, want %v", err, syscall.ECONNRESET)
		}
	})
}
