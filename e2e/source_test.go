package e2e

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxLines    = 800 // of a file: a longer one holds more than one concept
	minComments = 3   // lines of a package comment: fewer explain nothing
)

// A source is a parsed file of the module.
type source struct {
	path  string
	text  []byte
	files *token.FileSet
	*ast.File
}

// sources returns all Go files of the module, whatever they are built for.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, p := range all {
		dirs = append(dirs, p.Dir)
	}
	slices.Sort(dirs)
	var out []source
	for _, dir := range slices.Compact(dirs) {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			out = append(out, parse(t, path))
		}
	}
	return out
}

func parse(t *testing.T, path string) source {
	t.Helper()
	s := source{path: path, files: token.NewFileSet()}
	var err error
	if s.text, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if s.File, err = parser.ParseFile(s.files, path, s.text, parser.ParseComments); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) imports(path string) bool {
	return slices.ContainsFunc(s.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

func TestFilesAreConcepts(t *testing.T) {
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, want at most %d", s.path, n, maxLines)
		}
	}
}

func TestPackagesAreExplained(t *testing.T) {
	comments := map[string]int{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		dir := filepath.Dir(s.path)
		comments[dir] += 0
		if s.Doc != nil {
			comments[dir] += len(strings.Split(strings.TrimSpace(s.Doc.Text()), "\n"))
		}
	}
	for dir, lines := range comments {
		if lines < minComments {
			t.Errorf("%s has a package comment of %d lines, want at least %d", dir, lines, minComments)
		}
	}
}

// A sleep is too long or too short. In a simulation it is neither.
func TestTestsDoNotSleep(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest() || !s.imports("time") || s.imports("testing/synctest") {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%v: a test sleeps; wait for an event", s.files.Position(n.Pos()))
				}
			}
			return true
		})
	}
}
