package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A block is what the README has between fences.
type block struct{ language, text string }

var fenced = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func readmeBlocks(t *testing.T) []block {
	t.Helper()
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, m := range fenced.FindAllSubmatch(data, -1) {
		blocks = append(blocks, block{string(m[1]), string(m[2])})
	}
	return blocks
}

// blockWith returns the one block that has a text in it.
func blockWith(t *testing.T, text string) block {
	t.Helper()
	var found []block
	for _, b := range readmeBlocks(t) {
		if strings.Contains(b.text, text) {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the README has %d blocks with %q in them, want one", len(found), text)
	}
	return found[0]
}

func TestReadmeFirstBlockIsTheTwoCommands(t *testing.T) {
	want := "go run ./cmd/p2pnode demo\ngo test ./...\n"
	if got := readmeBlocks(t)[0].text; got != want {
		t.Errorf("the README begins with %q, want %q", got, want)
	}
}

// The two terminals, as printed but for what a person's eyes and hands do:
// waiting until a node is ready.
func TestReadmeTwoTerminals(t *testing.T) {
	wait := func(dir string) string {
		return "until p2pnode status --dir " + dir + " >/dev/null 2>&1; do sleep 0.05; done\n"
	}
	first := blockWith(t, "p2pnode up --dir /tmp/alice").text
	first = strings.Replace(first, "--name alice &\n", "--name alice &\n"+wait("/tmp/alice"), 1)
	first += "until curl -s http://127.0.0.1:3000/ >/dev/null; do sleep 0.05; done\n"
	second := blockWith(t, "p2pnode join /tmp/invite").text
	second = strings.Replace(second, "--name bob &\n", "--name bob &\n"+wait("/tmp/bob"), 1)
	end := "p2pnode peers --dir /tmp/bob\np2pnode down --dir /tmp/bob\np2pnode down --dir /tmp/alice\nkill %2\n"
	out, err := inNamespace(t, first+second+end)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"exposed web at 127.0.0.1:3000", "forward 127.0.0.1:8080 to alice/web", "Directory listing"} {
		if !strings.Contains(out, want) {
			t.Errorf("the blocks print %q, want %q in it", out, want)
		}
	}
}

// The library program, built inside the module.
func TestReadmeProgram(t *testing.T) {
	b := blockWith(t, "package main")
	dir, err := os.MkdirTemp(".", "readme-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(testContext(t), "go", "run", file).CombinedOutput()
	if err != nil || string(out) != "hello bob\n" {
		t.Errorf("the README's program prints %q, %v, want %q", out, err, "hello bob\n")
	}
}
