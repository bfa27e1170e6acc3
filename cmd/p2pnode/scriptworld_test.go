package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/rogpeppe/go-internal/testscript"
)

// servers are what may be behind a service, by kind. Each has a connection
// until it returns; over is closed when the script ends.
var servers = map[string]func(c net.Conn, over <-chan struct{}){
	// answers what it was sent, but only when the client has ended its side
	"echo": func(c net.Conn, _ <-chan struct{}) {
		if data, err := io.ReadAll(c); err == nil {
			fmt.Fprintf(c, "got %s\n", data)
		}
	},
	// says that it is ready and then nothing more
	"stuck": func(c net.Conn, over <-chan struct{}) {
		fmt.Fprintln(c, "ready")
		<-over
	},
	// answers a request with the host that it was for
	"http": func(c net.Conn, _ <-chan struct{}) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			text := "hello from " + r.Host + "\n"
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	},
	// accepts and says nothing
	"silent": func(_ net.Conn, over <-chan struct{}) { <-over },
}

// startServer listens at a port of 127.0.0.1 until the script ends.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	kind, port := "echo", "0"
	if len(args) > 1 {
		kind = args[1]
	}
	if len(args) > 2 {
		port = args[2]
	}
	serve := servers[kind]
	if serve == nil {
		ts.Fatalf("there is no server of the kind %s", kind)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	ts.Check(err)
	over := make(chan struct{})
	asked := make(chan struct{}, 1)
	ts.Value(serversKey{}).(map[string]chan struct{})[args[0]] = asked
	ts.Defer(func() {
		l.Close()
		close(over)
	})
	ts.Setenv(args[0], l.Addr().String())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case asked <- struct{}{}:
			default:
			}
			go func() {
				defer c.Close()
				serve(c, over)
			}()
		}
	}()
}

// serversKey is that of what gets a value when a client has come, by the
// server's name.
type serversKey struct{}

func waitAsked(ts *testscript.TestScript, neg bool, args []string) {
	select {
	case <-ts.Value(serversKey{}).(map[string]chan struct{})[args[0]]:
	case <-time.After(scriptPatience):
		ts.Fatalf("no client has come to the server %s", args[0])
	}
}

func runClient(ts *testscript.TestScript, neg bool, args []string) {
	network, addr := "tcp", args[0]
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	got, err := readAll(network, addr)
	_, _ = ts.Stdout().Write(got)
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	if (err != nil) != neg {
		ts.Fatalf("client %s = %q, %v", args[0], got, err)
	}
}

// readAll is a client that sends nothing.
func readAll(network, addr string) ([]byte, error) {
	c, err := net.DialTimeout(network, addr, scriptPatience)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(scriptPatience)); err != nil {
		return nil, err
	}
	_ = c.(interface{ CloseWrite() error }).CloseWrite() // if it broke, the read says so
	return io.ReadAll(c)
}

// fetch prints the status and the body that a URL has through a proxy.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	network, addr := "tcp", args[0]
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	transport := &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy"}),
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial(network, addr) },
		DisableKeepAlives: true,
	}
	client := http.Client{Transport: transport, Timeout: scriptPatience}
	resp, err := client.Get(args[1])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d %s", resp.StatusCode, body)
}

func findPort(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Check(l.Close())
}

// mayMount tells whether a disk can be mounted: it needs rights that a container
// may not give even to root.
func mayMount(cond string) (bool, error) {
	if cond != "mount" {
		return false, fmt.Errorf("there is no condition %q", cond)
	}
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		return false, err
	}
	defer os.Remove(dir)
	if mount(dir, "4k") != nil {
		return false, nil
	}
	return true, exec.Command("umount", dir).Run()
}

func mount(dir, size string) error {
	return exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "none", dir).Run()
}

func mountDisk(ts *testscript.TestScript, neg bool, args []string) {
	dir := args[0]
	ts.Check(os.Mkdir(dir, 0o700))
	ts.Check(mount(dir, args[1]))
	ts.Defer(func() {
		scriptNodes(ts).killAll()
		_ = exec.Command("umount", dir).Run()
	})
}

// writeExpired makes an invite as it would have been made last week.
func writeExpired(ts *testscript.TestScript, neg bool, args []string) {
	then := time.Now().Add(-7 * 24 * time.Hour)
	root, err := credential.NewRoot(rand.Reader)
	ts.Check(err)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	own, err := root.Found(rand.Reader, then, public, "alice")
	ts.Check(err)
	admin, err := credential.NewIssuer(root.Mesh(), private, own)
	ts.Check(err)
	invite, err := admin.IssueInvite(rand.Reader, then, credential.Terms{}, nil)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(invite.Text()+"\n"), 0o600))
}
