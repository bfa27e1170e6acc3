package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

func TestParse(t *testing.T) {
	f, err := Parse("mesh.toml", []byte(`
# a comment
[node]
name = "alice"
listen = ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]
no-lan = true
stream-limit = "1h"

[[expose]]
service = "web"
target = "3000"

[[expose]]
service = "db"
target = "unix:/run/db"
allow = ["bob", "role:admin"]
deny = ["carol"]

[[forward]]
listen = "8080"
target = "bob/web"

[[forward]]
listen = "unix:/run/x"
target = "/x"
direct-only = true
wait-direct = "10s"
plain = true

[[proxy]]

[[proxy]]
listen = "1081"
others = true
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &File{
		Path: "mesh.toml",
		Node: []Setting{
			{"listen", []string{"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"}, Place{5, 1}},
			{"name", []string{"alice"}, Place{4, 1}},
			{"no-lan", []string{"true"}, Place{6, 1}},
			{"stream-limit", []string{"1h"}, Place{7, 1}},
		},
		Exposed: []Exposed{
			{control.Exposed{Service: "web", Target: "3000", From: "config"}, Place{10, 1}},
			{control.Exposed{Service: "db", Target: "unix:/run/db", From: "config", Allow: control.Rules([]string{"bob", "role:admin"}), Deny: control.Rules([]string{"carol"})}, Place{14, 1}},
		},
		Forwards: []Forward{
			{control.Forward{Listen: "127.0.0.1:8080", Target: "bob/web", From: "config"}, Place{20, 1}},
			{control.Forward{Listen: "unix:/run/x", Target: "/x", DirectOnly: true, WaitDirect: 10 * time.Second, Plain: true, From: "config"}, Place{24, 1}},
		},
		Proxies: []Proxy{
			{control.Proxy{Listen: "127.0.0.1:1080", From: "config"}, Place{30, 3}},
			{control.Proxy{Listen: "127.0.0.1:1081", Others: true, From: "config"}, Place{33, 1}},
		},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("Parse = %+v, want %+v", f, want)
	}
}

// Each error says where, what and what to do.
func TestParseErrors(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, tt := range []struct {
		name, in string
		want     []string // what the lines of the error begin with
	}{
		{"no TOML", "[[expose]\n", []string{"mesh.toml:1:"}},
		{"unknown table", "[[exposed]]\nservice = \"web\"\n", []string{`mesh.toml:1:3: unknown key "exposed"; did you mean expose?`}},
		{"unknown table like none", "[zzz]\na = 1\n", []string{`mesh.toml:1:2: unknown key "zzz"; there can be node, expose, forward, proxy`}},
		{"unknown key", "[[expose]]\nservice = \"web\"\ntarget = \"1\"\ncolour = 3\n", []string{`mesh.toml:4:1: unknown key "colour"; there can be service, target, files, allow, deny, idle-timeout`}},
		{"typo", "[[expose]]\nservce = \"web\"\ntarget = \"1\"\n", []string{`mesh.toml:2:1: unknown key "servce"; did you mean service?`}},
		{"underscore", "[[forward]]\nlisten = \"1\"\ntarget = \"/a\"\ndirect_only = true\n", []string{`mesh.toml:4:1: unknown key "direct_only"; did you mean direct-only?`}},
		{"two typos", "[[expose]]\nservce = \"web\"\ntarge = \"1\"\n", []string{"mesh.toml:2:1: ", "mesh.toml:3:1: "}},
		{"key twice", "[[expose]]\nservice = \"web\"\nservice = \"db\"\ntarget = \"1\"\n", []string{"mesh.toml:3:1: service is in line 2 already; take one of the two out"}},
		{"table twice", "[node]\nname = \"a\"\n[node]\nno-lan = true\n", []string{"mesh.toml:3:2: [node] is in line 1 already; put both together"}},
		{"service twice", "[[expose]]\nservice = \"web\"\ntarget = \"1\"\n[[expose]]\nservice = \"web\"\ntarget = \"2\"\n", []string{"mesh.toml:5:1: service web is exposed in line 2 already; take one of the two out"}},
		{"address twice", "[[forward]]\nlisten = \"8000\"\ntarget = \"/a\"\n[[forward]]\nlisten = \"127.0.0.1:8000\"\ntarget = \"/b\"\n", []string{"mesh.toml:5:1: line 2 listens at 127.0.0.1:8000 already; choose another port"}},
		{"address of a proxy twice", "[[proxy]]\n[[forward]]\nlisten = \"1080\"\ntarget = \"/a\"\n", []string{"mesh.toml:1:3: line 3 listens at 127.0.0.1:1080 already"}},
		{"files and a target", "[[expose]]\nservice = \"a\"\ntarget = \"1\"\nfiles = \"/srv\"\n", []string{"mesh.toml:4:1: there is a target too"}},
		{"files in a relative path", "[[expose]]\nservice = \"a\"\nfiles = \"srv\"\n", []string{"mesh.toml:3:1: files in \"srv\": the path is relative"}},
		{"idle for too long", "[[forward]]\nlisten = \"8000\"\ntarget = \"/a\"\nidle-timeout = \"25h\"\n", []string{"mesh.toml:4:1: idle-timeout is 25h0m0s; want 0s to 24h0m0s"}},
		{"the system's port", "[[forward]]\nlisten = \"80\"\ntarget = \"/a\"\n", []string{`mesh.toml:2:1: address "80": ports below 1024 are the system's: to listen on one, write 127.0.0.1:80`}},
		{"mode of a port", "[[forward]]\nlisten = \"8000\"\ntarget = \"/a\"\nmode = \"0660\"\n", []string{"mesh.toml:2:1: mode and owner are for a unix socket"}},
		{"no mode", "[[forward]]\nlisten = \"unix:/a\"\ntarget = \"/a\"\nmode = \"rw\"\n", []string{`mesh.toml:4:1: mode "rw": want octal digits, as 0660`}},
		{"header for datagrams", "[[expose]]\nservice = \"a\"\ntarget = \"udp:53\"\nproxy-protocol = true\n", []string{"mesh.toml:4:1: proxy-protocol is for targets of bytes"}},
		{"ports of another service", "[[expose]]\nservice = \"web\"\ntarget = \"8000-8999\"\n", []string{`mesh.toml:3:1: address "8000-8999": port "8000-8999" is not a number`}},
		{"ports that are one", "[[expose]]\nservice = \"*\"\ntarget = \"8080\"\n", []string{`mesh.toml:3:1: ports "8080": want the first and the last, as 8000-8999`}},
		{"ports backwards", "[[expose]]\nservice = \"*\"\ntarget = \"9-8\"\n", []string{`mesh.toml:3:1: ports "9-8": the last, 8, is below the first, 9`}},
		{"no ports", "[[expose]]\nservice = \"*\"\n", []string{`mesh.toml:1:3: there is no target; write target = "..."`}},
		{"ports twice", "[[expose]]\nservice = \"*\"\ntarget = \"1-2\"\n[[expose]]\nservice = \"*\"\ntarget = \"3-4\"\n", []string{"mesh.toml:5:1: service * is exposed in line 2 already; take one of the two out"}},
		{"ports of files", "[[expose]]\nservice = \"*\"\nfiles = \"/srv\"\n", []string{"mesh.toml:3:1: the service * is of ports;"}},
		{"no service", "[[expose]]\ntarget = \"1\"\n", []string{`mesh.toml:1:3: there is no service; write service = "..."`}},
		{"empty entry", "[[forward]]\n", []string{`mesh.toml:1:3: there is no listen;`, `mesh.toml:1:3: there is no target;`}},
		{"service with spaces", "[[expose]]\nservice = \"my web\"\ntarget = \"1\"\n", []string{`mesh.toml:2:1: service name "my web": invalid: only a-z, 0-9 and hyphens may be in it`}},
		{"service of 300 letters", "[[expose]]\nservice = \"" + long + "\"\ntarget = \"1\"\n", []string{`mesh.toml:2:1: service name "aaa`}},
		{"port that is none", "[[forward]]\nlisten = \"http\"\ntarget = \"/a\"\n", []string{`mesh.toml:2:1: address "http": port "http" is not a number`}},
		{"port out of range", "[[forward]]\nlisten = \"99999\"\ntarget = \"/a\"\n", []string{`mesh.toml:2:1: address "99999": port 99999 is out of range: the highest is 65535`}},
		{"number for a port", "[[forward]]\nlisten = 8080\ntarget = \"/a\"\n", []string{"mesh.toml:2:"}},
		{"any port", "[[forward]]\nlisten = \"0\"\ntarget = \"/a\"\n", []string{"mesh.toml:2:1: port 0 would be another one each time"}},
		{"port 0 behind a service", "[[expose]]\nservice = \"a\"\ntarget = \"0\"\n", []string{"mesh.toml:3:1: target 127.0.0.1:0: port 0 can't be dialled"}},
		{"no target", "[[forward]]\nlisten = \"8000\"\ntarget = \"web\"\n", []string{`mesh.toml:3:1: not a target: "web": want MEMBER/SERVICE`}},
		{"no rule", "[[expose]]\nservice = \"a\"\ntarget = \"1\"\nallow = [\"a b\"]\n", []string{`mesh.toml:4:1: "a b": not a rule`}},
		{"no duration", "[[forward]]\nlisten = \"8000\"\ntarget = \"/a\"\ndirect-only = true\nwait-direct = \"soon\"\n", []string{`mesh.toml:5:`}},
		{"wait for nothing", "[[forward]]\nlisten = \"8000\"\ntarget = \"/a\"\nwait-direct = \"1s\"\n", []string{"mesh.toml:4:1: wait-direct needs direct-only = true"}},
		{"table in [node]", "[node.listen]\na = 1\n", []string{"mesh.toml:1:2: listen is neither a text"}},
		{"inline", "expose = [{service = \"a b\", target = \"1\"}]\n", []string{`mesh.toml:1:1: service name "a b"`}},
		{"too long", strings.Repeat("#", maxFile+1), []string{"mesh.toml: it has more than"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("mesh.toml", []byte(tt.in))
			if err == nil {
				t.Fatalf("Parse = %+v, want an error", f)
			}
			lines := strings.Split(err.Error(), "\n")
			for i, want := range tt.want {
				if len(lines) != len(tt.want) || !strings.HasPrefix(lines[i], want) {
					t.Fatalf("Parse = %v, want %q", err, tt.want)
				}
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var in bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&in, "[[expose]]\nservice = \"A %d\"\ntarget = \"1\"\n", i)
	}
	_, err := Parse("mesh.toml", in.Bytes())
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != maxProblems+1 || lines[maxProblems] != "mesh.toml: 980 more like these" {
		t.Errorf("Parse = %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// What a node runs, written down, is read as that.
func TestFormat(t *testing.T) {
	n := control.Node{
		Name: "alice",
		Exposed: []control.Exposed{
			{Service: "*", Target: "127.0.0.1:8000-8999", Allow: control.Rules([]string{"everyone"}), Deny: control.Rules([]string{"bob"})},
			{Service: "db", Target: "unix:/run/db", Allow: control.Rules([]string{"role:admin"}), Deny: control.Rules([]string{"bob"})},
			{Service: "docs", Files: "/srv/docs", Allow: control.Rules([]string{"everyone"})},
			{Service: "web", Target: "127.0.0.1:3000", Allow: control.Rules([]string{"everyone"})},
		},
		Forwards: []control.Forward{
			{Listen: "127.0.0.1:8080", Target: "/web", Spread: true},
			{Listen: "udp:127.0.0.1:53", Target: "bob/dns", IdleTimeout: time.Minute},
			{Listen: "unix:/run/x", Target: "/x", DirectOnly: true, WaitDirect: 90 * time.Second, Plain: true},
		},
		Proxies: []control.Proxy{{Listen: "127.0.0.1:1080", Others: true}},
	}
	data, err := Format(n)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("mesh.toml", data)
	if err != nil {
		t.Fatalf("Parse(%s) = %v", data, err)
	}
	if len(f.Exposed) != 4 || len(f.Forwards) != 3 || len(f.Proxies) != 1 || !f.Proxies[0].Others || f.Node[0].Values[0] != "alice" || strings.Contains(string(data), "everyone") {
		t.Fatalf("Parse(%s) = %+v", data, f)
	}
	for i, x := range f.Exposed {
		if x.Service != n.Exposed[i].Service || x.Target != n.Exposed[i].Target || x.Files != n.Exposed[i].Files || !reflect.DeepEqual(x.Deny, n.Exposed[i].Deny) {
			t.Errorf("service %d = %+v, want %+v", i, x, n.Exposed[i])
		}
	}
	for i, x := range f.Forwards {
		want := n.Forwards[i]
		want.From = control.FromConfig
		if !reflect.DeepEqual(x.Forward, want) {
			t.Errorf("forward %d = %+v, want %+v", i, x.Forward, want)
		}
	}
}

// Whatever is in a file, it is read or refused with a place.
func FuzzParse(f *testing.F) {
	f.Add([]byte("[node]\nname = \"a\"\n[[expose]]\nservice = \"web\"\ntarget = \"3000\"\nallow = [\"bob\"]\n[[forward]]\nlisten = \"8000\"\ntarget = \"/a\"\nwait-direct = \"1s\"\n"))
	f.Add([]byte("[[exposed]]\nservce = 1\n"))
	f.Add([]byte("expose = [{service = \"a\"}]\na.b.c = 1\n[a]\n"))
	f.Add([]byte("[[expose]]\nservice = \"a\"\n[expose.x]\ny = 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f", data)
		switch {
		case (file == nil) == (err == nil):
			t.Errorf("Parse(%q) = %v, %v", data, file, err)
		case err != nil && !strings.HasPrefix(err.Error(), "f:"):
			t.Errorf("Parse(%q) = %v, want that it names the file", data, err)
		}
	})
}
