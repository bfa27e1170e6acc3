package config

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// places are where the keys of a file stand, by their names from the top on, as
// "node.name" or "expose.0.service". The decoder tells the places of what it
// refuses, and not of what it takes.
type places map[string]Place

// of returns the place of a key in a table, which is the one with a number if there
// are several, or that of the table if it has no such key.
func (p places) of(table string, number int, key string) Place {
	if number >= 0 {
		numbered := fmt.Sprintf("%s.%d", table, number)
		if at, ok := p[numbered+"."+key]; ok {
			return at
		}
		if at, ok := p[numbered]; ok {
			return at
		}
		return p[table]
	}
	if at, ok := p[table+"."+key]; ok {
		return at
	}
	return p[table]
}

// find returns the places of the keys of a file, as far as it is one, and notes
// those that are there twice.
func (r *reader) find(data []byte) places {
	found := places{}
	tables := map[string]int{}
	prefix := ""
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			name, at := keyOf(&p, e)
			prefix = name
			if e.Kind == unstable.ArrayTable {
				prefix = fmt.Sprintf("%s.%d", name, tables[name])
				tables[name]++
			} else if before, ok := found[prefix]; ok {
				r.wrongf(at, "[%.80s] is in line %d already; put both together", name, before.Line)
			}
			found[prefix] = at
		case unstable.KeyValue:
			name, at := keyOf(&p, e)
			key := strings.TrimPrefix(prefix+"."+name, ".")
			if before, ok := found[key]; ok {
				r.wrongf(at, "%.80s is in line %d already; take one of the two out", name, before.Line)
				continue
			}
			found[key] = at
		}
	}
	return found
}

// keyOf returns the name of a key, and where it begins.
func keyOf(p *unstable.Parser, e *unstable.Node) (name string, at Place) {
	var parts []string
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if parts == nil {
			start := p.Shape(n.Raw).Start
			at = Place{start.Line, start.Column}
		}
		parts = append(parts, string(n.Data))
	}
	return strings.Join(parts, "."), at
}

// known are the keys of each table.
var known = map[string][]string{
	"":        {"node", "expose", "forward", "proxy"},
	"expose":  {"service", "target", "files", "allow", "deny", "idle-timeout"},
	"forward": {"listen", "target", "direct-only", "wait-direct", "plain", "spread", "idle-timeout"},
	"proxy":   {"listen", "others"},
}

func unknownKey(key toml.Key) error {
	table, name := "", key[len(key)-1]
	if len(key) > 1 {
		table = key[0]
	}
	if table == "" || len(known[table]) == 0 {
		return Unknown(key[0], known[""])
	}
	return Unknown(name, known[table])
}

// Unknown returns the error for a key that is not known, with what may have been
// meant.
func Unknown(key string, known []string) error {
	near, distance := "", 1+len(key)/3
	for _, k := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(strings.ReplaceAll(key, "_", "-")), k); d <= distance && (near == "" || d < distance) {
			near, distance = k, d
		}
	}
	if near != "" {
		return fmt.Errorf("unknown key %.80q; did you mean %s?", key, near)
	}
	return fmt.Errorf("unknown key %.80q; there can be %s", key, strings.Join(known, ", "))
}
