package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A tool is what people run through a forward, as it comes.
type tool struct {
	name  string
	needs []string

	// serve starts what the tool talks to, until the test ends, and returns the
	// address of that and what uses it.
	serve func(t *testing.T) (addr string, use func(t *testing.T, l link))
}

// A link is where a tool finds its server: by a forward of bob to a service of
// alice.
type link struct {
	bob     *node
	service string // alice/NAME
	forward string // HOST:PORT, of TCP and, to alice/NAME-datagrams, of UDP
	path    string
}

func (l link) port() string { return port(l.forward) }

var tools = []tool{
	{"curl over HTTP/1.1", []string{"curl"}, serveHTTP(curlHTTP1)},
	{"curl over HTTP/2 without TLS", []string{"curl"}, serveHTTP(curlHTTP2)},
	{"curl over HTTP/2", []string{"curl"}, serveHTTPS(curlHTTPS)},
	{"websockets", nil, serveWebsockets},
	{"ssh", []string{"ssh", "ssh-keygen"}, serveSSH(sshForward)},
	{"ssh over connect", []string{"ssh", "ssh-keygen"}, serveSSH(sshConnect)},
	{"rsync over ssh", []string{"ssh", "ssh-keygen", "rsync"}, serveSSH(rsyncSSH)},
	{"rsync", []string{"rsync"}, serveRsync},
	{"git clone", []string{"git"}, serveGit},
	{"git clone over ssh", []string{"git", "ssh", "ssh-keygen"}, serveSSH(gitSSH)},
	{"git clone over HTTP", []string{"git"}, serveGitHTTP},
	{"psql and pgbench", []string{"psql", "pgbench"}, servePostgres},
	{"redis-benchmark", []string{"redis-server", "redis-cli", "redis-benchmark"}, serveRedis},
	{"iperf3", []string{"iperf3"}, serveIperf},
	{"iperf3 over UDP", []string{"iperf3"}, serveIperfUDP},
	{"dig over TCP", []string{"dig", "dnsmasq"}, serveDNS("+tcp")},
	{"dig", []string{"dig", "dnsmasq"}, serveDNS("+notcp")},
}

// Programs that know nothing of the mesh work through a forward as they do without.
func TestPrograms(t *testing.T) {
	paths := []struct {
		name string
		args []string
		path string // what ping says of it
	}{
		{"local", nil, "via unix"},
		{"network", []string{"--no-local"}, "via lan"},
	}
	type pair struct{ alice, bob *node }
	pairs := map[string]pair{}
	for _, p := range paths {
		alice := newNode(t, "alice").up(p.args...)
		bob := newNode(t, "bob").join(alice.invite(), p.args...)
		if out := bob.run("ping", "alice", "-n", "1"); !strings.Contains(out, p.path) {
			t.Fatalf("ping says %q, want it %s", out, p.path)
		}
		pairs[p.name] = pair{alice, bob}
	}
	for i, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			needs(t, tool.needs...)
			addr, use := tool.serve(t)
			for _, p := range paths {
				t.Run(p.name, func(t *testing.T) {
					service := fmt.Sprint("service", i)
					alice, bob := pairs[p.name].alice, pairs[p.name].bob
					alice.run("expose", service, addr)
					forward := bob.forward("alice/" + service)
					alice.run("expose", service+"-datagrams", "udp:"+addr)
					bob.run("forward", "udp:"+forward, "alice/"+service+"-datagrams")
					use(t, link{bob, "alice/" + service, forward, p.name})
				})
			}
		})
	}
}

// output runs a program and returns what it writes to its standard output.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	return outputOf(t, exec.CommandContext(testContext(t), name, args...))
}

func outputOf(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s%s", cmd.Args, err, out, stderr.Bytes())
	}
	return string(out)
}

func wantOutput(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("output = %q, want %q", got, want)
	}
}

// sameFiles checks that two directories hold the same.
func sameFiles(t *testing.T, got, want string) {
	t.Helper()
	if out, err := exec.Command("diff", "-r", "-x", ".git", got, want).CombinedOutput(); err != nil {
		t.Errorf("diff of what was copied: %v: %s", err, out)
	}
}

// writeTree fills a directory with n files of some size.
func writeTree(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		writeRandom(t, filepath.Join(dir, fmt.Sprint("f", i)), 1<<17)
	}
}

// splitFree is freePort for tools that are told the host and the number.
func splitFree(t *testing.T) (addr, host, number string) {
	t.Helper()
	addr = freePort(t)
	host, number, _ = net.SplitHostPort(addr)
	return addr, host, number
}

// lookFor returns the path of a program that may be in none of the usual places.
func lookFor(t *testing.T, program string, patterns ...string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(filepath.Join(pattern, program)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	skip(t, program+" is not installed")
	return ""
}

// serveSSH has a way of using an sshd.
func serveSSH(use func(t *testing.T, l link, options []string)) func(*testing.T) (string, func(*testing.T, link)) {
	return func(t *testing.T) (string, func(*testing.T, link)) {
		addr, key := startSSHD(t, nil)
		options := []string{"-F", "none", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"}
		return addr, func(t *testing.T, l link) { use(t, l, options[:len(options):len(options)]) }
	}
}

func sshForward(t *testing.T, l link, options []string) {
	sshEcho(t, append(options, "-p", l.port(), "127.0.0.1"))
}

func sshConnect(t *testing.T, l link, options []string) {
	sshEcho(t, append(options, "-o", "ProxyCommand="+command+" connect "+l.service+" --dir "+l.bob.dir, "alice"))
}

// sshEcho has a shell at the other end return what it is sent, to the last byte and
// with its own status.
func sshEcho(t *testing.T, args []string) {
	t.Helper()
	sent := strings.Repeat("through the mesh\n", 1<<16)
	cmd := exec.CommandContext(testContext(t), "ssh", append(args, "cat; echo done; exit 3")...)
	cmd.Stdin = strings.NewReader(sent)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("ssh = %v, want the status 3: %s", err, stderr.Bytes())
	}
	if want := sent + "done\n"; string(out) != want {
		t.Errorf("ssh returned %d bytes, want the %d that it was sent", len(out), len(want))
	}
}

func rsyncSSH(t *testing.T, l link, options []string) {
	src, dst := t.TempDir(), t.TempDir()
	writeTree(t, src, 20)
	output(t, "rsync", "-a", "-e", "ssh "+strings.Join(options, " ")+" -p "+l.port(), src+"/", "127.0.0.1:"+dst+"/")
	sameFiles(t, dst, src)
}

func gitSSH(t *testing.T, l link, options []string) {
	repository, tree := newRepository(t)
	clone := filepath.Join(t.TempDir(), "clone")
	gitIn(t, "", []string{"GIT_SSH_COMMAND=ssh " + strings.Join(options, " ")}, "clone", "ssh://127.0.0.1:"+l.port()+repository, clone)
	sameFiles(t, clone, tree)
}

func serveRsync(t *testing.T) (string, func(*testing.T, link)) {
	addr, host, number := splitFree(t)
	src, config := t.TempDir(), filepath.Join(t.TempDir(), "config")
	writeTree(t, src, 20)
	text := fmt.Sprintf("[files]\npath = %s\nuse chroot = no\nread only = yes\nuid = %d\ngid = %d\n", src, os.Getuid(), os.Getgid())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, exec.Command("rsync", "--daemon", "--no-detach", "--config", config, "--address", host, "--port", number, "--log-file=/dev/null"), addr)
	return addr, func(t *testing.T, l link) {
		dst := t.TempDir()
		output(t, "rsync", "-a", "rsync://"+l.forward+"/files/", dst+"/")
		sameFiles(t, dst, src)
	}
}

func serveIperf(t *testing.T) (string, func(*testing.T, link)) {
	addr := startIperf(t)
	return addr, func(t *testing.T, l link) {
		for _, way := range [][]string{{"-n", "64M"}, {"-n", "64M", "-R"}, {"-n", "16M", "-P", "4"}} {
			output(t, "iperf3", append([]string{"-c", "127.0.0.1", "-p", l.port()}, way...)...)
		}
	}
}

// serveIperfUDP sends datagrams at 100 Mbit/s. What is lost is logged: on a machine that
// does nothing else that is next to none on the local path, on one with a load of 25 some
// per cent, as without a forward.
func serveIperfUDP(t *testing.T) (string, func(*testing.T, link)) {
	addr := startIperf(t)
	return addr, func(t *testing.T, l link) {
		for _, way := range [][]string{nil, {"-R"}} {
			const most, tries = 15.0, 3 // the others on a busy machine may be to blame
			lost := most + 1
			for try := 0; try < tries && lost > most; try++ {
				lost = lostByIperf(t, append([]string{"-u", "-c", "127.0.0.1", "-p", l.port(), "-b", "100M", "-t", "2", "--json"}, way...))
			}
			if l.path == "local" && lost > most {
				t.Errorf("%v: %.2f %% of the datagrams are lost, want at most %v %%", way, lost, most)
			}
		}
	}
}

// lostByIperf returns how many of a hundred datagrams were lost.
func lostByIperf(t *testing.T, args []string) float64 {
	t.Helper()
	out := output(t, "iperf3", args...)
	var report struct {
		End struct {
			Sum struct {
				Packets int     `json:"packets"`
				Lost    float64 `json:"lost_percent"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.End.Sum.Packets == 0 {
		t.Fatalf("iperf3 says %s: %v", out, err)
	}
	t.Logf("%v: %d datagrams, %.2f %% lost", args, report.End.Sum.Packets, report.End.Sum.Lost)
	return report.End.Sum.Lost
}

func startIperf(t *testing.T) string {
	t.Helper()
	addr, host, number := splitFree(t)
	startServer(t, exec.Command("iperf3", "-s", "-B", host, "-p", number), addr)
	return addr
}

// serveDNS has dig ask a server for a name.
func serveDNS(how string) func(*testing.T) (string, func(*testing.T, link)) {
	return func(t *testing.T) (string, func(*testing.T, link)) {
		addr, host, number := splitFree(t)
		startServer(t, exec.Command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=", "--port="+number, "--listen-address="+host,
			"--bind-interfaces", "--no-resolv", "--no-hosts", "--address=/service.test/192.0.2.7"), addr)
		return addr, func(t *testing.T, l link) {
			wantOutput(t, output(t, "dig", "+short", "+tries=1", how, "@127.0.0.1", "-p", l.port(), "www.service.test", "A"), "192.0.2.7\n")
		}
	}
}
