package examples_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// names returns the names of the examples.
func names(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, filepath.Dir(file))
	}
	if want := []string{"chat", "drop", "echo", "grpc", "http", "redis", "worker"}; !slices.Equal(names, want) {
		t.Fatalf("examples are %v, want %v", names, want)
	}
	return names
}

func takesInvite(line string) bool { return strings.Contains(line, " INVITE") }

const module = "github.com/p2pnode/p2pnode/"

// public are the packages of this module that are made for users.
var public = []string{"overlay", "overlay/credential", "overlay/forward", "dht", "p2p"}

const maxLines = 100

func TestSource(t *testing.T) {
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join(name, "main.go"))
			if err != nil {
				t.Fatal(err)
			}
			if lines := bytes.Count(source, []byte("\n")); lines > maxLines {
				t.Errorf("main.go has %d lines, want at most %d", lines, maxLines)
			}
			checkImports(t, source)
			checkComment(t, name, source)
		})
	}
}

func checkImports(t *testing.T, source []byte) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", source, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if inner, ok := strings.CutPrefix(path, module); ok && !slices.Contains(public, inner) {
			t.Errorf("main.go imports %s, want of this module only %v", path, public)
		}
	}
}

// checkComment checks that the package comment has the two lines to type.
func checkComment(t *testing.T, name string, source []byte) {
	t.Helper()
	comment, _, _ := strings.Cut(string(source), "\npackage main\n")
	line := "//\tgo run ./examples/" + name
	var founds, joins bool
	for l := range strings.SplitSeq(comment, "\n") {
		if strings.HasPrefix(l, line) {
			joins = joins || takesInvite(l)
			founds = founds || !takesInvite(l)
		}
	}
	if !founds || !joins {
		t.Errorf("the package comment is\n%s\nwant the line %q, and that with INVITE", comment, line)
	}
}
