package control

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// openAPI describes the API. What is below the mark follows from the types of this
// package.
const (
	openAPI     = "../../../../docs/openapi.yaml"
	openAPIMark = "  # What follows is written by: go test ./cmd/p2pnode/internal/control -run TestOpenAPITypes -update\n"
)

// notOfAPI are types that no request or answer has.
var notOfAPI = []string{"Client", "Conn", "DialOptions"}

// The description has each type with the fields that it has, and each value of a type
// that is one of several. A line is changed only by who can say why, as the JSON is a
// promise.
func TestOpenAPITypes(t *testing.T) {
	types := newTypes(t)
	var b bytes.Buffer
	b.WriteString("  schemas:\n")
	for _, name := range slices.Sorted(maps.Keys(types.specs)) {
		types.write(&b, name)
	}
	file, err := os.ReadFile(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	byHand, got, found := strings.Cut(string(file), openAPIMark)
	if !found {
		t.Fatalf("%s has no line %q", openAPI, openAPIMark)
	}
	if *update {
		got = b.String()
		if err := os.WriteFile(openAPI, []byte(byHand+openAPIMark+got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got == b.String() {
		return
	}
	has := strings.Split(got, "\n")
	for i, want := range strings.Split(b.String(), "\n") {
		if i >= len(has) || has[i] != want {
			t.Fatalf("line %d below the mark of %s is %q, want %q: see there how it is written anew", i+1, openAPI, slices.Concat(has, make([]string, i+1))[i], want)
		}
	}
	t.Fatalf("%s has more than the types have", openAPI)
}

// goTypes are the types of this package, as they are written.
type goTypes struct {
	t      *testing.T
	specs  map[string]*ast.TypeSpec
	docs   map[string]string
	values map[string][]string // of a type of strings
}

func newTypes(t *testing.T) *goTypes {
	t.Helper()
	g := &goTypes{t, map[string]*ast.TypeSpec{}, map[string]string{}, map[string][]string{}}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if d, ok := d.(*ast.GenDecl); ok {
				g.take(d)
			}
		}
	}
	return g
}

func (g *goTypes) take(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && !slices.Contains(notOfAPI, s.Name.Name) {
				g.specs[s.Name.Name], g.docs[s.Name.Name] = s, sentence(d.Doc)
			}
		case *ast.ValueSpec:
			if of, ok := s.Type.(*ast.Ident); ok && len(s.Values) == 1 {
				if lit, ok := s.Values[0].(*ast.BasicLit); ok {
					v, _ := strconv.Unquote(lit.Value)
					g.values[of.Name] = append(g.values[of.Name], v)
				}
			}
		}
	}
}

// sentence returns a comment as one line.
func sentence(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

func (g *goTypes) write(b *bytes.Buffer, name string) {
	fmt.Fprintf(b, "    %s:\n      description: %q\n", name, g.docs[name])
	switch of := g.specs[name].Type.(type) {
	case *ast.StructType:
		fields := g.fields(of)
		fmt.Fprintf(b, "      type: object\n")
		var required []string
		for _, f := range fields {
			if f.required {
				required = append(required, f.name)
			}
		}
		if len(required) > 0 {
			fmt.Fprintf(b, "      required: [%s]\n", strings.Join(required, ", "))
		}
		fmt.Fprintf(b, "      properties:\n")
		for _, f := range fields {
			fmt.Fprintf(b, "        %s: %s\n", f.name, g.schema(f.of, f.doc))
		}
	default:
		fmt.Fprintf(b, "      type: string\n      enum: [%s]\n", strings.Join(g.values[name], ", "))
	}
}

// A jsonField is a field as encoding/json sees it.
type jsonField struct {
	name, doc string
	required  bool
	of        ast.Expr
}

func (g *goTypes) fields(s *ast.StructType) (out []jsonField) {
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 { // what is embedded is part of it
			out = append(out, g.fields(g.specs[f.Type.(*ast.Ident).Name].Type.(*ast.StructType))...)
			continue
		}
		tag, _ := strconv.Unquote(f.Tag.Value)
		name, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		doc := strings.TrimSpace(sentence(f.Doc) + " " + sentence(f.Comment))
		out = append(out, jsonField{name, doc, !strings.HasPrefix(options, "omit"), f.Type})
	}
	return out
}

// schema returns what describes the values of a type, in one line.
func (g *goTypes) schema(of ast.Expr, doc string) string {
	said := ""
	if doc != "" {
		said = fmt.Sprintf(", description: %q", doc)
	}
	switch of := of.(type) {
	case *ast.StarExpr:
		return g.schema(of.X, doc)
	case *ast.ArrayType:
		bounds := ""
		if n, ok := of.Len.(*ast.BasicLit); ok {
			bounds = fmt.Sprintf(", minItems: %s, maxItems: %s", n.Value, n.Value)
		}
		return "{type: array, items: " + g.schema(of.Elt, "") + bounds + said + "}"
	case *ast.MapType:
		return "{type: object, additionalProperties: " + g.schema(of.Value, "") + said + "}"
	case *ast.SelectorExpr:
		switch name := of.Sel.Name; name {
		case "Time":
			return "{type: string, format: date-time" + said + "}"
		case "Duration":
			return "{type: integer, format: int64" + said + "}"
		case "Multiaddr":
			return "{type: string" + said + "}"
		}
	case *ast.Ident:
		switch name := of.Name; name {
		case "string":
			return "{type: string" + said + "}"
		case "bool":
			return "{type: boolean" + said + "}"
		case "float64":
			return "{type: number" + said + "}"
		case "int", "int64":
			return "{type: integer, format: int64" + said + "}"
		case "uint16", "uint64":
			return "{type: integer, minimum: 0" + said + "}"
		default:
			if g.specs[name] != nil && said == "" {
				return `{$ref: "#/components/schemas/` + name + `"}`
			}
			if g.specs[name] != nil {
				return `{allOf: [{$ref: "#/components/schemas/` + name + `"}]` + said + "}"
			}
		}
	}
	g.t.Fatalf("no schema for the type %#v", of)
	return ""
}
