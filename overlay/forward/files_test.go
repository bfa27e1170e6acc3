//go:build unix

package forward

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// serveFiles serves a directory, and returns a client that asks for what it is told
// to the letter.
func serveFiles(t *testing.T, dir string) (*Files, *http.Client) {
	t.Helper()
	mesh := newMesh(t, "mux")
	f, err := NewFiles(serviceOf(t, mesh), dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("Close() = %v, want <nil>", err)
		}
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return mesh.DialContext(ctx, network, "alice/docs")
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return f, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask returns the status and the body of an answer.
func ask(t *testing.T, c *http.Client, method, path, span string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://docs", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque = path // as it is written here
	if span != "" {
		r.Header.Set("Range", span)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestFiles(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "docs")
	for _, d := range []string{dir, filepath.Join(dir, "sub"), filepath.Join(above, "other")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(above, "secret")
	for path, text := range map[string]string{
		secret: "precious", filepath.Join(above, "other", "secret"): "precious",
		filepath.Join(dir, "a"): "0123456789", filepath.Join(dir, "sub", "b"): "below", filepath.Join(dir, "big"): strings.Repeat("x", 1<<20),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"in": "sub/b", "up": "../secret", "abs": secret, "dir": "../other", "absdir": above, "round": "../docs/a", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, client := serveFiles(t, dir)
	for _, tt := range []struct {
		name, method, path, span string
		status                   int
		body                     string // nothing of it is looked at if empty
	}{
		{"a file", "GET", "/a", "", 200, "0123456789"},
		{"its head", "HEAD", "/a", "", 200, ""},
		{"a part", "GET", "/a", "bytes=2-4", 206, "234"},
		{"the end", "GET", "/a", "bytes=-2", 206, "89"},
		{"a part that is not there", "GET", "/a", "bytes=10-", 416, ""},
		{"below", "GET", "/sub/b", "", 200, "below"},
		{"much", "GET", "/big", "", 200, strings.Repeat("x", 1<<20)},
		{"a link within", "GET", "/in", "", 200, "below"},
		{"the directory", "GET", "/", "", 200, ""},
		{"what is not there", "GET", "/none", "", 404, ""},
		{"a link up", "GET", "/up", "", 404, ""},
		{"a link to an absolute path", "GET", "/abs", "", 404, ""},
		{"a link to a directory outside", "GET", "/dir/secret", "", 404, ""},
		{"an absolute link to one", "GET", "/absdir/secret", "", 404, ""},
		{"a link out and in again", "GET", "/round", "", 404, ""},
		{"a link to itself", "GET", "/loop", "", 404, ""},
		{"two dots", "GET", "/../secret", "", 404, ""},
		{"two dots below", "GET", "/sub/../../secret", "", 404, ""},
		{"two dots, encoded", "GET", "/%2e%2e/secret", "", 404, ""},
		{"slashes, encoded", "GET", "/..%2fsecret", "", 404, ""},
		{"an absolute path", "GET", "/" + secret, "", 404, ""},
		{"a zero byte", "GET", "/a%00", "", 404, ""},
		{"a long name", "GET", "/" + strings.Repeat("x", 300), "", 404, ""},
		{"a file taken for a directory", "GET", "/a/b", "", 404, ""},
		{"a pipe", "GET", "/pipe", "", 404, ""},
		{"a write", "PUT", "/a", "", 405, ""},
		{"a delete", "DELETE", "/a", "", 405, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := ask(t, client, tt.method, tt.path, tt.span)
			if status != tt.status || tt.body != "" && body != tt.body || strings.Contains(body, "precious") {
				t.Errorf("%s %s = %d with %.40q, want %d with %.40q", tt.method, tt.path, status, body, tt.status, tt.body)
			}
		})
	}
	if got := f.Stats(); got.Total == 0 || got.Sent < 1<<20 || got.Received == 0 {
		t.Errorf("Stats() = %+v, want what went through", got)
	}
}

func TestFilesOfNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{file: "not a directory", file + "2": "no such file"} {
		_, err := NewFiles(listenTCP(t), dir, Config{})
		checkErr(t, err, "forward: files of "+dir+": "+want)
	}
}
