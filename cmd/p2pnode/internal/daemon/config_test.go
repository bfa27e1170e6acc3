package daemon

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/config"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// A configured is a daemon with a configuration file.
type configured struct {
	*Daemon
	path string
}

// configure starts a daemon in a directory with a file that says text.
func configure(t *testing.T, dir, text string) *configured {
	t.Helper()
	d := newDaemon(t.Context(), openIn(t, dir), Config{})
	t.Cleanup(func() { endDaemon(d) })
	c := &configured{d, filepath.Join(t.TempDir(), "mesh.toml")}
	c.write(t, text)
	f, err := config.Read(c.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.begin(Config{File: f}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *configured) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(c.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// says writes down what the daemon does.
func (c *configured) says() string {
	var out []string
	for _, x := range c.listExposed() {
		s := fmt.Sprintf("%s at %s", x.Service, x.Target)
		for _, r := range x.Allow {
			s += " +" + r.Rule
		}
		for _, r := range x.Deny {
			s += " -" + r.Rule
		}
		out = append(out, s+origin(x.From))
	}
	for _, f := range c.listForwards() {
		out = append(out, fmt.Sprintf("%s to %s plain %v%s", f.Listen, f.Target, f.Plain, origin(f.From)))
	}
	for _, p := range c.listProxies() {
		out = append(out, fmt.Sprintf("proxy at %s others %v%s", p.Listen, p.Others, origin(p.From)))
	}
	return strings.Join(out, "; ")
}

func origin(from string) string {
	if from == "" {
		return ""
	}
	return " from " + from
}

func exposeText(service, target, more string) string {
	return fmt.Sprintf("[[expose]]\nservice = %q\ntarget = %q\n%s\n", service, target, more)
}

func forwardText(listen, target, more string) string {
	return fmt.Sprintf("[[forward]]\nlisten = %q\ntarget = %q\n%s\n", listen, target, more)
}

func proxyText(listen, more string) string {
	return fmt.Sprintf("[[proxy]]\nlisten = %q\n%s\n", listen, more)
}

// A reload does what the file says now, and counts what it did.
func TestReload(t *testing.T) {
	sock, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sock)
	one, two, sock3 := "unix:"+sock+"/1", "unix:"+sock+"/2", "unix:"+sock+"/"+"0"
	port := freePort(t)
	const web = "web at 127.0.0.1:3000 +everyone from config"
	for _, tt := range []struct {
		name, before, after string
		want                string // that the daemon does
		result              control.Reloaded
	}{
		{"nothing", exposeText("web", "3000", "") + forwardText(one, "/db", ""), exposeText("web", "3000", "") + forwardText(one, "/db", ""),
			web + "; " + one + " to /db plain false from config", control.Reloaded{Unchanged: 2}},
		{"other order", exposeText("web", "3000", "") + exposeText("a", "1", ""), exposeText("a", "1", "") + exposeText("web", "3000", ""),
			"a at 127.0.0.1:1 +everyone from config; " + web, control.Reloaded{Unchanged: 2}},
		{"new", "", exposeText("web", "3000", "") + forwardText(one, "/db", ""),
			web + "; " + one + " to /db plain false from config", control.Reloaded{Added: 2}},
		{"gone", exposeText("web", "3000", "") + exposeText("a", "1", "") + forwardText(one, "/db", ""), exposeText("web", "3000", ""),
			web, control.Reloaded{Unchanged: 1, Removed: 2}},
		{"other target", exposeText("web", "1", "") + forwardText(one, "/db", ""), exposeText("web", "3000", "") + forwardText(one, "/x", ""),
			web + "; " + one + " to /x plain false from config", control.Reloaded{Changed: 2}},
		{"other manner", forwardText(one, "/db", ""), forwardText(one, "/db", "plain = true"), one + " to /db plain true from config", control.Reloaded{Changed: 1}},
		{"other address", forwardText(one, "/db", ""), forwardText(two, "/db", ""), two + " to /db plain false from config", control.Reloaded{Added: 1, Removed: 1}},
		{"proxies", proxyText(one, "") + proxyText(two, ""), proxyText(two, "") + proxyText(sock3, ""), "proxy at " + sock3 + " others false from config; proxy at " + two + " others false from config",
			control.Reloaded{Added: 1, Removed: 1, Unchanged: 1}},
		{"other proxy", proxyText("127.0.0.1:"+port, ""), proxyText("127.0.0.1:"+port, "others = true"), "proxy at 127.0.0.1:" + port + " others true from config", control.Reloaded{Changed: 1}},
		{"other rules", exposeText("web", "3000", ""), exposeText("web", "3000", "allow = [\"role:admin\"]\ndeny = [\"bob\"]"),
			"web at 127.0.0.1:3000 +role:admin -bob from config", control.Reloaded{Changed: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := configure(t, t.TempDir(), tt.before)
			d.write(t, tt.after)
			got, err := d.reload()
			tt.result.Version, tt.result.File = control.Version, d.path
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.result) {
				t.Errorf("reload = %+v, %v, want %+v", got, err, tt.result)
			}
			if got := d.says(); got != tt.want {
				t.Errorf("it does %s, want %s", got, tt.want)
			}
			endDaemon(d.Daemon)
		})
	}
}

// What is wrong with a file changes nothing, and is told with its place.
func TestReloadOfABadFile(t *testing.T) {
	sock, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sock)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	one := "unix:" + sock + "/1"
	good := exposeText("web", "3000", "") + forwardText(one, "/db", "")
	d := configure(t, t.TempDir(), good)
	before := d.says()
	for _, tt := range []struct{ name, text, want string }{
		{"typo", exposeText("new", "1", "") + "[[forwrd]]\n", `:5:3: unknown key "forwrd"; did you mean forward?`},
		{"duplicate", exposeText("new", "1", "") + exposeText("new", "2", ""), `:6:1: service new is exposed in line 2 already`},
		{"port in use", exposeText("new", "1", "") + forwardText(one, "/x", "") + forwardText(taken.Addr().String(), "/db", ""), ":10:1: forward: listen on " + taken.Addr().String()},
		{"no such directory", forwardText("unix:"+sock+"/none/s", "/db", ""), ":2:1: forward: listen on unix:" + sock},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.write(t, tt.text)
			_, err := d.reload()
			if err == nil || !strings.Contains(err.Error(), d.path+tt.want) {
				t.Errorf("reload = %v, want %q", err, d.path+tt.want)
			}
			if code, _ := codeOf(err); code != control.CodeBadConfig {
				t.Errorf("the code of %v = %s, want %s", err, code, control.CodeBadConfig)
			}
			if got := d.says(); got != before || !canConnect(one) {
				t.Errorf("it does %s, want %s", got, before)
			}
		})
	}
	if err := os.Remove(d.path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.reload(); err == nil || d.says() != before {
		t.Errorf("reload without the file = %v, and does %s, want an error and %s", err, d.says(), before)
	}
}

// What the file has is the file's: no command changes it, and nothing of it is kept.
// Where a command had made it before, it is as the file says from then on.
func TestConfigAndCommands(t *testing.T) {
	dir := t.TempDir()
	d := restored(t, dir)
	mustExpose(t, d, control.Exposed{Service: "web", Target: "1"})
	mustExpose(t, d, control.Exposed{Service: "db", Target: "2"})
	endDaemon(d)
	c := configure(t, dir, exposeText("web", "3000", ""))
	const both = "db at 127.0.0.1:2 +everyone; web at 127.0.0.1:3000 +everyone from config"
	if got := c.says(); got != both {
		t.Errorf("it does %s, want %s", got, both)
	}
	_, editErr := c.editAccess(control.Access{Service: "web", Deny: []control.Rule{{Rule: "bob"}}})
	_, exposeErr := c.expose(control.Exposed{Service: "web", Target: "1"})
	for call, err := range map[string]error{"unexpose": c.unexpose("web"), "deny": editErr, "expose": exposeErr} {
		if code, _ := codeOf(err); code != control.CodeFromConfig && code != control.CodeExists {
			t.Errorf("%s of what the file has = %v, want that it is from the file", call, err)
		}
	}
	endDaemon(c.Daemon)
	if c = configure(t, dir, ""); c.says() != "db at 127.0.0.1:2 +everyone" {
		t.Errorf("with an empty file it does %s, want db only", c.says())
	}
}

// A port that is in use at the start does not keep the node from running.
func TestPortInUseAtStartWithConfig(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	d := configure(t, t.TempDir(), forwardText(taken.Addr().String(), "/db", ""))
	if f := d.listForwards(); len(f) != 1 || !strings.Contains(f[0].Down, syscall.EADDRINUSE.Error()) {
		t.Errorf("forwards = %+v, want one that is down", f)
	}
	taken.Close()
	d.retry()
	if f := d.listForwards(); len(f) != 1 || f[0].Down != "" || f[0].From != control.FromConfig {
		t.Errorf("forwards = %+v, want one that is there", f)
	}
}

// Streams through what a reload does not change go on: not a byte is lost or late.
func TestStreamsFlowThroughAReload(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	l := listen(t, nodes[0], "echo")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	d := newDaemon(t.Context(), nodes[1], Config{})
	t.Cleanup(func() { endDaemon(d) })
	sock, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sock)
	c := &configured{d, filepath.Join(t.TempDir(), "mesh.toml")}
	stays := forwardText("unix:"+sock+"/stays", "node0/echo", "") + exposeText("stays", "1", "")
	c.write(t, stays+forwardText("unix:"+sock+"/other", "node0/echo", ""))
	f, err := config.Read(c.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.begin(Config{File: f}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", sock+"/stays")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 50 {
		c.write(t, stays+forwardText("unix:"+sock+"/other", fmt.Sprintf("node0/echo%d", i), ""))
		done := make(chan error, 1)
		go func() {
			_, err := d.reload()
			done <- err
		}()
		sent := bytes.Repeat([]byte{byte(i)}, 64<<10)
		go func() { _, _ = conn.Write(sent) }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("during reload %d the stream gave other bytes, %v", i, err)
		}
		if err := <-done; err != nil {
			t.Fatalf("reload = %v", err)
		}
	}
	for _, f := range d.listForwards() {
		if strings.HasSuffix(f.Listen, "/stays") && (f.Total != 1 || f.Open != 1) {
			t.Errorf("the forward = %+v, want the one stream", f)
		}
	}
}
