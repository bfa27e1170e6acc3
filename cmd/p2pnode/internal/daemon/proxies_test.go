package daemon

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// getThrough fetches a page through a proxy.
func getThrough(t *testing.T, proxy, page string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestProxyAndBack(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	bob := serve(t, nodes[1])
	ctx := testContext(t)
	go http.Serve(listen(t, nodes[0], "web"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	p, err := bob.Proxy(ctx, control.Proxy{Listen: "0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"web.node0.mesh", "web.mesh"} {
		if status, body := getThrough(t, p.Listen, "http://"+host+"/"); status != http.StatusOK || body != host {
			t.Errorf("GET http://%s/ = %d, %q, want 200, %[1]q", host, status, body)
		}
	}
	if status, body := getThrough(t, p.Listen, "http://db.node0.mesh/"); status != http.StatusBadGateway || !strings.HasPrefix(body, "dial node0/db: no such service") {
		t.Errorf("GET of no service = %d, %q, want 502 and why", status, body)
	}
	n, err := bob.Status(ctx)
	if err != nil || len(n.Proxies) != 1 || n.Proxies[0].Total != 3 || n.Proxies[0].Failed != 1 || n.Proxies[0].Others {
		t.Errorf("Status = %+v, %v, want a proxy with 1 of 3 failed", n.Proxies, err)
	}
	wantCode(t, "Unproxy(0)", bob.Unproxy(ctx, "0"), control.CodeNotFound)
	_, port, _ := net.SplitHostPort(p.Listen)
	if err := bob.Unproxy(ctx, port); err != nil {
		t.Errorf("Unproxy = %v", err)
	}
	if _, err := net.Dial("tcp", p.Listen); err == nil {
		t.Error("Dial after Unproxy = nil, want an error")
	}
	wantCode(t, "Unproxy again", bob.Unproxy(ctx, port), control.CodeNotFound)
}

func TestProxyErrors(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	ctx := testContext(t)
	first, err := s.Proxy(ctx, control.Proxy{Listen: "0", Others: true})
	if err != nil || !first.Others {
		t.Fatalf("Proxy = %+v, %v, want one for others", first, err)
	}
	for _, tt := range []struct {
		name string
		want control.Proxy
		code control.Code
	}{
		{"no address", control.Proxy{Listen: "nonsense"}, control.CodeBadRequest},
		{"for others and other machines", control.Proxy{Listen: "0.0.0.0:0", Others: true}, control.CodeBadRequest},
		{"port in use", control.Proxy{Listen: first.Listen}, control.CodeInUse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Proxy(ctx, tt.want)
			wantCode(t, "Proxy", err, tt.code)
		})
	}
	wantCode(t, "Unproxy(nonsense)", s.Unproxy(ctx, "nonsense"), control.CodeBadRequest)
}

// A proxy that is begun while the node goes down is not left behind.
func TestNoProxyAfterTheEnd(t *testing.T) {
	d := newDaemon(t.Context(), overlaytest.New(t, 1)[0], Config{})
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.beginProxy(control.Proxy{Listen: "0"}); !errors.Is(err, errDown) {
		t.Errorf("beginProxy = %v, want %v", err, errDown)
	}
}

// A proxy is there again when the node is started anew, at the same address, and waits
// for that if somebody else has it.
func TestProxyIsKept(t *testing.T) {
	dir := t.TempDir()
	d := restored(t, dir)
	p, err := d.beginProxy(control.Proxy{Listen: "0", Others: true})
	if err != nil {
		t.Fatal(err)
	}
	endDaemon(d)

	other, err := net.Listen("tcp", p.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	d = restored(t, dir)
	if got := d.listProxies(); len(got) != 1 || got[0].Listen != p.Listen || !got[0].Others || !strings.Contains(got[0].Down, "address already in use") {
		t.Errorf("while its port is in use listProxies() = %+v, want it down at %s", got, p.Listen)
	}
	other.Close()
	d.retry()
	if got := d.listProxies(); len(got) != 1 || got[0].Down != "" || !canConnect(p.Listen) {
		t.Errorf("once its port is free listProxies() = %+v, want it up", got)
	}
	if err := d.unproxy(p.Listen); err != nil {
		t.Error(err)
	}
	endDaemon(d)
	if got := restored(t, dir).listProxies(); len(got) != 0 {
		t.Errorf("after unproxy listProxies() = %+v, want none", got)
	}
}
