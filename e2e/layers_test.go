package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/p2pnode/p2pnode/"

// mayImport says which rooms of the house each may use: cmd, overlay, dht, p2p,
// in this order and no other. A room is named by the longest entry that fits.
var mayImport = map[string][]string{
	"p2p":                 {},
	"p2p/p2ptest":         {"p2p"},
	"dht":                 {"p2p"},
	"overlay/wire":        {},
	"overlay/credential":  {"overlay/wire"},
	"overlay/forward":     {}, // sockets and package net: it knows of no mesh
	"overlay":             {"p2p", "dht", "overlay/credential", "overlay/wire"},
	"overlay/overlaytest": {"overlay", "overlay/forward"},
	"cmd":                 {"p2p", "dht", "overlay", "overlay/credential", "overlay/forward", "cmd"},
	"examples":            {"p2p", "dht", "overlay", "overlay/credential", "overlay/forward"},
	"e2e":                 {"p2p", "dht", "overlay", "overlay/credential", "overlay/forward", "overlay/overlaytest", "e2e"},
}

// onlyIn says in which room an outside library is used, so that when the
// library changes the change is in one place.
var onlyIn = map[string][]string{
	"github.com/libp2p/go-libp2p/p2p/host/basic":     {"p2p"},
	"github.com/libp2p/go-libp2p/p2p/net/swarm":      {"p2p"},
	"github.com/libp2p/go-libp2p/p2p/transport":      {"p2p"},
	"github.com/libp2p/go-libp2p/p2p/security":       {"p2p"},
	"github.com/libp2p/go-libp2p-kad-dht":            {"dht"},
	"github.com/libp2p/go-libp2p-pubsub":             {"overlay"},
	"go.etcd.io/bbolt":                               {"overlay"},
	"github.com/fxamacker/cbor":                      {"overlay/wire"},
	"github.com/spf13/cobra":                         {"cmd"},
	"github.com/spf13/pflag":                         {"cmd", "e2e"},
	"github.com/prometheus/client_golang/prometheus": {"p2p", "overlay"},
}

// A pkg is what the go command says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
	Doc        string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles,Doc", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// roomOf returns the room that a package of this module is in.
func roomOf(path string) string {
	path = strings.TrimPrefix(path, module)
	for path != "." {
		if _, ok := mayImport[path]; ok {
			return path
		}
		path = filepath.Dir(path)
	}
	return ""
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range packages(t) {
		room := roomOf(p.ImportPath)
		if room == "" {
			t.Errorf("%s is in no room that mayImport names", p.ImportPath)
		}
		for _, imp := range p.Imports {
			to := roomOf(imp)
			if strings.HasPrefix(imp, module) && to != room && !slices.Contains(mayImport[room], to) {
				t.Errorf("%s imports %s; %s may import %v of this module", p.ImportPath, imp, room, mayImport[room])
			}
		}
	}
}

func TestLibrariesHaveTheirPlace(t *testing.T) {
	for _, p := range packages(t) {
		room := roomOf(p.ImportPath)
		for _, imp := range p.Imports {
			for library, rooms := range onlyIn {
				if (imp == library || strings.HasPrefix(imp, library+"/")) && !slices.Contains(rooms, room) && !measures(p) {
					t.Errorf("%s imports %s, which only %v may", p.ImportPath, imp, rooms)
				}
			}
		}
	}
}

// measures tells whether a package has a plain libp2p program in it, to compare
// with.
func measures(p pkg) bool { return p.ImportPath == module+"e2e/bench" }

func TestPackagesAreNamedAndExplained(t *testing.T) {
	for _, p := range packages(t) {
		name := filepath.Base(p.ImportPath)
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "misc"}, name) {
			t.Errorf("%s is named for nothing", p.ImportPath)
		}
		if len(p.Doc) < 20 {
			t.Errorf("%s has no package comment to speak of: %q", p.ImportPath, p.Doc)
		}
	}
}

func TestFilesAreConcepts(t *testing.T) {
	const most = 800 // lines; a longer file holds more than one concept
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(data, []byte("\n")); n > most {
				t.Errorf("%s has %d lines, more than %d", f, n, most)
			}
			simulated := bytes.Contains(data, []byte(`"testing/synctest"`))
			if sleep := []byte("time." + "Sleep("); strings.HasSuffix(f, "_test.go") && !simulated && bytes.Contains(data, sleep) {
				t.Errorf("%s sleeps; wait for an event, or simulate time", f)
			}
		}
	}
}
