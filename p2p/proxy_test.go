package p2p

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
)

// A testProxy is an HTTP proxy that makes tunnels.
type testProxy struct {
	*url.URL
	names map[string]string // where hosts are that this machine does not know
	user  string            // "user:password" that it wants, if any

	mu    sync.Mutex
	asked []string
}

func newTestProxy(t *testing.T) *testProxy {
	t.Helper()
	p := &testProxy{names: map[string]string{}}
	p.URL = serveHTTP(t, p.serve)
	return p
}

// serveHTTP runs a server until the test's end.
func serveHTTP(t *testing.T, handle http.HandlerFunc) *url.URL {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (p *testProxy) serve(w http.ResponseWriter, r *http.Request) {
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user)); p.user != "" && r.Header.Get("Proxy-Authorization") != want {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Host)
	p.mu.Unlock()
	target := r.Host
	if at := p.names[target]; at != "" {
		target = at
	}
	out, err := net.Dial("tcp", target)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	tunnel(w, out)
}

// tunnel says that there is one, and passes bytes on until both ends have ended.
func tunnel(w http.ResponseWriter, out net.Conn) {
	defer out.Close()
	in := hijack(w, "HTTP/1.1 200 Connection established\r\n\r\n")
	if in == nil {
		return
	}
	defer in.Close()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].(*net.TCPConn).CloseWrite()
		})
	}
	both.Wait()
}

// hijack takes a connection from its server, and says something on it.
func hijack(w http.ResponseWriter, say string) net.Conn {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return nil
	}
	_, _ = io.WriteString(c, say)
	return c
}

func (p *testProxy) askedFor() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// through has all WebSocket go through a proxy.
func through(u *url.URL) func(*url.URL) (*url.URL, error) {
	return func(*url.URL) (*url.URL, error) { return u, nil }
}

var webSockets = []string{"/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/tls/ws"}

func TestProxyTunnel(t *testing.T) {
	for _, listen := range webSockets {
		for _, user := range []string{"", "me:pass word"} {
			t.Run(listen+" "+user, func(t *testing.T) {
				proxy := newTestProxy(t)
				proxy.user = user
				by := *proxy.URL
				if name, word, ok := strings.Cut(user, ":"); ok {
					by.User = url.UserPassword(name, word)
				}
				member := newTestNode(t, Config{Listen: addrs(listen)})
				serveEcho(t, member, "/echo/1")
				var asked *url.URL
				dialer := newTestNode(t, Config{Proxy: func(u *url.URL) (*url.URL, error) { asked = u; return &by, nil }})
				at := member.Addrs()[0]
				if err := dialer.Connect(testContext(t), member.ID(), at); err != nil {
					t.Fatal(err)
				}
				if err := echo(testContext(t), dialer, member.ID(), "/echo/1"); err != nil {
					t.Error(err)
				}
				target := fmt.Sprintf("127.0.0.1:%d", member.Port())
				if got := proxy.askedFor(); len(got) != 1 || got[0] != target {
					t.Errorf("the proxy is asked for %q, want %s once", got, target)
				}
				if want := "https://" + target; asked.String() != want {
					t.Errorf("Proxy is asked for %v, want %s", asked, want)
				}
				c := dialer.bestConn(member.ID())
				if got := c.RemoteMultiaddr(); !got.Equal(at) {
					t.Errorf("RemoteMultiaddr = %v, want %v, and not the proxy's", got, at)
				}
				if got := c.ConnState().Transport; got != "websocket" {
					t.Errorf("ConnState().Transport = %q, want websocket", got)
				}
			})
		}
	}
}

// What is not WebSocket goes to no proxy, and neither does that for which there is
// none.
func TestNoProxy(t *testing.T) {
	for _, over := range transports {
		t.Run(over.name, func(t *testing.T) {
			proxy := newTestProxy(t)
			member := newTestNode(t, Config{Listen: addrs(over.listen)})
			by := through(proxy.URL)
			if strings.HasSuffix(over.listen, "/ws") {
				by = through(nil)
			}
			dialer := newTestNode(t, Config{Proxy: by})
			if err := dialer.Connect(testContext(t), member.ID(), member.Addrs()...); err != nil {
				t.Fatal(err)
			}
			if got := proxy.askedFor(); len(got) > 0 {
				t.Errorf("the proxy is asked for %q, want nothing", got)
			}
		})
	}
}

// Names are looked up by the proxy, which may be all that can.
func TestProxyLooksUpNames(t *testing.T) {
	for _, form := range []string{"/dns4/alice.invalid/tcp/443/tls/ws", "/dns/alice.invalid/tcp/443/wss", "/dns4/alice.invalid/tcp/443/tls/sni/other.invalid/ws"} {
		t.Run(form, func(t *testing.T) {
			proxy := newTestProxy(t)
			member := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0/tls/ws")})
			proxy.names["alice.invalid:443"] = fmt.Sprintf("127.0.0.1:%d", member.Port())
			dialer := newTestNode(t, Config{Proxy: through(proxy.URL)})
			if err := dialer.Connect(testContext(t), member.ID(), multiaddr.StringCast(form)); err != nil {
				t.Fatal(err)
			}
			if got := proxy.askedFor(); len(got) != 1 || got[0] != "alice.invalid:443" {
				t.Errorf("the proxy is asked for %q, want the name", got)
			}
		})
	}
}

// captive makes a tunnel to a server of its own, whatever it was asked for.
func captive(t *testing.T, start func(http.Handler) *httptest.Server) *url.URL {
	t.Helper()
	page := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://login.example/?session=secret", http.StatusFound)
	}))
	t.Cleanup(page.Close)
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		out, err := net.Dial("tcp", page.Listener.Addr().String())
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tunnel(w, out)
	})
}

func says(t *testing.T, text string) *url.URL {
	t.Helper()
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if c := hijack(w, text); c != nil {
			c.Close()
		}
	})
}

func answers(t *testing.T, status int) *url.URL {
	t.Helper()
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://login.example/?session=secret")
		w.WriteHeader(status)
	})
}

func TestProxyErrorText(t *testing.T) {
	member := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0/tls/ws", "/ip4/127.0.0.1/tcp/0/ws")})
	other := newTestProxy(t)
	other.names["192.0.2.1:443"] = ""
	for _, a := range member.Addrs() {
		if strings.Contains(a.String(), "/tls/") {
			port, _ := a.ValueForProtocol(multiaddr.P_TCP)
			other.names["192.0.2.1:443"] = "127.0.0.1:" + port
		}
	}
	silent, err := url.Parse("http://me:secret@" + strings.NewReplacer("/ip4/", "", "/tcp/", ":").Replace(silentTCP(t)))
	if err != nil {
		t.Fatal(err)
	}
	closed, err := url.Parse("http://" + strings.NewReplacer("/ip4/", "", "/tcp/", ":").Replace(closedTCP(t)))
	if err != nil {
		t.Fatal(err)
	}
	tls, plain := "/ip4/192.0.2.1/tcp/443/tls/ws", "/ip4/192.0.2.1/tcp/80/ws"
	page := "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Log in, please</html>"
	for _, tt := range []struct {
		name   string
		proxy  *url.URL
		addr   string
		status int
		want   string
	}{
		{"it forbids", answers(t, 403), tls, 403, "403 Forbidden"},
		{"it wants a password", answers(t, 407), tls, 407, "407 Proxy Authentication Required"},
		{"it does not reach the peer", answers(t, 502), tls, 502, "502 Bad Gateway"},
		{"it has a login page", answers(t, 302), tls, 302, "302 Found, to http://login.example"},
		{"it has a status of its own", says(t, "HTTP/1.1 599 \x1b[31mred\r\n\r\n"), tls, 599, "599"},
		{"it answers with a page", says(t, page), tls, 0, "a page (200 OK with text/html) is the answer, and not a node's"},
		{"it talks something else", says(t, "220 mail.example ESMTP\r\n"), tls, 0, `read its answer: malformed HTTP status code "mail.example"`},
		{"it hangs up", says(t, ""), tls, 0, "read its answer: unexpected EOF"},
		{"a page in the tunnel, by TLS", captive(t, httptest.NewTLSServer), tls, 0, "a page (302 Found with text/html to https://login.example) is the answer, and not a node's"},
		{"a page in the tunnel", captive(t, httptest.NewServer), plain, 0, "a page (302 Found with text/html to https://login.example) is the answer, and not a node's"},
		{"a page in the tunnel, where TLS should be", captive(t, httptest.NewServer), tls, 0, "a page without TLS is the answer, and not a node's"},
		{"it is not there", closed, tls, 0, "connect: connection refused"},
		{"it says nothing", silent, tls, 0, "no answer"},
		{"another peer", other.URL, tls, -1, "another peer is there: " + member.ID().String()},
		{"no such kind", &url.URL{Scheme: "gopher", Host: "192.0.2.9"}, tls, 0, `no way to use it: "gopher" is none of http, https and socks5`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dialer := newTestNode(t, Config{Proxy: through(tt.proxy), DialTimeout: patience})
			if tt.proxy == silent {
				dialer = newTestNode(t, Config{Proxy: through(tt.proxy), DialTimeout: 100 * time.Millisecond})
			}
			began := time.Now()
			err := dialer.Connect(testContext(t), strangerID(t), multiaddr.StringCast(tt.addr))
			target := strings.NewReplacer("/ip4/", "", "/tcp/", ":", "/tls", "", "/ws", "").Replace(tt.addr)
			want := fmt.Sprintf("dial peer %v: %s: proxy %s asked for %s: %s (TIME)", strangerID(t), tt.addr, tt.proxy.Redacted(), target, tt.want)
			if tt.status < 0 {
				want = fmt.Sprintf("dial peer %v: %s: %s (TIME)", strangerID(t), tt.addr, tt.want)
			}
			if got := goldenText(err); got != want {
				t.Errorf("Connect = %q,\nwant %q", got, want)
			}
			if strings.Contains(fmt.Sprintf("%+v", err), "secret") {
				t.Errorf("Connect = %+v, want no secret in it", err)
			}
			var failed *ProxyError
			if got := errors.As(err, &failed); got != (tt.status >= 0) || got && failed.Status != tt.status {
				t.Errorf("the error of the proxy is %+v, want status %d", failed, tt.status)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("Connect took %v", took)
			}
			checkAttempts(t, err, 1)
		})
	}
}

// A dial that is given up while the proxy says nothing names it.
func TestProxyDialGivenUp(t *testing.T) {
	by, err := url.Parse("http://" + strings.NewReplacer("/ip4/", "", "/tcp/", ":").Replace(silentTCP(t)))
	if err != nil {
		t.Fatal(err)
	}
	dialer := newTestNode(t, Config{Proxy: through(by), DialTimeout: patience})
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	err = dialer.Connect(ctx, strangerID(t), multiaddr.StringCast("/ip4/192.0.2.1/tcp/443/tls/ws"))
	var all *DialError
	if !errors.As(err, &all) || len(all.Attempts) != 1 {
		t.Fatalf("Connect = %v, want one attempt", err)
	}
	if got, want := all.Attempts[0].Err.Error(), "proxy "+by.String()+" asked for 192.0.2.1:443: no answer"; got != want {
		t.Errorf("the attempt ends with %q, want %q", got, want)
	}
	checkIs(t, "Connect", err, context.DeadlineExceeded)
}

// A choice that fails is not taken for that of no proxy.
func TestProxyChoiceFails(t *testing.T) {
	member := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0/tls/ws")})
	dialer := newTestNode(t, Config{Proxy: func(*url.URL) (*url.URL, error) { return nil, errors.New("no script") }})
	err := dialer.Connect(testContext(t), member.ID(), member.Addrs()...)
	if err == nil || !strings.Contains(err.Error(), "choose a proxy: no script") {
		t.Errorf("Connect = %v, want that it says why", err)
	}
}

// Without a proxy, pages in place of a peer are told as such too.
func TestPageInPlaceOfAPeer(t *testing.T) {
	page := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	closed := closedTCP(t)
	for addr, want := range map[string]string{
		fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/tls/ws", port(page.Listener.Addr())): "a page (404 Not Found with text/plain) is the answer, and not a node's",
		closed + "/tls/ws": "connect: connection refused",
	} {
		dialer := newTestNode(t, Config{})
		err := dialer.Connect(testContext(t), strangerID(t), multiaddr.StringCast(addr))
		if want := fmt.Sprintf("dial peer %v: %s: %s (TIME)", strangerID(t), addr, want); goldenText(err) != want {
			t.Errorf("Connect = %q,\nwant %q", goldenText(err), want)
		}
		if strings.HasPrefix(addr, closed) {
			checkIs(t, "Connect", err, syscall.ECONNREFUSED)
		}
	}
}

// The password goes to who shows the certificate of the proxy's name, if it is to
// be encrypted.
func TestProxyByTLSIsChecked(t *testing.T) {
	asked := false
	impostor := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	impostor.Config.ErrorLog = log.New(io.Discard, "", 0)
	impostor.StartTLS()
	t.Cleanup(impostor.Close)
	by, err := url.Parse(impostor.URL)
	if err != nil {
		t.Fatal(err)
	}
	by.User = url.UserPassword("me", "secret")
	dialer := newTestNode(t, Config{Proxy: through(by)})
	err = dialer.Connect(testContext(t), strangerID(t), multiaddr.StringCast("/ip4/192.0.2.1/tcp/443/tls/ws"))
	if err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "secret") || asked {
		t.Errorf("Connect = %v, asked = %v, want that the certificate is not accepted", err, asked)
	}
}

func TestProxySOCKS(t *testing.T) {
	member := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0/tls/ws")})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); work.Wait() })
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { serveSOCKS(t, c) })
		}
	})
	dialer := newTestNode(t, Config{Proxy: through(&url.URL{Scheme: "socks5", Host: l.Addr().String()})})
	if err := dialer.Connect(testContext(t), member.ID(), member.Addrs()...); err != nil {
		t.Error(err)
	}
	dialer.Close()
	member.Close()
}

// serveSOCKS is a proxy by RFC 1928 for one connection to an address of IPv4.
func serveSOCKS(t *testing.T, c net.Conn) {
	defer c.Close()
	ask := make([]byte, 3+10)
	if _, err := io.ReadFull(c, ask[:3]); err != nil {
		t.Error(err)
		return
	}
	_, _ = c.Write([]byte{5, 0})
	if _, err := io.ReadFull(c, ask[3:]); err != nil || ask[6] != 1 {
		t.Errorf("the proxy is asked for %x, %v", ask[3:], err)
		return
	}
	out, err := net.Dial("tcp", fmt.Sprintf("%v:%d", net.IP(ask[7:11]), int(ask[11])<<8|int(ask[12])))
	if err != nil {
		t.Error(err)
		return
	}
	defer out.Close()
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, c)
		out.Close()
	}()
	_, _ = io.Copy(c, out)
	c.Close()
	<-done
}
