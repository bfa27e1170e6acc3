package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// What is asked wrongly is told so, and does nothing.
func TestBadRequests(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	socket := filepath.Join(s.dir, "control.sock")
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	defer client.CloseIdleConnections()
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string // substring of the answer
	}{
		{"no body", "POST", "exposed", "", 400, "request body: EOF"},
		{"no JSON", "POST", "exposed", "web 3000", 400, "request body: invalid character 'w'"},
		{"JSON cut off", "POST", "exposed", `{"service":"web"`, 400, "request body: unexpected EOF"},
		{"another shape", "POST", "exposed", `["web"]`, 400, "cannot unmarshal array"},
		{"another type", "POST", "exposed", `{"service":7}`, 400, "cannot unmarshal number"},
		{"unknown field", "POST", "exposed", `{"service":"web","target":"3000","public":true}`, 400, `unknown field \"public\"`},
		{"two values", "POST", "forwards", `{"listen":"0","target":"/web"} {}`, 400, "more than one value"},
		{"text behind", "POST", "forwards", `{"listen":"0","target":"/web"}x`, 400, "more than one value"},
		{"too long", "POST", "invites", `{"name":"` + strings.Repeat("a", maxRequest) + `"}`, 400, "request body too large"},
		{"too deep", "POST", "invites", strings.Repeat(`[`, 20000), 400, "request body: "},
		{"invite that has ended", "POST", "invites", `{"expires":-1}`, 400, "needs some time"},
		{"invite for no name", "POST", "invites", `{"name":"A B"}`, 400, "only a-z"},
		{"invite for no role", "POST", "invites", `{"roles":"king"}`, 400, `no role \"king\"`},
		{"invite for too many", "POST", "invites", `{"uses":1001}`, 400, "not 0 to 1000"},
		{"invite for less than nobody", "POST", "invites", `{"uses":-1}`, 400, "not 0 to 1000"},
		{"invite to no service", "POST", "invites", `{"services":["A B"]}`, 400, "only a-z"},
		{"invite to too many services", "POST", "invites", `{"services":["a","b","c","d","e","f","g","h","i"]}`, 400, "at most 8"},
		{"revocation of nobody", "POST", "revocations", `{}`, 404, "no such member"},
		{"revocation since no time", "POST", "revocations", `{"who":"a","with_admitted_since":"36h"}`, 400, "request body"},
		{"nobody to look up", "POST", "whois", "", 404, "no such member"},
		{"exposed by no rule", "POST", "exposed", `{"service":"web","target":"3000","allow":[{"rule":"role:king"}]}`, 400, `no role \"king\"`},
		{"exposed and denied", "POST", "exposed", `{"service":"web","target":"3000","deny":[{"rule":"bob"}]}`, 400, "exposed first"},
		{"access without rules", "POST", "access", `{"service":"web"}`, 400, "nobody to allow or deny"},
		{"access to no service", "POST", "access", `{"service":"web","allow":[{"rule":"bob"}]}`, 404, "no such service is exposed"},
		{"no service", "POST", "exposed", `{"target":"3000"}`, 400, "service name"},
		{"no target", "POST", "exposed", `{"service":"web"}`, 400, "address"},
		{"port 0", "POST", "exposed", `{"service":"web","target":"0"}`, 400, "port 0"},
		{"no member", "POST", "ping", "", 404, "no such member"},
		{"no service to withdraw", "DELETE", "exposed", "", 404, "no such service is exposed"},
		{"no forward to end", "DELETE", "forwards?listen=8080", "", 404, "no forward listens there"},
		{"no address to end", "DELETE", "forwards", "", 400, "address"},
		{"no target to dial", "POST", "dial", "", 400, "not a target"},
		{"a wait that is none", "POST", "dial?target=a/b&direct=soon", "", 400, "not how long to wait"},
		{"a wait of less than no time", "POST", "dial?target=a/b&direct=-1s", "", 400, "not how long to wait"},
		{"forward that waits less than no time", "POST", "forwards", `{"listen":"0","target":"/web","wait_direct":-1}`, 400, "not how long to wait"},
		{"forward that waits for ever", "POST", "forwards", `{"listen":"0","target":"/web","wait_direct":9000000000000000}`, 400, "not how long to wait"},
		{"nobody to tell of", "POST", "doctor?member=", "", 404, "no such member"},
		{"nobody to tell of, as it is", "GET", "doctor?member=nobody", "", 404, "no such member"},
		{"a body where none is read", "GET", "events", strings.Repeat("a", 8*maxRequest), 400, "want none"},
		{"wrong method", "GET", "down", "", 405, ""},
		{"unknown path", "GET", "secrets", "", 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(testContext(t), tt.method, "http://node/v1/"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !bytes.Contains(body, []byte(tt.want)) {
				t.Errorf("%s %s = %d %s, %v, want %d and %q", tt.method, tt.path, resp.StatusCode, body, err, tt.status, tt.want)
			}
			if tt.status != 400 {
				return
			}
			var answered control.Error
			if err := json.Unmarshal(body, &answered); err != nil || answered.Code != control.CodeBadRequest || answered.Version != control.Version {
				t.Errorf("%s %s = %s, want the code %s", tt.method, tt.path, body, control.CodeBadRequest)
			}
		})
	}
	n, err := s.Status(testContext(t))
	if err != nil || len(n.Exposed)+len(n.Forwards) > 0 {
		t.Errorf("Status = %+v, %v, want nothing exposed or forwarded", n, err)
	}
}

// No body makes decode do anything but return a value or an error, and what it
// returns is what was meant.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"service":"web","target":"3000","open":1}`))
	f.Add([]byte(`{"service":"web"}{}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/v1/exposed", bytes.NewReader(body))
		e, err := decode[control.Exposed](r)
		if err != nil {
			var bad badRequest
			if !errors.As(err, &bad) {
				t.Errorf("decode = %v, want a badRequest", err)
			}
			return
		}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode[control.Exposed](httptest.NewRequest(http.MethodPost, "/v1/exposed", bytes.NewReader(data)))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("decode(%s) = %+v, %v, want %+v", data, again, err, e)
		}
	})
}
