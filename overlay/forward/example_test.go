package forward_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/p2pnode/p2pnode/overlay/forward"
)

// mesh stands for an overlay.Mesh. It knows one service, and its streams are TCP
// connections.
type mesh struct{ net.Listener }

func (m mesh) Listen(service string) (net.Listener, error) { return m.Listener, nil }

func (m mesh) DialContext(ctx context.Context, _, target string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", m.Addr().String())
}

func newMesh() mesh {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return mesh{ln}
}

// A web server is offered as a service, and used through a local port.
func Example() {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello from alice")
	}))
	defer web.Close()
	m := newMesh()

	target, err := forward.ParseAddress(web.Listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	e, err := forward.NewExpose(m, target, forward.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	f, err := forward.NewForward(m, "alice/web", forward.Address{}, forward.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + f.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
	// Output: hello from alice
}

func ExampleParseAddress() {
	for _, s := range []string{"8080", "[0::1]:53", "unix:/run/db.sock", ":8080"} {
		a, err := forward.ParseAddress(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(a.Network(), a)
	}
	// Output:
	// tcp 127.0.0.1:8080
	// tcp [::1]:53
	// unix unix:/run/db.sock
	// address ":8080": empty host
}

// A program that knows proxies reaches a service by its host name.
func ExampleNewProxy() {
	m := newMesh()
	go http.Serve(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello from ", r.Host)
	}))
	defer m.Close()

	p, err := forward.NewProxy(m, forward.Address{}, forward.ProxyConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()

	through := http.ProxyURL(&url.URL{Scheme: "http", Host: p.Addr().String()})
	client := http.Client{Transport: &http.Transport{Proxy: through, DisableKeepAlives: true}}
	resp, err := client.Get("http://web.alice.mesh/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
	// Output: hello from web.alice.mesh
}
