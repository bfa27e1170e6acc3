package e2e

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// webServer answers each request with the protocol that it came by and the hash of
// its body.
func webServer() *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %x", r.Proto, h.Sum(nil))
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetHTTP2(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// serveHTTP has a way of using a web server.
func serveHTTP(use func(t *testing.T, l link)) func(*testing.T) (string, func(*testing.T, link)) {
	return func(t *testing.T) (string, func(*testing.T, link)) {
		s := webServer()
		s.Start()
		t.Cleanup(s.Close)
		return s.Listener.Addr().String(), use
	}
}

func curlHTTP1(t *testing.T, l link) {
	curlPost(t, "HTTP/1.1", "http://"+l.forward, "--http1.1")
}

func curlHTTP2(t *testing.T, l link) {
	curlPost(t, "HTTP/2.0", "http://"+l.forward, "--http2-prior-knowledge")
}

// serveHTTPS is serveHTTP with TLS. Use gets the file with the certificate, which is
// for example.com.
func serveHTTPS(use func(t *testing.T, l link, certificate string)) func(*testing.T) (string, func(*testing.T, link)) {
	return func(t *testing.T) (string, func(*testing.T, link)) {
		s := webServer()
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		certificate := filepath.Join(t.TempDir(), "certificate")
		if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		return s.Listener.Addr().String(), func(t *testing.T, l link) { use(t, l, certificate) }
	}
}

func curlHTTPS(t *testing.T, l link, certificate string) {
	curlPost(t, "HTTP/2.0", "https://example.com:"+l.port(), "--cacert", certificate, "--resolve", "example.com:"+l.port()+":127.0.0.1")
}

// curlPost sends 8 MiB.
func curlPost(t *testing.T, proto, url string, options ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	want := proto + " " + writeRandom(t, file, 8<<20)
	got := output(t, "curl", append(options, "-sSf", "--noproxy", "*", "-H", "Expect:", "--data-binary", "@"+file, url)...)
	wantOutput(t, got, want)
}

// debianPython has the libraries that packages bring, which another Python has not.
const debianPython = "/usr/bin/python3"

// The two ends of a websocket: each message of the client is answered with its hash.
const (
	websocketServer = `
import asyncio, hashlib, sys, websockets
async def answer(ws, *_):
    async for message in ws:
        await ws.send(hashlib.sha256(message).hexdigest())
async def main():
    async with websockets.serve(answer, "127.0.0.1", int(sys.argv[1]), max_size=None):
        await asyncio.Future()
asyncio.run(main())
`
	websocketClient = `
import asyncio, os, hashlib, sys, websockets
async def main():
    async with websockets.connect("ws://127.0.0.1:" + sys.argv[1], max_size=None) as ws:
        for size in 0, 1, 125, 126, 65535, 65536, 4 << 20:
            message = os.urandom(size)
            await ws.send(message)
            answer = await ws.recv()
            print(size, answer == hashlib.sha256(message).hexdigest())
        await (await ws.ping())
    print("closed", ws.close_code)
asyncio.run(main())
`
)

func serveWebsockets(t *testing.T) (string, func(*testing.T, link)) {
	if exec.Command(debianPython, "-c", "import websockets").Run() != nil {
		skip(t, "websockets for python3 is not installed")
	}
	addr := freePort(t)
	startServer(t, exec.Command(debianPython, "-c", websocketServer, port(addr)), addr)
	return addr, func(t *testing.T, l link) {
		want := "0 True\n1 True\n125 True\n126 True\n65535 True\n65536 True\n4194304 True\nclosed 1000\n"
		wantOutput(t, output(t, debianPython, "-c", websocketClient, l.port()), want)
	}
}

// newRepository makes a bare repository, and returns it and a directory with the
// files in it.
func newRepository(t *testing.T) (repository, tree string) {
	t.Helper()
	dir := t.TempDir()
	repository, tree = filepath.Join(dir, "repository.git"), filepath.Join(dir, "tree")
	gitIn(t, "", nil, "init", "-q", "-b", "main", tree)
	writeTree(t, tree, 20)
	gitIn(t, tree, nil, "add", ".")
	gitIn(t, tree, nil, "commit", "-q", "-m", "all of it")
	gitIn(t, "", nil, "clone", "-q", "--bare", tree, repository)
	for _, setting := range [][]string{{"http.receivepack", "true"}, {"core.fsync", "none"}} {
		gitIn(t, repository, nil, append([]string{"config"}, setting...)...)
	}
	return repository, tree
}

// gitIn runs git in a directory as nobody has set it up.
func gitIn(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "http_proxy=", "all_proxy=",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=core.fsync", "GIT_CONFIG_VALUE_0=none", // the tests keep nothing
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com"), env...)
	return outputOf(t, cmd)
}

// gitProgram returns the path of one of the programs that git is made of.
func gitProgram(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(strings.TrimSpace(output(t, "git", "--exec-path")), name)
	if _, err := os.Stat(path); err != nil {
		skip(t, name+" is not installed")
	}
	return path
}

func serveGit(t *testing.T) (string, func(*testing.T, link)) {
	addr, host, number := splitFree(t)
	repository, tree := newRepository(t)
	dir := filepath.Dir(repository)
	startServer(t, exec.Command(gitProgram(t, "git-daemon"), "--base-path="+dir, "--export-all", "--enable=receive-pack",
		"--listen="+host, "--port="+number, dir), addr)
	return addr, func(t *testing.T, l link) { cloneAndPush(t, "git://"+l.forward+"/repository.git", tree) }
}

func serveGitHTTP(t *testing.T) (string, func(*testing.T, link)) {
	repository, tree := newRepository(t)
	s := httptest.NewServer(&cgi.Handler{
		Path: gitProgram(t, "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(repository), "GIT_HTTP_EXPORT_ALL=1"},
	})
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), func(t *testing.T, l link) {
		cloneAndPush(t, "http://"+l.forward+"/repository.git", tree)
	}
}

// cloneAndPush clones a repository that has a tree in it, and puts a branch of its
// own there.
func cloneAndPush(t *testing.T, url, tree string) {
	t.Helper()
	dir := t.TempDir()
	clone := filepath.Join(dir, "clone")
	gitIn(t, "", nil, "clone", "-q", url, clone)
	sameFiles(t, clone, tree)
	writeRandom(t, filepath.Join(clone, "more"), 1<<20)
	branch := strings.ReplaceAll(t.Name(), " ", "-")
	gitIn(t, clone, nil, "checkout", "-q", "-b", branch)
	gitIn(t, clone, nil, "add", ".")
	gitIn(t, clone, nil, "commit", "-q", "-m", "more")
	// The server of git's own for HTTP takes no body without a length.
	gitIn(t, clone, nil, "-c", "http.postBuffer=4m", "push", "-q", "origin", branch)
	head := strings.TrimSpace(gitIn(t, clone, nil, "rev-parse", "HEAD"))
	if got := gitIn(t, "", nil, "ls-remote", url, branch); !strings.HasPrefix(got, head) {
		t.Errorf("the branch at the server is %q, want %s", got, head)
	}
}
