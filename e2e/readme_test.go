package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A block is what the README has between fences.
type block struct{ language, text string }

var fenced = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func readReadme(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readmeBlocks(t *testing.T) []block {
	t.Helper()
	var blocks []block
	for _, m := range fenced.FindAllStringSubmatch(readReadme(t), -1) {
		blocks = append(blocks, block{m[1], m[2]})
	}
	return blocks
}

// The beginnings of the blocks, each of which is the subject of a test below.
const (
	twoCommands   = "go run ./cmd/p2pnode demo\n"
	installs      = "go install "
	founds        = "p2pnode up --dir /tmp/alice "
	offers        = "python3 -m http.server 3000 "
	joins         = "p2pnode join /tmp/invite --dir /tmp/bob "
	uses          = "p2pnode forward 8080 alice/web "
	joinsFromAfar = "p2pnode join p2pnode1"
	program       = "package main\n"
	layout        = "p2p/ "
)

var begins = []string{twoCommands, installs, founds, offers, joins, uses, joinsFromAfar, program, layout}

// blockThat returns the one block with a beginning.
func blockThat(t *testing.T, begin string) block {
	t.Helper()
	var found []block
	for _, b := range readmeBlocks(t) {
		if strings.HasPrefix(b.text, begin) {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the README has %d blocks that begin with %q, want one", len(found), begin)
	}
	return found[0]
}

func TestReadmeHasNoOtherBlocks(t *testing.T) {
	for _, begin := range begins {
		blockThat(t, begin)
	}
	if got := len(readmeBlocks(t)); got != len(begins) {
		t.Errorf("the README has %d blocks, want the %d that are tested here", got, len(begins))
	}
}

// The second command is the one that runs this test, and so is not run by it.
func TestReadmeTwoCommands(t *testing.T) {
	if got, want := readmeBlocks(t)[0].text, twoCommands+"go test ./...\n"; got != want {
		t.Fatalf("the README's first block is %q, want %q", got, want)
	}
	demo := exec.CommandContext(testContext(t), "sh", "-ec", twoCommands)
	demo.Dir = ".."
	if out, err := demo.Output(); err != nil || !strings.HasSuffix(string(out), "\n20 of 20 ordered pairs verified\n") {
		t.Errorf("%s = %v, prints\n%s", twoCommands, err, out)
	}
}

func TestReadmeInstall(t *testing.T) {
	bin := t.TempDir()
	install := exec.CommandContext(testContext(t), "sh", "-ec", blockThat(t, installs).text)
	install.Dir = ".."
	install.Env = append(os.Environ(), "GOBIN="+bin)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(testContext(t), filepath.Join(bin, "p2pnode"), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "p2pnode ") {
		t.Errorf("the p2pnode that was installed says %q, %v to version", out, err)
	}
}

// The two terminals as one, with what a person's eyes do between the blocks: wait
// until it says ready. Then each command of the table, as bob.
func TestReadmeTwoTerminals(t *testing.T) {
	needs(t, "curl", "python3")
	wait := func(what string) string { return "until " + what + " >/dev/null 2>&1; do sleep 0.02; done\n" }
	script := blockThat(t, founds).text + wait("p2pnode status --dir /tmp/alice") +
		blockThat(t, offers).text + wait("curl -s http://127.0.0.1:3000/") +
		blockThat(t, joins).text + wait("p2pnode status --dir /tmp/bob") +
		blockThat(t, uses).text
	script += "p2pnode expose echo 3000 --dir /tmp/alice\nexport P2PNODE_DIR=/tmp/bob\n"
	commands := tableCommands(t, "Two machines", 4)
	for _, c := range commands {
		script += "p2pnode unforward 8080 2>/dev/null || true\n" // that of the line before
		script += "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | " + c + "\necho did it: '" + c + "'\n"
	}
	script += "p2pnode down\np2pnode down --dir /tmp/alice\nkill %2\n"
	out, err := inNamespace(t, script)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wants := []string{"exposed web at 127.0.0.1:3000\n", "forward 127.0.0.1:8080 to alice/web\n", "Directory listing for /"}
	for _, c := range commands {
		wants = append(wants, "did it: "+c+"\n")
	}
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("the blocks print %q, want %q in it", out, want)
		}
	}
}

// Each way of the table to meet on one machine brings up a node, of which status
// tells where that is.
func TestReadmeOneMachine(t *testing.T) {
	commands := tableCommands(t, "Two terminals", 4)
	local := map[string]string{ // by flag
		"--local-only": "local */tmp/p2pnode$", "--local-dir": "local */(tmp|srv)/mesh$", "--no-local": "local *none: ",
	}
	script := "export P2PNODE_DIR=/tmp/n\nmount -t tmpfs none /srv\nmkdir -m 1777 /srv/mesh\n"
	for _, c := range commands {
		flag := strings.Fields(c)[2]
		if local[flag] == "" {
			t.Fatalf("the table has %q, of which this test knows nothing", c)
		}
		c = strings.ReplaceAll(c, "--local-user bob", "--local-user nobody") // whom each machine has
		script += c + " & until p2pnode status >/dev/null 2>&1; do sleep 0.02; done\n" +
			"p2pnode status | grep -E '^" + local[flag] + "'\np2pnode down\nwait\n"
	}
	if out, err := inNamespace(t, script); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// tableCommands returns the commands of the table in a section of the README. That
// through ssh is run by TestSSHAndRsyncThroughForward.
func tableCommands(t *testing.T, section string, atLeast int) []string {
	t.Helper()
	_, text, _ := strings.Cut(readReadme(t), "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var commands []string
	for _, row := range regexp.MustCompile("(?m)^\\| .* \\| (`p2pnode .*`) \\|$").FindAllStringSubmatch(text, -1) {
		for _, span := range regexp.MustCompile("`(p2pnode [^`]*)`").FindAllStringSubmatch(row[1], -1) {
			commands = append(commands, span[1])
		}
	}
	if len(commands) < atLeast {
		t.Fatalf("the README's table has the commands %q, want at least %d", commands, atLeast)
	}
	return commands
}

// Each command of the table, as a node that offers what is used.
func TestReadmeServices(t *testing.T) {
	needs(t, "curl")
	alice := newNode(t, "alice").up()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	alice.run("expose", "web", strings.TrimPrefix(server.URL, "http://"))
	for _, c := range tableCommands(t, "Services of every kind", 9) {
		cmd := exec.CommandContext(testContext(t), "sh", "-c", c)
		cmd.Env = append(os.Environ(), "P2PNODE_DIR="+alice.dir, "PATH="+filepath.Dir(command)+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if t.Logf("%s: %.200s", c, out); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
}

// Each command of the table, as the admin, with a bob that is there whenever one
// is named.
func TestReadmeWhoIsIn(t *testing.T) {
	alice := newNode(t, "alice").up()
	var bob *node
	for _, c := range tableCommands(t, "Who is in, and who may do what", 9) {
		args := strings.Fields(c)[1:]
		if i := slices.Index(args, "ID"); i >= 0 {
			args[i] = inviteID(t, alice)
		}
		if args[len(args)-1] == "bob" || slices.Contains(args, "--with-admitted-since") {
			if bob == nil {
				bob = newNode(t, "bob")
				bob.join(alice.run("invite", "--name", "bob"))
			}
		}
		t.Logf("%s: %.200s", c, alice.run(args...))
		if args[0] == "revoke" {
			if err := bob.cmd.Wait(); err == nil {
				t.Errorf("%s: bob's process ends without an error", c)
			}
			bob = nil
		}
	}
	if err := alice.cmd.Wait(); err != nil {
		t.Errorf("who leaves ends with %v: %s", err, alice.stderr)
	}
}

// inviteID returns the ID of one of a node's invites.
func inviteID(t *testing.T, n *node) string {
	t.Helper()
	var info struct {
		ID string `json:"id"`
	}
	line, _, _ := strings.Cut(n.run("invite", "list", "--json"), "\n")
	if err := json.Unmarshal([]byte(line), &info); err != nil || info.ID == "" {
		t.Fatalf("invite list --json = %q, %v, want an ID", line, err)
	}
	return info.ID
}

// What up prints is a line that can be pasted, after which up is enough.
func TestReadmeTwoMachines(t *testing.T) {
	here, there := newNode(t, "here"), newNode(t, "there")
	up := startAtTerminal(t, here.dir, "p2pnode up")
	begin, ok := strings.CutSuffix(blockThat(t, joinsFromAfar).text, "…\n")
	if !ok {
		t.Fatal("the README's line to paste does not end in …")
	}
	line := up.expect(`^ *(` + regexp.QuoteMeta(begin) + `\w+)$`)[1]

	const isReady = `^ready \S+ (\S+)$`
	joined := startAtTerminal(t, there.dir, line)
	id := joined.expect(isReady)[1]
	joined.interrupt()
	if got := startAtTerminal(t, there.dir, "p2pnode up").expect(isReady)[1]; got != id {
		t.Errorf("the ID of the node that comes back = %s, want %s", got, id)
	}
}

// A terminal is where a person runs a node and reads what it prints.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	seen  bytes.Buffer
}

// startAtTerminal runs a line of the shell with p2pnode in its path, on a machine
// with one node. It has patience to end by itself or be interrupted.
func startAtTerminal(t *testing.T, dir, line string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	term := &terminal{t: t, cmd: exec.CommandContext(ctx, "sh", "-c", "exec "+line)}
	term.cmd.Env = append(os.Environ(), "P2PNODE_DIR="+dir, "PATH="+filepath.Dir(command)+":"+os.Getenv("PATH"))
	output, err := term.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	term.cmd.Stderr = term.cmd.Stdout
	term.lines = bufio.NewScanner(output)
	if err := startWithTest(term.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		term.interrupt()
		cancel()
	})
	return term
}

// expect reads on to a line that matches, and returns its submatches.
func (term *terminal) expect(pattern string) []string {
	term.t.Helper()
	want := regexp.MustCompile(pattern)
	for term.lines.Scan() {
		fmt.Fprintln(&term.seen, term.lines.Text())
		if match := want.FindStringSubmatch(term.lines.Text()); match != nil {
			return match
		}
	}
	term.t.Fatalf("there is no line like %q in\n%s", pattern, &term.seen)
	return nil
}

// interrupt does as Ctrl-C, unless that was done.
func (term *terminal) interrupt() {
	term.t.Helper()
	if term.cmd.ProcessState != nil {
		return
	}
	_ = term.cmd.Process.Signal(os.Interrupt)
	for term.lines.Scan() { // or it can't end for want of a reader
	}
	if err := term.cmd.Wait(); err != nil {
		term.t.Errorf("%v after an interrupt = %v", term.cmd.Args, err)
	}
}

// The library program, in a folder of this module that is there for the go
// command alone.
func TestReadmeProgram(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	files, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(here, "readme", "main.go"): source}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{source: []byte(blockThat(t, program).text), overlay: files} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(testContext(t), "go", "run", "-overlay", overlay, "./readme").CombinedOutput()
	if err != nil || string(out) != "hello bob\n" {
		t.Errorf("the README's program prints %q, %v, want %q", out, err, "hello bob\n")
	}
}

func TestReadmeLayout(t *testing.T) {
	for line := range strings.Lines(blockThat(t, layout).text) {
		dir, _, _ := strings.Cut(line, " ")
		if info, err := os.Stat(filepath.Join("..", dir)); err != nil || !info.IsDir() {
			t.Errorf("the README names the folder %s: %v", dir, err)
		}
	}
}
