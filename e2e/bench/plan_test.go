package main

import (
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestParseFlags(t *testing.T) {
	full, quick, mixed, nodes := fullPlan, quickPlan, quickPlan, fullPlan
	full.Only, quick.Only = wayNames(), wayNames()
	mixed.Only, mixed.Rounds, mixed.Time = []string{"splice", "none"}, 7, 2*time.Second
	nodes.Only = []string{"stream", "p2pnode", "p2pnode-lan"}
	for _, tt := range []struct {
		name string
		args []string
		want plan
		json string
		err  string // substring; empty means success
	}{
		{"nothing", nil, full, "", ""},
		{"quick", []string{"--quick"}, quick, "", ""},
		{"quick with bounds of one's own", []string{"--time=2s", "--quick", "--rounds=7", "--only=splice,none"}, mixed, "", ""},
		{"file", []string{"--json", "f"}, full, "f", ""},
		{"argument", []string{"none"}, plan{}, "", `arguments ["none"]`},
		{"unknown flag", []string{"--fast"}, plan{}, "", "--fast"},
		{"all that are nodes'", []string{"--only=stream,p2pnode,p2pnode-lan"}, nodes, "", ""},
		{"unknown way", []string{"--only=none,pigeon"}, plan{}, "", `no way "pigeon"`},
		{"way twice", []string{"--only=none,none"}, plan{}, "", `"none" twice`},
		{"no way", []string{"--only="}, plan{}, "", "names no way"},
		{"no rounds", []string{"--rounds=0"}, plan{}, "", "above 0"},
		{"time below zero", []string{"--bulk-time=-1s"}, plan{}, "", "above 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, json, err := parseFlags(tt.args, io.Discard)
			checkErr(t, err, tt.err)
			if err != nil {
				return
			}
			if !reflect.DeepEqual(got, tt.want) || json != tt.json {
				t.Errorf("parseFlags(%q) = %+v, %q, want %+v, %q", tt.args, got, json, tt.want, tt.json)
			}
		})
	}
}

func TestParseFlagsHelp(t *testing.T) {
	if _, _, err := parseFlags([]string{"--help"}, io.Discard); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("parseFlags(--help) = %v, want %v", err, pflag.ErrHelp)
	}
}
