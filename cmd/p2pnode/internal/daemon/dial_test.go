package daemon

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// A raw is a client of the API that knows HTTP and nothing else.
type raw struct {
	*net.UnixConn
	in   *bufio.Reader
	resp *http.Response
}

// connectSocket connects to the node as any program can.
func connectSocket(t testing.TB, s *served) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(s.dir, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

// dialRaw asks for a raw stream, and sends ahead of the answer.
func dialRaw(t testing.TB, s *served, path, ahead string) raw {
	t.Helper()
	c := connectSocket(t, s)
	fmt.Fprintf(c, "POST /v1/dial/%s HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: p2pnode-raw\r\n\r\n%s", path, ahead)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw{c, in, resp}
}

// outcome asks how a raw stream stands.
func (r raw) outcome(t testing.TB, s *served) (out control.Outcome) {
	t.Helper()
	status, body := ask(t, s, "GET", "/v1/streams/"+r.resp.Header.Get(control.StreamHeader), "")
	if err := json.Unmarshal(body, &out); err != nil || status != 200 {
		t.Fatalf("the outcome is %d %s", status, body)
	}
	return out
}

// ask makes one request, with the header lines that are given.
func ask(t testing.TB, s *served, method, path, body string, header ...string) (status int, answer []byte) {
	t.Helper()
	c := connectSocket(t, s)
	defer c.Close()
	if len(header) == 0 {
		header = []string{"Host: node"}
	}
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n%s", method, path, strings.Join(header, "\r\n"), len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// The bytes of a raw stream are those of the service, and each direction ends by itself.
func TestRawDial(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	l := listen(t, nodes[0], "web")
	s := serve(t, nodes[1])
	for _, path := range []string{"node0/web", "web", nodes[0].Self().ID.String() + "/web", "node0/web?plain=yes"} {
		t.Run(path, func(t *testing.T) {
			r := dialRaw(t, s, path, "ahead,")
			if r.resp.StatusCode != 101 || r.resp.Header.Get("Upgrade") != control.ProtocolRaw || r.resp.Header.Get(control.PathHeader) != "unix" {
				t.Fatalf("the answer is %+v", r.resp)
			}
			far := accept(t, l)
			if got := r.outcome(t, s).State; got != control.StreamOpen {
				t.Errorf("state at first = %s, want open", got)
			}
			sent := make([]byte, 1<<20)
			_, _ = rand.Read(sent)
			go func() {
				_, _ = r.Write(sent)
				_ = r.CloseWrite()
			}()
			if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, append([]byte("ahead,"), sent...)) {
				t.Errorf("the service read %d bytes, %v, want what was sent", len(got), err)
			}
			if _, err := io.WriteString(far, "and back"); err != nil {
				t.Fatal(err)
			}
			if err := far.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r.in); err != nil || string(got) != "and back" {
				t.Errorf("the client read %q, %v, want what was answered", got, err)
			}
			if got := r.outcome(t, s); got.State == control.StreamBroken || got.Error != nil {
				t.Errorf("outcome = %+v, want that it did not break", got)
			}
		})
	}
}

// A stream that breaks looks to a raw client as one that ends. That it broke, and why,
// is known by then.
func TestRawStreamThatBreaks(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	l := listen(t, nodes[0], "web")
	s := serve(t, nodes[1])
	for _, tt := range []struct {
		name string
		half bool // the client has ended its direction before
		end  func(t *testing.T, far io.Closer, reset func() error)
		want control.StreamState
		code control.Code
	}{
		{"reset", false, func(t *testing.T, _ io.Closer, reset func() error) { _ = reset() }, control.StreamBroken, control.CodeBroken},
		{"reset after the client's end", true, func(t *testing.T, _ io.Closer, reset func() error) { _ = reset() }, control.StreamBroken, control.CodeBroken},
		{"end after the client's end", true, func(t *testing.T, far io.Closer, _ func() error) { far.Close() }, control.StreamEnded, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := dialRaw(t, s, "node0/web", "")
			far := accept(t, l)
			if _, err := io.WriteString(far, "some"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r.in, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if tt.half {
				if err := r.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(far); err != nil {
					t.Fatal(err)
				}
			}
			tt.end(t, far, far.Reset)
			_, _ = io.ReadAll(r.in) // to what looks like an end
			got := r.outcome(t, s)
			for got.State == control.StreamOpen && tt.want == control.StreamEnded {
				got = r.outcome(t, s) // the directions end one after the other
			}
			if got.State != tt.want || tt.code != "" && (got.Error == nil || got.Error.Code != tt.code || got.Error.Text == "") {
				t.Errorf("outcome = %+v, want %s, %s", got, tt.want, tt.code)
			}
		})
	}
	status, body := ask(t, s, "GET", "/v1/streams/999", "")
	if status != 404 || !bytes.Contains(body, []byte(`"code":"not-found"`)) {
		t.Errorf("the outcome of no stream is %d %s, want 404", status, body)
	}
}

// A dial that can't be says why, in JSON, and the connection is one for requests still.
func TestRawDialRefused(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	s := serve(t, nodes[1])
	for _, tt := range []struct {
		name, path, header, body string
		status                   int
		code                     control.Code
	}{
		{"nobody", "nobody/web", "Upgrade: p2pnode-raw", "", 404, control.CodeUnknownMember},
		{"no service", "node0/web", "Upgrade: p2pnode-raw", "", 404, control.CodeNoService},
		{"no provider", "web", "Upgrade: p2pnode-raw", "", 404, control.CodeNoProvider},
		{"no name", "node0/a%20b", "Upgrade: p2pnode-raw", "", 400, control.CodeBadRequest},
		{"long name", "node0/" + strings.Repeat("a", 300), "Upgrade: p2pnode-raw", "", 400, control.CodeBadRequest},
		{"no upgrade", "node0/web", "X: y", "", 426, control.CodeBadRequest},
		{"another upgrade", "node0/web", "Upgrade: websocket", "", 426, control.CodeBadRequest},
		{"a body", "node0/web", "Upgrade: p2pnode-raw", "x", 400, control.CodeBadRequest},
		{"a wait that is none", "node0/web?direct=soon", "Upgrade: p2pnode-raw", "", 400, control.CodeBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := ask(t, s, "POST", "/v1/dial/"+tt.path, tt.body, "Host: node", "Connection: Upgrade", tt.header)
			var e control.Error
			if err := json.Unmarshal(body, &e); err != nil || status != tt.status || e.Code != tt.code {
				t.Errorf("dial/%s = %d %s, want %d %s", tt.path, status, body, tt.status, tt.code)
			}
		})
	}
}

// Only so many outcomes are remembered, the newest.
func TestOutcomesAreBounded(t *testing.T) {
	s := newRawStreams()
	open := s.begin()
	var last string
	for range maxOutcomes + 1 {
		last = s.begin()
		s.end(last, nil)
	}
	if len(s.all) != maxOutcomes+1 || len(s.over) != maxOutcomes {
		t.Errorf("%d streams are remembered, want %d and the open one", len(s.all), maxOutcomes)
	}
	for id, want := range map[string]bool{open: true, "2": false, "3": true, last: true} {
		if _, err := s.outcome(id); (err == nil) != want {
			t.Errorf("outcome(%s) = %v, want that it is remembered: %v", id, err, want)
		}
	}
}
