package forward

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/things-go/go-socks5/statute"
)

// A hostMesh has servers at host names.
type hostMesh map[string]net.Addr

func (m hostMesh) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	at, ok := m[host]
	if !ok {
		return nil, fmt.Errorf("dial %s: no such member", host)
	}
	return new(net.Dialer).DialContext(ctx, at.Network(), at.String())
}

func newProxy(t testing.TB, mesh Dialer, c ProxyConfig) *Proxy {
	t.Helper()
	p, err := NewProxy(mesh, mustParse(t, ownAddress()), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// webServer answers a request with its method, host, path, body and what came in
// X-Forwarded-For.
func webServer(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q %q", r.Method, r.Host, r.URL, body, r.Header["X-Forwarded-For"])
	}))
	s.Listener.Close()
	s.Listener = listenTCP(t)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// ways are how a client gets a connection through a proxy. They return what the
// proxy says against it.
var ways = map[string]func(c net.Conn, host string) error{"CONNECT": connectByHTTP, "SOCKS": connectBySOCKS}

func connectByHTTP(c net.Conn, host string) error {
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", host)
	answer := new(strings.Builder)
	for b := []byte{0}; !strings.HasSuffix(answer.String(), "\r\n\r\n"); answer.Write(b) {
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(answer.String(), "HTTP/1.1 200 ") {
		return errors.New(answer.String())
	}
	return nil
}

func connectBySOCKS(c net.Conn, host string) error {
	to, err := statute.ParseAddrSpec(host)
	if err != nil {
		return err
	}
	c.Write([]byte{5, 1, 0})
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		return err
	}
	c.Write(statute.Request{Version: 5, Command: statute.CommandConnect, DstAddr: to}.Bytes())
	reply, err := statute.ParseReply(c)
	if err == nil && reply.Response != 0 {
		err = fmt.Errorf("reply %d", reply.Response)
	}
	return err
}

// Programs that people have work with it.
func TestProxyWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	web := webServer(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "secure ", r.Host) }))
	defer secure.Close()
	p := newProxy(t, hostMesh{"web.alice.mesh": web.Listener.Addr(), "safe.mesh": secure.Listener.Addr()}, ProxyConfig{
		Hint: func(error) string { return "see the list" },
	})
	at := p.Addr().String()
	for _, tt := range []struct {
		name string
		args []string
		want string
		code int // curl's exit status
	}{
		{"http", []string{"-x", "http://" + at, "http://web.alice.mesh/a%2Fb?c=d"}, `GET web.alice.mesh /a%2Fb?c=d "" []`, 0},
		{"http with a port", []string{"-x", "http://" + at, "http://WEB.alice.mesh:8080/"}, `GET WEB.alice.mesh:8080 / "" []`, 0},
		{"a body", []string{"-x", "http://" + at, "-d", "x=y", "http://web.alice.mesh/"}, `POST web.alice.mesh / "x=y" []`, 0},
		{"a header that proxies meddle with", []string{"-x", "http://" + at, "-H", "X-Forwarded-For: me", "http://web.alice.mesh/"}, `GET web.alice.mesh / "" ["me"]`, 0},
		{"http by CONNECT", []string{"-p", "-x", "http://" + at, "http://web.alice.mesh/"}, `GET web.alice.mesh / "" []`, 0},
		{"https", []string{"-k", "-x", "http://" + at, "https://safe.mesh/"}, "secure safe.mesh", 0},
		{"http by SOCKS", []string{"-x", "socks5h://" + at, "http://web.alice.mesh/"}, `GET web.alice.mesh / "" []`, 0},
		{"http by SOCKS with a password", []string{"-x", "socks5h://u:p@" + at, "http://web.alice.mesh/"}, `GET web.alice.mesh / "" []`, 0},
		{"https by SOCKS", []string{"-k", "-x", "socks5h://" + at, "https://safe.mesh/"}, "secure safe.mesh", 0},
		{"unknown", []string{"-x", "http://" + at, "http://web.bob.mesh/"}, "dial web.bob.mesh: no such member\nsee the list\n", 0},
		{"unknown by CONNECT", []string{"-p", "-sS", "-x", "http://" + at, "http://web.bob.mesh/"}, "response 502", 56},
		{"unknown by SOCKS", []string{"-sS", "-x", "socks5h://" + at, "http://web.bob.mesh/"}, "(4)", 97},
		{"by SOCKS 4", []string{"-sS", "-x", "socks4a://" + at, "http://web.alice.mesh/"}, "(91)", 97},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), curl, append([]string{"-s", "--noproxy", "", "-m", "20"}, tt.args...)...).CombinedOutput()
			code := 0
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				code = exit.ExitCode()
			}
			if code != tt.code || !strings.Contains(string(out), tt.want) || tt.code == 0 && string(out) != tt.want {
				t.Errorf("curl %q = %d, %q, want %d, %q", tt.args, code, out, tt.code, tt.want)
			}
		})
	}
}

// Either side may be the first to end, and the other goes on.
func TestProxyKeepsHalfClose(t *testing.T) {
	for way, connect := range ways {
		for _, kind := range []string{"tcp", "mux"} {
			t.Run(way+" "+kind, func(t *testing.T) {
				mesh := newMesh(t, kind)
				service := serviceOf(t, mesh)
				p := newProxy(t, mesh, ProxyConfig{})
				client := dialTCP(t, p.Addr())
				client.SetDeadline(time.Now().Add(patience))
				served := make(chan error, 1)
				go func() {
					c, err := service.Accept()
					if err != nil {
						served <- err
						return
					}
					defer c.Close()
					got, err := io.ReadAll(c)
					fmt.Fprintf(c, "got %d", len(got))
					served <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
				}()
				if err := connect(client, "web.alice.mesh:80"); err != nil {
					t.Fatal(err)
				}
				const sent = 1 << 20
				if _, err := client.Write(make([]byte, sent)); err != nil {
					t.Fatal(err)
				}
				client.(*net.TCPConn).CloseWrite()
				got, err := io.ReadAll(client)
				if want := fmt.Sprint("got ", sent); err != nil || string(got) != want {
					t.Errorf("after the end of what was sent ReadAll() = %q, %v, want %q", got, err, want)
				}
				if err := <-served; err != nil {
					t.Error(err)
				}
				waitFor(t, func() bool { return p.Stats().Open == 0 })
				if s := p.Stats(); s.Sent != sent || s.Received != uint64(len(got)) || s.Total != 1 || s.Failed != 0 || s.LastError != nil {
					t.Errorf("Stats() = %+v, want %d bytes out, %d in", s, sent, len(got))
				}
			})
		}
	}
}

// waitFor waits for what soon comes true.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it did not come true")
		}
	}
}

func TestProxyPassesResetOn(t *testing.T) {
	for way, connect := range ways {
		t.Run(way, func(t *testing.T) {
			mesh := newTCPMesh(t)
			p := newProxy(t, mesh, ProxyConfig{})
			client := dialTCP(t, p.Addr())
			if err := connect(client, "web.mesh:80"); err != nil {
				t.Fatal(err)
			}
			c, err := mesh.ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			reset(c)
			wantReset(t, client)
		})
	}
}

// What a client sends before it was answered is not lost.
func TestProxyWithHastyClient(t *testing.T) {
	mesh := newTCPMesh(t)
	p := newProxy(t, mesh, ProxyConfig{})
	for _, request := range []string{
		"CONNECT web.mesh:443 HTTP/1.1\r\n\r\n",
		"\x05\x01\x00\x05\x01\x00\x03\x08web.mesh\x00\x50",
	} {
		client := dialTCP(t, p.Addr())
		client.SetDeadline(time.Now().Add(patience))
		text := strings.Repeat("early ", 2000)
		io.WriteString(client, request+text)
		client.(*net.TCPConn).CloseWrite()
		c, err := mesh.ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != text {
			t.Errorf("after %.7q the service reads %d bytes, %v, want %d", request, len(got), err, len(text))
		}
		io.WriteString(c, "late")
		c.Close()
		if got, err := io.ReadAll(client); err != nil || !strings.HasSuffix(string(got), "late") {
			t.Errorf("after %.7q the client reads %q, %v, want late at its end", request, got, err)
		}
	}
}

func TestProxyRoutes(t *testing.T) {
	web := webServer(t)
	mesh := hostMesh{"web.alice.mesh": web.Listener.Addr(), "web.mesh": web.Listener.Addr()}
	others := hostMesh{"example.org": web.Listener.Addr(), "::1": web.Listener.Addr(), "10.0.0.1": web.Listener.Addr(), "amesh": web.Listener.Addr()}
	for _, tt := range []struct {
		host            string
		strict, lenient string // what SOCKS answers, without and with others
		status          int    // that HTTP answers without others
	}{
		{"web.alice.mesh:80", "", "", 200},
		{"web.alice.mesh:65535", "", "", 200},
		{"web.alice.mesh.:80", "", "", 200},
		{"WEB.Alice.Mesh:80", "", "", 200},
		{"web.mesh:0", "", "", 200},
		{"web.bob.mesh:80", "reply 4", "reply 4", 502},
		{"example.org:80", "reply 2", "", 403},
		{"example.com:80", "reply 2", "reply 4", 403},
		{"amesh:80", "reply 2", "", 403},
		{"mesh:80", "reply 2", "reply 4", 403},
		{"[::1]:80", "reply 2", "", 403},
		{"10.0.0.1:80", "reply 2", "", 403},
		{"a b.mesh:80", "reply 1", "reply 1", 400},
		{"a..mesh:80", "reply 1", "reply 1", 400},
		{strings.Repeat("a", 250) + ".mesh:80", "reply 1", "reply 1", 400},
	} {
		t.Run(tt.host, func(t *testing.T) {
			for want, others := range map[string]Dialer{"strict " + tt.strict: nil, "lenient " + tt.lenient: others} {
				p := newProxy(t, mesh, ProxyConfig{Others: others})
				got := ""
				if err := connectBySOCKS(dialTCP(t, p.Addr()), tt.host); err != nil {
					got = err.Error()
				}
				if how, want, _ := strings.Cut(want, " "); got != want {
					t.Errorf("%s: SOCKS to %s = %q, want %q", how, tt.host, got, want)
				}
				if others != nil {
					continue
				}
				got = ""
				if err := connectByHTTP(dialTCP(t, p.Addr()), tt.host); err != nil {
					got = err.Error()
				}
				if want := fmt.Sprintf("HTTP/1.1 %d ", tt.status); tt.status != 200 && !strings.HasPrefix(got, want) || tt.status == 200 && got != "" {
					t.Errorf("CONNECT to %s = %q, want %q", tt.host, got, want)
				}
			}
		})
	}
}

func TestProxyRefuses(t *testing.T) {
	down := listenTCP(t)
	down.Close()
	stuck := dialFunc(dialUntilEnd)
	for _, tt := range []struct {
		name string
		mesh Dialer
		send string
		want string // how the answer begins
		text string // is in it
	}{
		{"no member", hostMesh{}, "CONNECT a.mesh:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 502 ", "dial a.mesh: no such member\ntry harder\n"},
		{"no member, for programs", hostMesh{}, "CONNECT a.mesh:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 502 ", `Proxy-Status: p2pnode; error=destination_unavailable; details="dial a.mesh: no such member"`},
		{"no member for a URL", hostMesh{}, "GET http://a.mesh/ HTTP/1.1\r\nHost: a.mesh\r\nConnection: close\r\n\r\n", "HTTP/1.1 502 ", "dial a.mesh: no such member\ntry harder\n"},
		{"refused", hostMesh{"a.mesh": down.Addr()}, "CONNECT a.mesh:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 502 ", "error=connection_refused"},
		{"refused by SOCKS", hostMesh{"a.mesh": down.Addr()}, "\x05\x01\x00\x05\x01\x00\x03\x06a.mesh\x00\x01", "\x05\x00\x05\x05", ""},
		{"too slow", stuck, "CONNECT a.mesh:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 504 ", "error=connection_timeout"},
		{"too slow by SOCKS", stuck, "\x05\x01\x00\x05\x01\x00\x03\x06a.mesh\x00\x01", "\x05\x00\x05\x06", ""},
		{"not of the mesh", nil, "GET http://a.org/ HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n", "HTTP/1.1 403 ", "a.org: " + ErrNotMesh.Error()},
		{"no URL", nil, "GET / HTTP/1.1\r\nHost: web.mesh\r\n\r\n", "HTTP/1.1 400 ", "this is a proxy, and no web server"},
		{"other scheme", nil, "GET https://web.mesh/ HTTP/1.1\r\nHost: web.mesh\r\n\r\n", "HTTP/1.1 400 ", "https: this proxy passes requests on for http URLs"},
		{"asterisk", nil, "OPTIONS * HTTP/1.1\r\nHost: web.mesh\r\n\r\n", "HTTP/1.1 400 ", "this is a proxy"},
		{"TLS", nil, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400 ", ""},
		{"HTTP/2", nil, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 ", ""},
		{"huge header", nil, "GET http://web.mesh/ HTTP/1.1\r\nX: " + strings.Repeat("x", 128<<10) + "\r\n\r\n", "HTTP/1.1 431 ", ""},
		{"huge request line", nil, "GET http://web.mesh/" + strings.Repeat("x", 128<<10), "HTTP/1.1 431 ", ""},
		{"SOCKS 4", nil, "\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "\x00\x5b", ""},
		{"SOCKS with a password alone", nil, "\x05\x01\x02", "\x05\xff", ""},
		{"SOCKS without a method", nil, "\x05\x00", "\x05\xff", ""},
		{"SOCKS to bind", nil, "\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x00\x05\x07", ""},
		{"SOCKS for datagrams", nil, "\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x00\x05\x07", ""},
		{"SOCKS with an unknown kind of address", nil, "\x05\x01\x00\x05\x01\x00\x09", "\x05\x00\x05\x08", ""},
		{"SOCKS to nobody", nil, "\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", "\x05\x00\x05\x01", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProxy(t, tt.mesh, ProxyConfig{DialTimeout: 10 * time.Millisecond, Hint: func(error) string { return "try harder" }})
			client := dialTCP(t, p.Addr())
			client.SetDeadline(time.Now().Add(patience))
			io.WriteString(client, tt.send)
			if !strings.HasPrefix(tt.send, "GET http:") { // whose client then is taken to be gone
				client.(*net.TCPConn).CloseWrite()
			}
			got, err := io.ReadAll(client)
			if err != nil || !bytes.HasPrefix(got, []byte(tt.want)) || !strings.Contains(string(got), tt.text) {
				t.Errorf("%.40q is answered %q, %v, want %q and %q", tt.send, got, err, tt.want, tt.text)
			}
		})
	}
}

// The log has what a client was told, once for many times the same.
func TestProxyLogsOnce(t *testing.T) {
	var log bytes.Buffer
	p := newProxy(t, hostMesh{}, ProxyConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		if err := connectByHTTP(dialTCP(t, p.Addr()), "web.bob.mesh:80"); err == nil {
			t.Error("CONNECT to nobody = nil, want an error")
		}
	}
	p.Close()
	if s := p.Stats(); s.Total != 3 || s.Failed != 3 || s.Open != 0 {
		t.Errorf("Stats() = %+v, want 3 of 3 failed and none open", s)
	}
	if n := strings.Count(log.String(), "no such member"); n != 1 {
		t.Errorf("lines logged = %d, want 1 for three times the same:\n%s", n, &log)
	}
}

// A client that is slow to say what it wants has its connection closed.
func TestProxyWithSlowClient(t *testing.T) {
	p := newProxy(t, hostMesh{}, ProxyConfig{HeaderTimeout: 10 * time.Millisecond})
	for _, sent := range []string{"", "G", "GET http://web.mesh/ HTTP/1.1\r\n", "\x05", "\x05\x01\x00", "\x05\x01\x00\x05\x01\x00\x03\x09web"} {
		client := dialTCP(t, p.Addr())
		client.SetDeadline(time.Now().Add(patience))
		io.WriteString(client, sent)
		if _, err := io.ReadAll(client); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %q ReadAll() = %v, want an end", sent, err)
		}
	}
	waitFor(t, func() bool { return p.Stats().Open == 0 })
}

// An answer that breaks off is not taken for a whole one, not even where its end is
// that of the connection.
func TestProxyBreaksAnswerThatBroke(t *testing.T) {
	for _, version := range []string{"1.0", "1.1"} {
		t.Run(version, func(t *testing.T) {
			mesh := newTCPMesh(t)
			p := newProxy(t, mesh, ProxyConfig{})
			client := dialTCP(t, p.Addr())
			client.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(client, "GET http://web.mesh/ HTTP/%s\r\nHost: web.mesh\r\n\r\n", version)
			c, err := mesh.ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			reset(c)
			if got, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("ReadAll() = %q, %v, want %v", got, err, syscall.ECONNRESET)
			}
		})
	}
}

// A request may turn its connection into another thing, as those of websockets do.
func TestProxyPassesUpgradeOn(t *testing.T) {
	mesh := newTCPMesh(t)
	p := newProxy(t, mesh, ProxyConfig{})
	client := dialTCP(t, p.Addr())
	client.SetDeadline(time.Now().Add(patience))
	io.WriteString(client, "GET http://web.mesh/ HTTP/1.1\r\nHost: web.mesh\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	c, err := mesh.ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if r, err := http.ReadRequest(in); err != nil || r.Header.Get("Upgrade") != "echo" {
		t.Fatalf("ReadRequest() = %v, %v, want one to upgrade to echo", r, err)
	}
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	go func() {
		io.Copy(c, in)
		c.Close()
	}()
	out := bufio.NewReader(client)
	if resp, err := http.ReadResponse(out, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("ReadResponse() = %v, %v, want 101", resp, err)
	}
	io.WriteString(client, "hello")
	client.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(out); err != nil || string(got) != "hello" {
		t.Errorf("after the upgrade ReadAll() = %q, %v, want hello", got, err)
	}
}

// Close ends what is going on, at whatever point it is.
func TestProxyCloseWhileInUse(t *testing.T) {
	for _, tt := range []struct {
		name string
		mesh Dialer // nil for one that accepts
		send string
		want string // is read before
	}{
		{"nothing sent", nil, "", ""},
		{"half a request", nil, "GET http://web.mesh/ HTT", ""},
		{"half a greeting", nil, "\x05\x02\x00", ""},
		{"SOCKS while dialling", dialFunc(dialUntilEnd), "\x05\x01\x00\x05\x01\x00\x03\x08web.mesh\x00\x50", "\x05\x00"},
		{"CONNECT while dialling", dialFunc(dialUntilEnd), "CONNECT web.mesh:80 HTTP/1.1\r\n\r\n", ""},
		{"request while dialling", dialFunc(dialUntilEnd), "GET http://web.mesh/ HTTP/1.1\r\nHost: web.mesh\r\n\r\n", ""},
		{"SOCKS", nil, "\x05\x01\x00\x05\x01\x00\x03\x08web.mesh\x00\x50", "\x05\x00\x05\x00"},
		{"CONNECT", nil, "CONNECT web.mesh:80 HTTP/1.1\r\n\r\n", "HTTP/1.1 200"},
		{"request", nil, "GET http://web.mesh/ HTTP/1.1\r\nHost: web.mesh\r\n\r\n", ""},
		{"idle between requests", nil, "GET / HTTP/1.1\r\nHost: web.mesh\r\n\r\n", "HTTP/1.1 400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mesh := tt.mesh
			if mesh == nil {
				mesh = newTCPMesh(t)
			}
			p := newProxy(t, mesh, ProxyConfig{})
			client := dialTCP(t, p.Addr())
			client.SetDeadline(time.Now().Add(patience))
			io.WriteString(client, tt.send)
			if got := make([]byte, len(tt.want)); tt.want != "" {
				if _, err := io.ReadFull(client, got); err != nil || string(got) != tt.want {
					t.Fatalf("ReadFull() = %q, %v, want %q", got, err, tt.want)
				}
			}
			waitFor(t, func() bool { return p.Stats().Total == 1 })
			if err := p.Close(); err != nil {
				t.Errorf("Close() = %v, want nil", err)
			}
			if _, err := io.ReadAll(client); err == nil {
				t.Error("after Close the client reads an end, want a reset")
			}
			if s := p.Stats(); s.Open != 0 {
				t.Errorf("after Close Stats() = %+v, want none open", s)
			}
		})
	}
}

func TestProxyManyAtOnce(t *testing.T) {
	const clients = 1000
	web := webServer(t)
	p := newProxy(t, hostMesh{"web.alice.mesh": web.Listener.Addr()}, ProxyConfig{MaxOpen: 100})
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() { errs[i] = fetchThrough(p.Addr(), []string{"CONNECT", "SOCKS", "URL"}[i%3], i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { return p.Stats().Open == 0 })
	if s := p.Stats(); s.Total != clients || s.Failed != 0 {
		t.Errorf("Stats() = %+v, want %d connections and none failed", s, clients)
	}
}

// fetchThrough fetches a page of its own through a proxy.
func fetchThrough(proxy net.Addr, way string, i int) error {
	c, err := net.Dial("tcp", proxy.String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * patience))
	url := fmt.Sprintf("/%d", i)
	if connect := ways[way]; connect != nil {
		err = connect(c, "web.alice.mesh:80")
	} else {
		url = "http://web.alice.mesh" + url
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: web.alice.mesh\r\nConnection: close\r\n\r\n", url)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", way, err)
	}
	body, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf(`GET web.alice.mesh /%d "" []`, i); err != nil || string(body) != want {
		return fmt.Errorf("%s: %q, %w, want %q", way, body, err, want)
	}
	return nil
}

func TestProxyOnUnixSocket(t *testing.T) {
	web := webServer(t)
	path := t.TempDir() + "/p"
	p, err := NewProxy(hostMesh{"web.mesh": web.Listener.Addr()}, mustParse(t, unixPrefix+path), ProxyConfig{Others: new(net.Dialer)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := connectBySOCKS(c, "web.mesh:80"); err != nil {
		t.Errorf("SOCKS over a unix socket = %v", err)
	}
}

func TestProxyConfigErrors(t *testing.T) {
	_, err := NewProxy(hostMesh{}, Address{}, ProxyConfig{DialTimeout: -1, HeaderTimeout: -2, MaxOpen: -3})
	checkErr(t, err, "Config.DialTimeout is negative: -1ns")
	checkErr(t, err, "Config.HeaderTimeout is negative: -2ns")
	checkErr(t, err, "Config.MaxOpen is negative: -3")
	_, err = NewProxy(hostMesh{}, mustParse(t, "0.0.0.0:0"), ProxyConfig{Others: new(net.Dialer)})
	checkErr(t, err, "proxy: listen on 0.0.0.0:0: a proxy for hosts outside the mesh listens on loopback")
	if !errors.Is(err, ErrNotLocal) {
		t.Errorf("NewProxy for others on all interfaces = %v, want %v", err, ErrNotLocal)
	}
	first := newProxy(t, hostMesh{}, ProxyConfig{})
	_, err = NewProxy(hostMesh{}, addressOf(t, first.Addr()), ProxyConfig{})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("NewProxy on a port in use = %v, want %v", err, syscall.EADDRINUSE)
	}
}

// Whatever a client begins with, it gets an answer that it can read, or an end.
func FuzzProxyClient(f *testing.F) {
	for _, sent := range []string{
		"CONNECT web.mesh:80 HTTP/1.1\r\n\r\n", "GET http://web.mesh/ HTTP/1.1\r\nHost: web.mesh\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
		"\x05\x01\x00\x05\x01\x00\x03\x08web.mesh\x00\x50", "\x05\x01\x00\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
		"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "\x16\x03\x01", "CONNECT [::1]:80 HTTP/1.1\r\n\r\n", "",
	} {
		f.Add([]byte(sent))
	}
	p := newProxy(f, hostMesh{}, ProxyConfig{HeaderTimeout: time.Second})
	begins := []string{"HTTP/1.", "\x05", "\x00\x5b"}
	f.Fuzz(func(t *testing.T, sent []byte) {
		c, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("after %q ReadAll() = %v", sent, err)
		}
		if len(got) > 0 && !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(string(got), b) }) {
			t.Errorf("%q is answered %q", sent, got)
		}
	})
}
