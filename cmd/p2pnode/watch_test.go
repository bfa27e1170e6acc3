package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

func testScenes() (before, now scene) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	node := func(sent uint64) control.Node {
		return control.Node{
			Name: "alice", Up: 1, Members: 2,
			Exposed:  []control.Exposed{{Service: "web", Target: "127.0.0.1:3000", Counts: control.Counts{Open: 1, Total: 2, Sent: sent}}},
			Forwards: []control.Forward{{Listen: "127.0.0.1:8080", Target: "bob/db"}},
			Proxies:  []control.Proxy{{Listen: "127.0.0.1:1080", Others: true, Counts: control.Counts{Total: 3, Received: 2 * sent}}},
			Streams:  []control.Stream{{Member: "bob", Service: "web", Path: "lan", Since: at.Add(-time.Minute), Moves: 2}},
		}
	}
	members := []control.Member{{Name: "alice", Self: true, Up: true, Path: "self"}, {Name: "bob", Up: true, Path: "lan", RTT: 0.25}, {Name: "carol"}}
	return scene{at, node(1024), members}, scene{at.Add(2 * time.Second), node(5120), members}
}

// What is watched has members, traffic with its rate, and streams.
func TestFrame(t *testing.T) {
	var got bytes.Buffer
	before, now := testScenes()
	for _, frames := range [][]line{frame(scene{}, before), frame(before, now)} {
		for _, l := range frames {
			got.WriteString(l.text + "\n")
		}
		got.WriteString("\n")
	}
	checkGolden(t, "testdata/watch.txt", got.Bytes())
}

// A terminal gets what fits, and styles only if they are wanted; the words are the same.
func TestPaint(t *testing.T) {
	before, now := testScenes()
	lines := frame(before, now)
	for _, tt := range []struct {
		name          string
		width, height int
		styled        bool
		rows          int
		last          string
	}{
		{"all fits", 120, 40, false, len(lines), "web from bob by lan, for 1m2s, 2 moves"},
		{"too many lines", 120, 5, false, 4, "and 11 lines more"},
		{"too long lines", 10, 40, false, len(lines), "web from b"},
		{"with styles", 120, 40, true, len(lines), "web from bob by lan, for 1m2s, 2 moves"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			paint(&b, lines, tt.width, tt.height, tt.styled)
			got := b.String()
			rows := strings.Split(strings.TrimSuffix(strings.TrimPrefix(got, "\x1b[H"), "\x1b[J"), "\x1b[K\n")
			rows = rows[:len(rows)-1]
			if len(rows) != tt.rows || rows[len(rows)-1] != tt.last {
				t.Errorf("paint = %d rows, the last %q, want %d and %q", len(rows), rows[len(rows)-1], tt.rows, tt.last)
			}
			if styled := strings.Contains(got, faint); styled != tt.styled {
				t.Errorf("paint = %q, want styles: %v", got, tt.styled)
			}
			words := strings.NewReplacer(bold, "", faint, "", plain, "").Replace(got)
			if strings.Contains(words, "\x1b[1m") || !strings.Contains(words, "carol") && tt.height > 10 {
				t.Errorf("paint without styles = %q, want the words", words)
			}
		})
	}
}
