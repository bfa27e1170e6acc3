package daemon

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// What a page of the web may have asked for is refused, whoever passed it on to the
// socket, and so is what has no route: always with the API's own error.
func TestForeignRequests(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	for _, tt := range []struct {
		name, method, path string
		header             []string
		status             int
		code               control.Code
	}{
		{"a program", "GET", "/v1/status", []string{"Host: node"}, 200, ""},
		{"a program that knows no name", "GET", "/v1/status", []string{"Host: localhost"}, 200, ""},
		{"a page, by its origin", "POST", "/v1/down", []string{"Host: node", "Origin: https://example.com"}, 403, control.CodeForeign},
		{"a page without an origin", "GET", "/v1/status", []string{"Host: localhost", "Origin: null"}, 403, control.CodeForeign},
		{"an image in a page", "GET", "/v1/status", []string{"Host: localhost", "Sec-Fetch-Site: cross-site"}, 403, control.CodeForeign},
		{"a name that was led here", "GET", "/v1/status", []string{"Host: rebound.example.com"}, 403, control.CodeForeign},
		{"a port that passes on", "GET", "/v1/status", []string{"Host: localhost:8080"}, 403, control.CodeForeign},
		{"an address", "GET", "/v1/status", []string{"Host: 127.0.0.1"}, 403, control.CodeForeign},
		{"no host", "GET", "/v1/status", []string{"Host:"}, 403, control.CodeForeign},
		{"a page that dials", "POST", "/v1/dial/a/b", []string{"Host: node", "Origin: http://localhost", "Upgrade: p2pnode-raw", "Connection: Upgrade"}, 403, control.CodeForeign},
		{"before it flies", "OPTIONS", "/v1/down", []string{"Host: node", "Origin: https://example.com", "Access-Control-Request-Method: POST"}, 403, control.CodeForeign},
		{"no path", "GET", "/v2/status", []string{"Host: node"}, 404, control.CodeNotFound},
		{"the root", "GET", "/", []string{"Host: node"}, 404, control.CodeNotFound},
		{"a path that is not clean", "GET", "/v1//status", []string{"Host: node"}, 404, control.CodeNotFound},
		{"a path that goes up", "GET", "/v1/x/../status", []string{"Host: node"}, 404, control.CodeNotFound},
		{"no method", "PUT", "/v1/status", []string{"Host: node"}, 405, control.CodeBadRequest},
		{"all there is", "OPTIONS", "*", []string{"Host: node"}, 404, control.CodeNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := ask(t, s, tt.method, tt.path, "", tt.header...)
			var e control.Error
			err := json.Unmarshal(body, &e)
			if err != nil || status != tt.status || e.Code != tt.code || tt.status != 200 && e.Text == "" {
				t.Errorf("%s %s = %d %s, want %d %s", tt.method, tt.path, status, body, tt.status, tt.code)
			}
		})
	}
	if _, err := s.Status(testContext(t)); err != nil {
		t.Errorf("Status afterwards = %v", err)
	}
}

// A client that is slow, sends too much, leaves in the middle or asks for several things
// at once keeps nobody else from being answered.
func TestHostileClients(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	for range 200 {
		c := connectSocket(t, s)
		fmt.Fprintf(c, "POST /v1/exposed HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\n{") // and no more
	}
	for range 200 {
		connectSocket(t, s) // says nothing
	}
	c := connectSocket(t, s)
	go func() {
		fmt.Fprintf(c, "POST /v1/exposed HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			if _, err := fmt.Fprintf(c, "1000\r\n%s\r\n", strings.Repeat(" ", 0x1000)); err != nil {
				return // it is cut off
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("the answer to a body without end is %v, %v, want 400", resp, err)
	}
	p := connectSocket(t, s)
	const many = 100
	go fmt.Fprint(p, strings.Repeat("GET /v1/status HTTP/1.1\r\nHost: node\r\n\r\n", many))
	in := bufio.NewReader(p)
	for i := range many {
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("answer %d of %d asked for at once is %v, %v", i, many, resp, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Status(testContext(t)); err != nil {
		t.Errorf("Status beside them = %v", err)
	}
}
