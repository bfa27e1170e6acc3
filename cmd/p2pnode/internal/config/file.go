package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/pelletier/go-toml/v2"
)

const (
	// maxFile bounds a file, in bytes.
	maxFile = 1 << 20

	// maxEntries bounds the services in a file, and the forwards.
	maxEntries = 4096
)

// A File is what a file says, with nothing wrong in it.
type File struct {
	Path     string
	Node     []Setting // of [node], in the order of their keys
	Exposed  []Exposed
	Forwards []Forward
	Proxies  []Proxy
}

// A Setting is a key of [node] with its values: one, unless they are in a list.
type Setting struct {
	Key    string
	Values []string
	At     Place
}

// An Exposed is an entry of [[expose]]: what to ask a node for.
type Exposed struct {
	control.Exposed
	At Place
}

// A Forward is an entry of [[forward]]: what to ask a node for, with the address
// written as a node writes it.
type Forward struct {
	control.Forward
	At Place
}

// A Proxy is an entry of [[proxy]]: what to ask a node for, with the address written
// as a node writes it.
type Proxy struct {
	control.Proxy
	At Place
}

// A Place is where something stands in a file.
type Place struct {
	Line, Column int // from 1 on
}

// A Problem is one thing that is wrong with a file.
type Problem struct {
	Path string
	At   Place // the zero Place if it is not at one
	Err  error // with what would be right
}

func (p *Problem) Error() string {
	if p.At == (Place{}) {
		return fmt.Sprintf("%s: %v", p.Path, p.Err)
	}
	return fmt.Sprintf("%s:%d:%d: %v", p.Path, p.At.Line, p.At.Column, p.Err)
}

// Unwrap returns what is wrong, without where.
func (p *Problem) Unwrap() error { return p.Err }

// Read reads a file. If something is wrong with it the error is all that is, a
// [Problem] each, in the order of the lines.
func Read(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, data)
}

// content is what may stand in a file.
type content struct {
	Node    map[string]any `toml:"node,omitempty"`
	Expose  []expose       `toml:"expose,omitempty"`
	Forward []fwd          `toml:"forward,omitempty"`
	Proxy   []proxy        `toml:"proxy,omitempty"`
}

type expose struct {
	Service string   `toml:"service"`
	Target  string   `toml:"target,omitempty"`
	Files   string   `toml:"files,omitempty"`
	Allow   []string `toml:"allow,omitempty"`
	Deny    []string `toml:"deny,omitempty"`
	Idle    duration `toml:"idle-timeout,omitempty"`

	ProxyProtocol bool `toml:"proxy-protocol,omitempty"`
}

type fwd struct {
	Listen     string   `toml:"listen"`
	Target     string   `toml:"target"`
	DirectOnly bool     `toml:"direct-only,omitempty"`
	WaitDirect duration `toml:"wait-direct,omitempty"`
	Plain      bool     `toml:"plain,omitempty"`
	Spread     bool     `toml:"spread,omitempty"`
	Idle       duration `toml:"idle-timeout,omitempty"`
	Mode       string   `toml:"mode,omitempty"`
	Owner      string   `toml:"owner,omitempty"`
}

type proxy struct {
	Listen string `toml:"listen,omitempty"`
	Others bool   `toml:"others,omitempty"`
}

// A duration is written as "5s" or "1h30m".
type duration time.Duration

// UnmarshalText reads a duration.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%.40q is not how long: write it as 5s or 1h30m", text)
	}
	*d = duration(v)
	return nil
}

// MarshalText writes a duration.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// A reader takes a file apart and gathers what is wrong.
type reader struct {
	file      File
	places    places
	problems  []error
	listening map[forward.Address]Place // of each address to listen at
}

// Parse is Read of a file's content. The path is for what is said of it.
func Parse(path string, data []byte) (*File, error) {
	r := &reader{file: File{Path: path}, listening: map[forward.Address]Place{}}
	if len(data) > maxFile {
		return nil, &Problem{path, Place{}, fmt.Errorf("it has more than %d bytes", maxFile)}
	}
	r.places = r.find(data)
	var c content
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&c)
	if r.decoding(err); len(r.problems) == 0 {
		r.takeNode(c.Node)
		r.takeExposed(c.Expose)
		r.takeForwards(c.Forward)
		r.takeProxies(c.Proxy)
	}
	if len(r.problems) > 0 {
		return nil, r.all()
	}
	return &r.file, nil
}

// wrong notes a problem.
func (r *reader) wrong(at Place, err error) {
	r.problems = append(r.problems, &Problem{r.file.Path, at, err})
}

func (r *reader) wrongf(at Place, format string, args ...any) {
	r.wrong(at, fmt.Errorf(format, args...))
}

// maxProblems is how many are told at once.
const maxProblems = 20

// all joins the problems in the order of their places.
func (r *reader) all() error {
	at := func(err error) Place {
		var p *Problem
		errors.As(err, &p)
		return p.At
	}
	slices.SortStableFunc(r.problems, func(a, b error) int {
		return cmp.Or(cmp.Compare(at(a).Line, at(b).Line), cmp.Compare(at(a).Column, at(b).Column))
	})
	if more := len(r.problems) - maxProblems; more > 0 {
		r.problems = append(r.problems[:maxProblems], &Problem{r.file.Path, Place{}, fmt.Errorf("%d more like these", more)})
	}
	return errors.Join(r.problems...)
}

// decoding notes what the decoder has found.
func (r *reader) decoding(err error) {
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case err == nil:
	case errors.As(err, &strict):
		for _, e := range strict.Errors {
			line, column := e.Position()
			r.wrong(Place{line, column}, unknownKey(e.Key()))
		}
	case len(r.problems) > 0: // a key is there twice, and the decoder says no more than find
	case errors.As(err, &decode):
		line, column := decode.Position()
		r.wrongf(Place{line, column}, "%s", strings.TrimPrefix(decode.Error(), "toml: "))
	default:
		r.wrongf(Place{}, "%s", strings.TrimPrefix(err.Error(), "toml: "))
	}
}

// takeNode takes in the keys of [node], which are looked at by who has the flags.
func (r *reader) takeNode(node map[string]any) {
	for key, v := range node {
		s := Setting{Key: key, At: r.places.of("node", -1, key)}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, one := range list {
			switch one.(type) {
			case string, bool, int64:
				s.Values = append(s.Values, fmt.Sprint(one))
			default:
				r.wrongf(s.At, "%.80s is neither a text, a number, true nor false, nor a list of such", key)
			}
		}
		r.file.Node = append(r.file.Node, s)
	}
	slices.SortFunc(r.file.Node, func(a, b Setting) int { return cmp.Compare(a.Key, b.Key) })
}

func (r *reader) takeExposed(all []expose) {
	if len(all) > maxEntries {
		r.wrongf(Place{}, "there are %d services, more than %d", len(all), maxEntries)
		return
	}
	first := map[string]Place{}
	for i, x := range all {
		at := func(key string) Place { return r.places.of("expose", i, key) }
		if err := credential.CheckName(x.Service); err != nil && x.Service != overlay.PortsService {
			r.wrong(at("service"), missing("service", x.Service, fmt.Errorf("service %w", err)))
		} else if before, ok := first[x.Service]; ok {
			r.wrongf(at("service"), "service %s is exposed in line %d already; take one of the two out", x.Service, before.Line)
		} else {
			first[x.Service] = at("service")
		}
		if x.Files != "" {
			r.takeFiles(x, at)
		} else if x.Service == overlay.PortsService {
			r.takePorts(x, at)
		} else if a, err := forward.ParseAddress(x.Target); err != nil {
			r.wrong(at("target"), missing("target", x.Target, err))
		} else if strings.HasSuffix(a.String(), ":0") && a.Network() != "unix" {
			r.wrongf(at("target"), "target %v: port 0 can't be dialled; write the port that the program listens at", a)
		} else {
			r.takeIdle(x.Idle, at("idle-timeout"))
		}
		if a, err := forward.ParseAddress(x.Target); x.ProxyProtocol && (x.Files != "" || err == nil && a.Network() == "udp") {
			r.wrongf(at("proxy-protocol"), "proxy-protocol is for targets of bytes; take it out")
		}
		for key, rules := range map[string][]string{"allow": x.Allow, "deny": x.Deny} {
			for _, rule := range rules {
				if _, err := overlay.ParseRule(rule); err != nil {
					r.wrongf(at(key), "%.80q: %w", rule, err)
				}
			}
		}
		r.file.Exposed = append(r.file.Exposed, Exposed{control.Exposed{
			Service: x.Service, Target: x.Target, Files: x.Files, IdleTimeout: time.Duration(x.Idle), ProxyProtocol: x.ProxyProtocol, Allow: control.Rules(x.Allow), Deny: control.Rules(x.Deny), From: control.FromConfig,
		}, at("service")})
	}
}

// takeFiles takes in that a service is of files.
func (r *reader) takeFiles(x expose, at func(string) Place) {
	switch {
	case x.Target != "":
		r.wrongf(at("files"), "there is a target too; take one of the two out")
	case x.Service == overlay.PortsService:
		r.wrongf(at("files"), "the service %s is of ports; write target = \"8000-8999\", or another service", x.Service)
	case !filepath.IsAbs(x.Files):
		r.wrongf(at("files"), "files in %.80q: the path is relative; write it from / on", x.Files)
	}
	r.takeIdle(x.Idle, at("idle-timeout"))
}

// takePorts takes in that a service is of a range of ports.
func (r *reader) takePorts(x expose, at func(string) Place) {
	p, err := forward.ParsePorts(x.Target)
	switch {
	case err != nil:
		r.wrong(at("target"), missing("target", x.Target, err))
	case x.ProxyProtocol && p.Network() == "udp":
		r.wrongf(at("proxy-protocol"), "proxy-protocol is for targets of bytes; take it out")
	}
	r.takeIdle(x.Idle, at("idle-timeout"))
}

// takeIdle takes in how long a connection may be idle.
func (r *reader) takeIdle(d duration, at Place) {
	if idle := time.Duration(d); idle < 0 || idle > control.MaxIdleTimeout {
		r.wrongf(at, "idle-timeout is %v; want 0s to %v", idle, control.MaxIdleTimeout)
	}
}

func (r *reader) takeForwards(all []fwd) {
	if len(all) > maxEntries {
		r.wrongf(Place{}, "there are %d forwards, more than %d", len(all), maxEntries)
		return
	}
	for i, f := range all {
		at := func(key string) Place { return r.places.of("forward", i, key) }
		a := r.takeListen(f.Listen, at("listen"))
		r.takeIdle(f.Idle, at("idle-timeout"))
		if _, err := forward.ParseMode(f.Mode); err != nil {
			r.wrong(at("mode"), err)
		}
		if (f.Mode != "" || f.Owner != "") && a.Network() != "unix" {
			r.wrongf(at("listen"), "mode and owner are for a unix socket, as unix:/run/db.sock; take them out")
		}
		if _, err := overlay.ParseTarget(f.Target); err != nil {
			r.wrong(at("target"), missing("target", f.Target, err))
		}
		switch wait := time.Duration(f.WaitDirect); {
		case wait < 0 || wait > control.MaxWaitDirect:
			r.wrongf(at("wait-direct"), "wait-direct is %v; want 0s to %v", wait, control.MaxWaitDirect)
		case wait > 0 && !f.DirectOnly:
			r.wrongf(at("wait-direct"), "wait-direct needs direct-only = true")
		}
		r.file.Forwards = append(r.file.Forwards, Forward{control.Forward{
			Listen: a.String(), Target: f.Target, DirectOnly: f.DirectOnly, WaitDirect: time.Duration(f.WaitDirect), Plain: f.Plain, Spread: f.Spread, IdleTimeout: time.Duration(f.Idle),
			Mode: f.Mode, Owner: f.Owner, From: control.FromConfig,
		}, at("listen")})
	}
}

// takeListen takes in an address to listen at.
func (r *reader) takeListen(text string, at Place) forward.Address {
	a, err := forward.ParseListen(text)
	if err != nil {
		r.wrong(at, missing("listen", text, err))
		return a
	}
	if strings.HasSuffix(a.String(), ":0") && a.Network() != "unix" {
		r.wrongf(at, "port 0 would be another one each time; write the port to listen at")
		return a
	}
	if before, ok := r.listening[a]; ok {
		r.wrongf(at, "line %d listens at %v already; choose another port, or take one of the two out", before.Line, a)
		return a
	}
	r.listening[a] = at
	return a
}

func (r *reader) takeProxies(all []proxy) {
	if len(all) > maxEntries {
		r.wrongf(Place{}, "there are %d proxies, more than %d", len(all), maxEntries)
		return
	}
	for i, p := range all {
		at := r.places.of("proxy", i, "listen")
		if p.Listen == "" {
			p.Listen = control.DefaultProxy
		}
		a := r.takeListen(p.Listen, at)
		r.file.Proxies = append(r.file.Proxies, Proxy{control.Proxy{Listen: a.String(), Others: p.Others, From: control.FromConfig}, at})
	}
}

// missing says that a key is not there, if its value is empty, or else what is wrong
// with the value.
func missing(key, value string, err error) error {
	if value == "" {
		return fmt.Errorf("there is no %s; write %s = \"...\"", key, key)
	}
	return err
}
