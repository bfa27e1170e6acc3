package daemon

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// No request made of the description, be it as described or broken, is answered with
// anything that is not described, with a fault of the node, or not at all.
func FuzzRequests(f *testing.F) {
	d := describedAPI(f)
	for _, not := range []string{"POST /v1/down", "POST /v1/leave", "POST /v1/wait"} { // they end the node, or wait for ever
		delete(d.ops, not)
	}
	ops := slices.Sorted(maps.Keys(d.ops))
	mesh := overlaytest.New(f, 1)[0]
	listen(f, mesh, "web")
	s := serve(f, mesh)
	for i := range 20 * len(ops) {
		f.Add(byte(i), uint64(i), "a text")
	}
	f.Fuzz(func(t *testing.T, which byte, seed uint64, text string) {
		op := ops[int(which)%len(ops)]
		m := maker{rand.New(rand.NewPCG(seed, 0)), text, s.dir}
		method, path, _ := strings.Cut(op, " ")
		target, header, body := m.request(path, d.ops[op])
		resp, answer := exchange(t, s, method, target, body, header...)
		d.check(t, op, resp.StatusCode, resp.Header, answer)
		var e control.Error
		if resp.StatusCode >= 400 {
			_ = json.Unmarshal(answer, &e) // it was checked
		}
		if resp.StatusCode == http.StatusInternalServerError || resp.StatusCode >= 400 && e.Text == "" {
			t.Errorf("%s %s %q = %d %s", method, target, body, resp.StatusCode, answer)
		}
		m.undo(t, s, op, resp.StatusCode, answer)
	})
}

// A maker makes requests.
type maker struct {
	*rand.Rand
	text string // that nobody foresaw
	dir  string // for sockets
}

func (m maker) request(path string, op *openapi3.Operation) (target string, header []string, body string) {
	query := url.Values{}
	for _, p := range op.Parameters {
		if m.IntN(8) == 0 && p.Value.In != "path" {
			continue // it is left out
		}
		value := m.word(p.Value.Name)
		switch p.Value.In {
		case "path":
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", url.PathEscape(value))
		case "query":
			query.Add(p.Value.Name, value)
		case "header":
			header = append(header, "Connection: Upgrade", p.Value.Name+": "+pick(m, "p2pnode-raw", "p2pnode-stream", "websocket"))
		}
	}
	if path = strings.TrimSuffix(path, "/"); len(query) > 0 {
		path += "?" + query.Encode()
	}
	if op.RequestBody != nil && m.IntN(10) > 0 {
		data, err := json.Marshal(m.value("", op.RequestBody.Value.Content.Get("application/json").Schema.Value))
		if err != nil {
			return path, header, m.text
		}
		body = string(data)
	}
	switch m.IntN(12) {
	case 0:
		body = body[:m.IntN(len(body)+1)]
	case 1:
		body = m.text
	case 2:
		body += body
	case 3:
		body = strings.Repeat(pick(m, "[", `{"service":`, " ", m.text), m.IntN(maxRequest))
	}
	return path, header, body
}

func pick[T any](m maker, of ...T) T { return of[m.IntN(len(of))] }

// word returns a text for a field or parameter. Nothing is to listen where others could
// connect.
func (m maker) word(name string) string {
	switch name {
	case "listen":
		return pick(m, "0", "127.0.0.1:0", "unix:"+m.dir+"/f", "unix:/none/f", "", ":", "[", "localhost:99999", "a b:1", strings.Repeat("1", 300))
	case "who": // not the node itself
		return pick(m, "nobody", "", "a b", "role:admin", strings.Repeat("0", 32), strings.Repeat("a", 300))
	case "direct":
		return pick(m, "1ms", "-1s", "soon", "", m.text)
	}
	return pick(m, "node0", "nobody", "web", "db", "/web", "node0/web", "nobody/web", "3000", "unix:/tmp/x", "role:admin", "role:king", "everyone",
		"", "*", "a b", "é", "\x00", "../..", "1", "-1", strings.Repeat("a", 300), m.text)
}

// value returns one for a schema, mostly.
func (m maker) value(name string, s *openapi3.Schema) any {
	if m.IntN(12) == 0 {
		return pick[any](m, nil, 7, -1, 1e300, true, m.text, []any{}, map[string]any{"a": 1}, []any{[]any{[]any{}}})
	}
	switch {
	case s.Type.Is("object"):
		out := map[string]any{}
		for key, of := range s.Properties {
			if m.IntN(3) > 0 || slices.Contains(s.Required, key) && m.IntN(10) > 0 {
				out[key] = m.value(key, of.Value)
			}
		}
		if m.IntN(10) == 0 {
			out[m.text] = m.text
		}
		return out
	case s.Type.Is("array"):
		out := []any{}
		for range m.IntN(4) {
			out = append(out, m.value(name, s.Items.Value))
		}
		return out
	case s.Type.Is("integer"):
		return pick[any](m, 0, 1, 1000000, -1, 1<<62)
	case s.Type.Is("boolean"):
		return m.IntN(2) == 0
	case s.Format == "date-time":
		return pick(m, "2026-01-02T03:04:05Z", "9999-12-31T23:59:59Z", "now", "0001-01-01T00:00:00Z")
	}
	return m.word(name)
}

// undo takes back what a request has set up.
func (m maker) undo(t *testing.T, s *served, op string, status int, answer []byte) {
	t.Helper()
	if status != http.StatusOK {
		return
	}
	var err error
	switch op {
	case "POST /v1/exposed":
		var x control.Exposed
		_ = json.Unmarshal(answer, &x) // it was checked
		err = s.Unexpose(t.Context(), x.Service)
	case "POST /v1/proxies":
		var x control.Proxy
		_ = json.Unmarshal(answer, &x)
		err = s.Unproxy(t.Context(), x.Listen)
	case "POST /v1/forwards/several":
		var all []control.Forward
		_ = json.Unmarshal(answer, &all)
		for _, x := range all {
			err = errors.Join(err, s.Unforward(t.Context(), x.Listen))
		}
	case "POST /v1/forwards":
		var x control.Forward
		_ = json.Unmarshal(answer, &x)
		err = s.Unforward(t.Context(), x.Listen)
	}
	if err != nil {
		t.Errorf("undo %s, which was answered with %s: %v", op, answer, err)
	}
}
