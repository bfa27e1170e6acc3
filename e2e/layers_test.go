package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/p2pnode/p2pnode/"

// mayImport says which rooms of the house each may use: cmd, overlay, dht, p2p,
// in this order and no other, and a room below another is used by that or by
// those above. A room is named by the longest entry that fits.
var mayImport = map[string][]string{
	"p2p/kernel":              {}, // sockets, and nothing of ours
	"p2p/unixsock":            {"p2p/kernel"},
	"p2p/netwatch":            {}, // the machine's networks, of which all else of ours knows nothing
	"p2p/portmap":             {}, // asks a router, and knows nothing of what the ports are for
	"p2p/portmap/portmaptest": {},
	"p2p/lan":                 {}, // finds peers, and knows neither nodes nor meshes
	"p2p/durable":             {}, // a machine, which knows of no connection
	"p2p":                     {"p2p/unixsock", "p2p/kernel", "p2p/netwatch", "p2p/portmap", "p2p/lan", "p2p/durable"},
	"p2p/p2ptest":             {"p2p"},
	"dht":                     {"p2p"},
	"overlay/wire":            {}, // what members say is written down below the mesh,
	"overlay/wire/wiretest":   {},
	"overlay/credential":      {"overlay/wire"}, // and who is one is decided below it
	"overlay/forward":         {"p2p/kernel"},   // sockets and package net: it knows of no mesh
	"overlay":                 {"p2p", "dht", "overlay/credential", "overlay/wire"},
	"overlay/overlaytest":     {"overlay", "overlay/forward", "p2p/unixsock"},
	"cmd":                     {"p2p", "p2p/portmap", "p2p/unixsock", "dht", "overlay", "overlay/credential", "overlay/forward"},
	"examples":                {"p2p", "dht", "overlay", "overlay/credential", "overlay/forward"},
	"e2e/lab":                 {}, // networks, whatever is run in them
	"e2e":                     {"p2p", "dht", "overlay", "overlay/credential", "overlay/forward", "overlay/overlaytest", "e2e/lab", "p2p/portmap/portmaptest"},
}

// testsMayImport is what tests may use beyond that and what is below that: the
// kits that are made for them, and what is above the room, to see it in its place.
var testsMayImport = map[string][]string{
	"p2p/portmap":        {"p2p/portmap/portmaptest"},
	"p2p":                {"p2p/p2ptest", "p2p/portmap/portmaptest"},
	"dht":                {"p2p/p2ptest"},
	"overlay/wire":       {"overlay/wire/wiretest"},
	"overlay/credential": {"overlay/wire/wiretest"},
	"overlay/forward":    {"p2p", "overlay", "overlay/overlaytest", "overlay/wire/wiretest"},
	"overlay":            {"overlay/wire/wiretest", "overlay/overlaytest", "p2p/p2ptest"},
	"cmd":                {"overlay/overlaytest"},
}

// A place is where alone an outside library is used, and why.
type place struct {
	library string // and what is below it, unless it ends in $
	rooms   []string
	tests   bool // tests may use it anywhere
	why     string
}

var places = []place{
	{"github.com/libp2p/go-libp2p$", []string{"p2p"}, true, "only p2p builds hosts, and through their parts, so that each is set on purpose"},
	{"github.com/libp2p/go-libp2p/p2p/host/basic", []string{"p2p"}, false, "only p2p builds hosts"},
	{"github.com/libp2p/go-libp2p/p2p/host/resource-manager", []string{"p2p"}, false, "only p2p sets limits"},
	{"github.com/libp2p/go-libp2p/p2p/net", []string{"p2p"}, false, "only p2p has a swarm"},
	{"github.com/libp2p/go-libp2p/p2p/muxer", []string{"p2p"}, false, "only p2p chooses how bytes go"},
	{"github.com/libp2p/go-libp2p/p2p/security", []string{"p2p"}, false, "only p2p chooses how bytes go"},
	{"github.com/libp2p/go-libp2p/p2p/transport", []string{"p2p", "p2p/unixsock"}, false, "only p2p chooses how bytes go"},
	{"github.com/gorilla/websocket", []string{"p2p"}, false, "only p2p chooses how bytes go"},
	{"golang.org/x/net/proxy", []string{"p2p"}, false, "only p2p chooses how bytes go"},
	{"golang.org/x/net/http/httpproxy", []string{"cmd"}, false, "only the command looks at the environment"},
	{"github.com/quic-go/quic-go", []string{"p2p"}, false, "only p2p chooses how bytes go"},
	{"github.com/vishvananda/netlink", []string{"p2p/netwatch", "e2e/lab"}, true, "only netwatch asks the kernel about networks, and only the lab makes any"},
	{"github.com/libp2p/go-netroute", []string{"p2p/portmap"}, false, "only portmap talks to the gateway"},
	{"github.com/huin/goupnp", []string{"p2p/portmap"}, false, "only portmap talks to the gateway"},
	{"github.com/libp2p/go-libp2p-kad-dht", []string{"dht"}, false, "only dht knows kad-dht, so that it can change"},
	{"github.com/libp2p/go-libp2p-kbucket", []string{"dht"}, false, "it is a part of kad-dht"},
	{"github.com/libp2p/go-libp2p-record", []string{"dht"}, false, "it is a part of kad-dht"},
	{"github.com/libp2p/go-libp2p-pubsub", []string{"overlay"}, false, "only overlay gossips"},
	{"golang.org/x/net/dns", []string{"p2p/lan"}, false, "only lan speaks mDNS"},
	{"golang.org/x/net/bpf", []string{"p2p/lan"}, false, "only lan hears what is meant for others"},
	{"golang.org/x/net/ipv4", []string{"p2p/lan"}, false, "only lan chooses interfaces for what it sends to many"},
	{"golang.org/x/net/ipv6", []string{"p2p/lan"}, false, "only lan chooses interfaces for what it sends to many"},
	{"github.com/pires/go-proxyproto", []string{"overlay/forward"}, false, "only forward tells a target who speaks to it"},
	{"go.etcd.io/bbolt", []string{"overlay"}, false, "only overlay keeps state"},
	{"github.com/fxamacker/cbor", []string{"overlay/wire"}, false, "all messages have the one encoding that wire sees to"},
	{"google.golang.org/grpc", []string{"examples"}, false, "an example shows it over the mesh"},
	{"github.com/redis/go-redis", []string{"examples"}, false, "an example shows it over the mesh"},
	{"github.com/things-go/go-socks5", []string{"overlay/forward"}, false, "only the proxy speaks SOCKS to clients"},
	{"github.com/prometheus/client_golang", []string{"p2p", "overlay"}, true, "others are given figures by these"},
	{"github.com/pelletier/go-toml", []string{"cmd"}, false, "only the command has a configuration file"},
	{"github.com/coreos/go-systemd", []string{"cmd"}, false, "only the command is run by systemd"},
	{"github.com/agnivade/levenshtein", []string{"cmd"}, false, "only the command guesses what was meant"},
	{"github.com/spf13/cobra", []string{"cmd"}, false, "only the command has commands"},
	{"github.com/spf13/pflag", []string{"cmd", "e2e"}, false, "only programs have flags"},
	{"golang.org/x/term", []string{"cmd"}, false, "only the command has a terminal"},
	{"github.com/vishvananda/netns", []string{"e2e/lab"}, false, "only the lab makes networks"},
	{"github.com/getkin/kin-openapi", nil, true, "the control API is held to its description by tests alone"},
	{"github.com/stretchr/testify", nil, false, "compare with if, and say call = got, want want"},
}

// A pkg is what the go command says of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// packages returns those of this module, each once for every system that it is
// built for, as what is imported may differ.
var packages = sync.OnceValues(func() ([]pkg, error) {
	var all []pkg
	for _, system := range []string{"linux", "darwin", "windows"} {
		cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,TestImports,XTestImports", module+"...")
		cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, err
		}
		for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
			var p pkg
			err := dec.Decode(&p)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
	}
	return all, nil
})

// An edge is an import.
type edge struct {
	from, to string
	byTest   bool
}

// edges returns all imports of this module's packages, each once.
func edges(t *testing.T) []edge {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[edge]bool{}
	for _, p := range all {
		for _, to := range p.Imports {
			seen[edge{p.ImportPath, to, false}] = true
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			seen[edge{p.ImportPath, to, true}] = true
		}
	}
	var out []edge
	for e := range seen {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b edge) int { return strings.Compare(a.from+" "+a.to, b.from+" "+b.to) })
	return out
}

func (e edge) String() string {
	if e.byTest {
		return "a test of " + e.from + " imports " + e.to
	}
	return e.from + " imports " + e.to
}

// roomOf returns the room that a package of this module is in.
func roomOf(importPath string) string {
	for p := strings.TrimPrefix(importPath, module); p != "."; p = path.Dir(p) {
		if _, ok := mayImport[p]; ok {
			return p
		}
	}
	return ""
}

// below returns the rooms that a room stands on, itself included.
func below(room string) []string {
	out := []string{room}
	for _, r := range mayImport[room] {
		out = append(out, below(r)...)
	}
	return out
}

func TestImportsGoOneWay(t *testing.T) {
	for _, e := range edges(t) {
		room, to := roomOf(e.from), roomOf(e.to)
		may := mayImport[room]
		if e.byTest {
			may = slices.Concat(below(room), testsMayImport[room])
		}
		switch {
		case !strings.HasPrefix(e.to, module) || to == room || slices.Contains(may, to):
		case to == "cmd":
			t.Errorf("%v: what a command does is not for others to use", e)
		case to == "e2e":
			t.Errorf("%v: nothing stands on what tests and measures it", e)
		case room == "examples":
			t.Errorf("%v: examples use what users can, which is %v", e, may)
		default:
			t.Errorf("%v: of this module it may import %v, so that imports go cmd, overlay, dht, p2p", e, may)
		}
	}
}

func TestLibrariesHaveTheirPlace(t *testing.T) {
	used := map[string]bool{}
	for _, e := range edges(t) {
		for _, p := range places {
			if !p.has(e.to) {
				continue
			}
			used[p.library] = true
			room := roomOf(e.from)
			attacks := e.byTest && room == "e2e" // at whichever layer a node can be reached
			if slices.Contains(p.rooms, room) || p.tests && e.byTest || attacks || measures(e.from) {
				continue
			}
			t.Errorf("%v, which only %v may: %s", e, p.rooms, p.why)
		}
	}
	for _, p := range places {
		if len(p.rooms) > 0 && !used[p.library] {
			t.Errorf("nothing imports %s: it needs no place", p.library)
		}
	}
}

func (p place) has(importPath string) bool {
	if exact, ok := strings.CutSuffix(p.library, "$"); ok {
		return importPath == exact
	}
	return importPath == p.library || strings.HasPrefix(importPath, p.library+"/")
}

// measures tells whether a package has a plain libp2p program in it, to compare
// with.
func measures(importPath string) bool { return importPath == module+"e2e/bench" }

func TestPackagesHaveAPlaceAndAName(t *testing.T) {
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if roomOf(p.ImportPath) == "" {
			t.Errorf("%s is in no room: say in mayImport what it may import", p.ImportPath)
		}
		name := path.Base(p.ImportPath)
		if slices.Contains([]string{"util", "utils", "common", "types", "helper", "helpers", "misc", "pkg"}, name) {
			t.Errorf("%s is named for nothing: what would not be in it?", p.ImportPath)
		}
	}
}
