package main

import (
	"slices"
	"strings"
	"testing"
)

func TestLineWriter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"one write a line", []string{"a\n", "b\n"}, []string{"a", "b"}},
		{"pieces", []string{"a", "b\nc", "\n"}, []string{"ab", "c"}},
		{"carriage returns", []string{"a\r\nb\r\n"}, []string{"a", "b"}},
		{"unfinished", []string{"a\nb"}, []string{"a"}},
		{"more than are kept", []string{"a\nb\nc\nd\n"}, []string{"a", "b", "c"}},
		{"endless", []string{strings.Repeat("x", maxLine+1), "a\n"}, []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := lineWriter{lines: make(chan string, 3)}
			for _, text := range tt.writes {
				if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
					t.Fatalf("Write = %d, %v, want %d", n, err, len(text))
				}
			}
			close(w.lines)
			var got []string
			for line := range w.lines {
				got = append(got, line)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("lines = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var tl tail
	if got := tl.quoted(); got != "" {
		t.Errorf("quoted = %q of nothing, want nothing", got)
	}
	tl.Write([]byte(strings.Repeat("x", maxTail)))
	tl.Write([]byte("the end\n"))
	got := tl.quoted()
	if !strings.HasPrefix(got, ": xx") || !strings.HasSuffix(got, "xthe end") || len(got) > maxTail+2 {
		t.Errorf("quoted = %q of %d bytes, want the last %d", got, len(got), maxTail)
	}
}

func TestSaysReady(t *testing.T) {
	for _, tt := range []struct {
		line string
		want bool
	}{
		{`{"event":"ready","version":1}`, true},
		{`{"event":"joined"}`, false},
		{`{"event":1}`, false},
		{`ready`, false},
		{``, false},
	} {
		if got := saysReady(tt.line); got != tt.want {
			t.Errorf("saysReady(%q) = %v, want %v", tt.line, got, tt.want)
		}
	}
}

func TestPathIn(t *testing.T) {
	const peers = `{"v":1,"name":"alice","path":"unix"}
{"v":1,"name":"bob","self":true,"path":"self"}
{"v":1,"name":"carol"}
`
	for _, tt := range []struct {
		name, out, member string
		want, err         string
	}{
		{"first", peers, "alice", "unix", ""},
		{"no connection", peers, "carol", "", ""},
		{"not there", peers, "dave", "", "no dave"},
		{"nothing", "", "alice", "", "no alice"},
		{"not JSON", "alice unix", "alice", "", "invalid character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := pathIn(tt.out, tt.member)
			checkErr(t, err, tt.err)
			if got != tt.want {
				t.Errorf("pathIn(%q) = %q, want %q", tt.member, got, tt.want)
			}
		})
	}
}
