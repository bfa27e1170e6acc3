// Package wiretest keeps the test vectors of docs/protocol.md true.
//
// The document is their only source. A test computes a block of vectors and
// calls [Golden], which compares it with the block of that name in the document:
//
//	wiretest.Golden(t, "frame", []wiretest.Vector{
//		{Name: "body", Value: "68656c6c6f"},
//		{Name: "frame", Value: "000568656c6c6f"},
//	})
//
// A block is fenced by three back quotes and opens with `vectors NAME`. To have
// it rewritten, run the test with -update, and commit a changed line only if you
// can say why it changed: other implementations rely on these bytes.
package wiretest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the test vectors in docs/protocol.md")

// A Vector is one line of a block: a name and a value, hex unless the document
// says otherwise.
type Vector struct {
	Name, Value string
}

// Golden fails t unless the block of that name in docs/protocol.md holds exactly
// these vectors in this order. With -update it writes them there.
func Golden(t testing.TB, block string, vectors []Vector) {
	t.Helper()
	path := document(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, got, after, err := cut(string(data), block)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	want := format(vectors)
	switch {
	case got == want:
	case *update:
		if err := os.WriteFile(path, []byte(before+want+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("vectors %s in docs/protocol.md =\n%s\nwant\n%s", block, got, want)
	}
}

func format(vectors []Vector) string {
	var b strings.Builder
	for _, v := range vectors {
		fmt.Fprintf(&b, "%s: %s\n", v.Name, v.Value)
	}
	return b.String()
}

// cut splits the document around the content of a block.
func cut(doc, block string) (before, content, after string, err error) {
	const fence = "```"
	open := "\n" + fence + "vectors " + block + "\n"
	before, rest, found := strings.Cut(doc, open)
	if !found {
		return "", "", "", fmt.Errorf("no block of vectors named %q", block)
	}
	end := strings.Index(rest, fence)
	if end < 0 {
		return "", "", "", fmt.Errorf("block of vectors %q has no end", block)
	}
	return before + open, rest[:end], rest[end:], nil
}

// document finds docs/protocol.md from the directory the test runs in, that of
// its package.
func document(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "docs", "protocol.md")
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = parent
	}
}
