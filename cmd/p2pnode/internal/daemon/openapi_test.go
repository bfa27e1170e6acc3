package daemon

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// described is what docs/openapi.yaml says of the API.
type described struct {
	doc *openapi3.T
	ops map[string]*openapi3.Operation // by method and path, as a route is written
}

func describedAPI(t testing.TB) described {
	t.Helper()
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromFile("../../../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(loader.Context); err != nil {
		t.Fatal(err)
	}
	d := described{doc, map[string]*openapi3.Operation{}}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			d.ops[method+" "+path] = op
		}
	}
	return d
}

// check tells of an answer that is not as described.
func (d described) check(t testing.TB, op string, status int, header http.Header, body []byte) {
	t.Helper()
	want := d.ops[op].Responses.Status(status)
	if want == nil {
		if want = d.ops[op].Responses.Default(); want == nil || status < 400 {
			t.Errorf("%s = %d %.300s, which is not described", op, status, body)
			return
		}
	}
	if len(want.Value.Content) == 0 {
		if len(body) > 0 {
			t.Errorf("%s = %d %.300s, want no body", op, status, body)
		}
		return
	}
	kind := header.Get("Content-Type")
	media := want.Value.Content[kind]
	if media == nil {
		t.Errorf("%s = %d with the type %q, want one of %v", op, status, kind, slices.Sorted(maps.Keys(want.Value.Content)))
		return
	}
	if body != nil {
		d.checkValue(t, op, media.Schema.Value, body)
	}
}

func (d described) checkValue(t testing.TB, what string, schema *openapi3.Schema, data []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Errorf("%s = %.300s: %v", what, data, err)
		return
	}
	if err := schema.VisitJSON(v, openapi3.EnableFormatValidation()); err != nil {
		t.Errorf("%s = %.1000s: %v", what, data, err)
	}
}

// literals returns the strings in this package's code that a pattern has one group of.
func literals(t *testing.T, find func(ast.Node) (string, bool)) []string {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := find(n); ok {
				out = append(out, s)
			}
			return true
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func text(n ast.Node) (string, bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// Each route is described, and nothing else is; so is each parameter.
func TestRoutesAreDescribed(t *testing.T) {
	d := describedAPI(t)
	route := regexp.MustCompile(`^[A-Z]+ /v1/`)
	routes := literals(t, func(n ast.Node) (string, bool) {
		s, ok := text(n)
		return s, ok && route.MatchString(s)
	})
	if want := slices.Sorted(maps.Keys(d.ops)); !slices.Equal(routes, want) {
		t.Errorf("the routes are\n%s\nwant, as described,\n%s", strings.Join(routes, "\n"), strings.Join(want, "\n"))
	}
	asked := literals(t, func(n ast.Node) (string, bool) {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return "", false
		}
		if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != "query" {
			return "", false
		}
		return text(call.Args[1])
	})
	var said []string
	for _, op := range d.ops {
		for _, p := range op.Parameters {
			if p.Value.In == "query" {
				said = append(said, p.Value.Name)
			}
		}
	}
	slices.Sort(said)
	if said = slices.Compact(said); !slices.Equal(asked, said) {
		t.Errorf("the parameters are %q, want, as described, %q", asked, said)
	}
}

// What a node answers is what is described, on each route.
func TestAnswersAreAsDescribed(t *testing.T) {
	d := describedAPI(t)
	nodes := overlaytest.NewWith(t, 2, overlaytest.Network())
	l := listen(t, nodes[0], "web")
	s, other := serve(t, nodes[0]), serve(t, nodes[1])
	invite, err := nodes[0].Invite(overlay.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events := connectSocket(t, s)
	fmt.Fprint(events, "GET /v1/events HTTP/1.1\r\nHost: node\r\n\r\n")
	told, err := http.ReadResponse(bufio.NewReader(events), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer told.Body.Close()
	proxy := "" // where one listens
	seen := map[string]bool{"GET /v1/events": true}
	for _, tt := range []struct {
		of                       *served
		method, route, url, body string
	}{
		{s, "GET", "/v1/status", "", ""},
		{s, "GET", "/v1/members", "", ""},
		{s, "POST", "/v1/whois", "?member=node1", ""},
		{s, "POST", "/v1/ping", "?member=node1&upgrade=yes", ""},
		{s, "GET", "/v1/doctor", "", ""},
		{s, "GET", "/v1/doctor", "?member=node1", ""},
		{s, "POST", "/v1/doctor", "", ""},
		{s, "POST", "/v1/doctor", "?member=node1", ""},
		{s, "POST", "/v1/exposed", "", `{"service":"db","target":"127.0.0.1:1","allow":[{"rule":"node1"},{"rule":"nobody"}]}`},
		{s, "POST", "/v1/forwards", "", `{"listen":"unix:DIR/f","target":"/web","direct_only":true,"wait_direct":1,"plain":true}`},
		{s, "POST", "/v1/forwards/several", "", `[{"listen":"unix:DIR/g","target":"/web"},{"listen":"unix:DIR/h","target":"/web"}]`},
		{s, "POST", "/v1/proxies", "", `{"listen":"127.0.0.1:0","others":true}`},
		{s, "GET", "/v1/services", "", ""},
		{s, "POST", "/v1/wait", "", `{"for":"service","what":"/web"}`},
		{s, "POST", "/v1/reload", "", ""},
		{s, "DELETE", "/v1/proxies", "?listen=PROXY", ""},
		{s, "GET", "/v1/access", "", ""},
		{s, "POST", "/v1/access", "", `{"service":"db","deny":[{"rule":"role:admin"}]}`},
		{s, "POST", "/v1/invites", "", `{"expires":3600000000000,"roles":"member","name":"third","uses":1,"services":["db"]}`},
		{s, "GET", "/v1/invites", "", ""},
		{other, "POST", "/v1/dial/{member}/{service}", "/node0/web?direct=1s&plain=yes", ""},
		{other, "POST", "/v1/dial/{service}", "/web", ""},
		{other, "POST", "/v1/dial", "?target=node0/web", ""},
		{s, "GET", "/v1/status", "", ""}, // with all of that
		{other, "GET", "/v1/streams/{id}", "/1", ""},
		{s, "DELETE", "/v1/exposed", "?service=db", ""},
		{s, "DELETE", "/v1/forwards", "?listen=unix:DIR/f", ""},
		{s, "POST", "/v1/revocations", "", `{"who":"` + invite.ID().String() + `"}`},
		{other, "POST", "/v1/leave", "", ""},
		{s, "POST", "/v1/down", "", ""},
	} {
		path, _, _ := strings.Cut(tt.route, "/{")
		body := strings.ReplaceAll(tt.body, "DIR", s.dir)
		resp, answer := exchange(t, tt.of, tt.method, path+strings.NewReplacer("DIR", s.dir, "PROXY", proxy).Replace(tt.url), body, "Connection: Upgrade", "Upgrade: p2pnode-raw")
		op := tt.method + " " + tt.route
		if op == "POST /v1/proxies" {
			var p control.Proxy
			_ = json.Unmarshal(answer, &p) // it is checked
			proxy = p.Listen
		}
		if resp.StatusCode >= 400 && op != "POST /v1/reload" { // this node has no file
			t.Errorf("%s%s = %d %s", op, tt.url, resp.StatusCode, answer)
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			accept(t, l)
		}
		d.check(t, op, resp.StatusCode, resp.Header, answer)
		seen[op] = true
	}
	for op := range d.ops {
		if !seen[op] {
			t.Errorf("%s was not asked", op)
		}
	}
	kinds := map[control.EventKind]bool{}
	for lines := bufio.NewScanner(told.Body); lines.Scan(); {
		d.checkValue(t, "an event", d.doc.Components.Schemas["Event"].Value, lines.Bytes())
		var e control.Event
		_ = json.Unmarshal(lines.Bytes(), &e) // which was looked at
		kinds[e.Kind] = true
	}
	for _, kind := range []control.EventKind{control.EventExposed, control.EventUnexposed, control.EventForward, control.EventUnforward, control.EventDown} {
		if !kinds[kind] {
			t.Errorf("no event tells of %s", kind)
		}
	}
}

// exchange makes one request, and returns the answer with its body.
func exchange(t testing.TB, s *served, method, url, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	c := connectSocket(t, s)
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: node\r\n", method, url)
	for _, line := range header {
		fmt.Fprintf(&request, "%s\r\n", line)
	}
	if body != "" {
		fmt.Fprintf(&request, "Content-Length: %d\r\n", len(body))
	}
	fmt.Fprintf(&request, "\r\n%s", body)
	_, _ = c.Write(request.Bytes()) // if it is cut off, the answer says why
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.300q is answered with %v", request.String(), err)
	}
	var answer bytes.Buffer
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.Header.Get("Content-Type") == "application/jsonl" {
		return resp, nil // what follows has no end
	}
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		t.Fatalf("%.300q is answered with %v", request.String(), err)
	}
	return resp, answer.Bytes()
}
