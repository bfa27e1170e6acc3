package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const statLine = "4242 (%s) S 17 4242 4242 0 -1 4194560 1500 9000 0 3 250 130 40 7 20 0 9 0 88123 1270000000 5400\n"

func TestParseStat(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want procStat
		err  string // substring; empty means success
	}{
		{"plain", fmt.Sprintf(statLine, "bench"), procStat{parent: 17, ticks: 427}, ""},
		{"name with spaces and parentheses", fmt.Sprintf(statLine, "a) R 1 (b"), procStat{parent: 17, ticks: 427}, ""},
		{"empty", "", procStat{}, "no command name"},
		{"cut off", "4242 (bench) S 17 4242 4242", procStat{}, "too few fields"},
		{"parent is no number", strings.Replace(fmt.Sprintf(statLine, "x"), " 17 ", " x ", 1), procStat{}, "parent"},
		{"time is no number", strings.Replace(fmt.Sprintf(statLine, "x"), " 130 ", " - ", 1), procStat{}, "time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStat(tt.in)
			checkErr(t, err, tt.err)
			if got != tt.want {
				t.Errorf("parseStat(%q) = %+v, want %+v", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(fmt.Sprintf(statLine, "bench"))
	f.Add(fmt.Sprintf(statLine, ") ("))
	f.Add("1 (x) S")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStat(text)
		if err != nil {
			return
		}
		plain := fmt.Sprintf("1 (x) S %d 0 0 0 0 0 0 0 0 0 %d 0 0 0", s.parent, s.ticks)
		if again, err := parseStat(plain); err != nil || again != s {
			t.Errorf("parseStat(%q) = %+v, but in plain form it is %+v, %v", text, s, again, err)
		}
	})
}

func TestTreeTicks(t *testing.T) {
	stats := map[int]procStat{
		1:  {parent: 0, ticks: 1000},
		10: {parent: 1, ticks: 1},
		11: {parent: 10, ticks: 2},
		12: {parent: 11, ticks: 4},
		20: {parent: 1, ticks: 8},
	}
	for _, tt := range []struct {
		name  string
		roots []int
		want  uint64
		err   string
	}{
		{"a process and its descendants", []int{10}, 7, ""},
		{"two trees", []int{10, 20}, 15, ""},
		{"a root below another counts once", []int{11, 10}, 7, ""},
		{"none", nil, 0, ""},
		{"gone", []int{10, 99}, 0, "process 99 is gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := treeTicks(stats, tt.roots)
			checkErr(t, err, tt.err)
			if got != tt.want {
				t.Errorf("treeTicks(%v) = %d, want %d", tt.roots, got, tt.want)
			}
		})
	}
}

func TestCPUSeconds(t *testing.T) {
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "4242"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(proc, "4242", "stat"), fmt.Appendf(nil, statLine, "x"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := cpuSeconds(proc, []int{4242})
	checkErr(t, err, "")
	if want := 4.27; got != want {
		t.Errorf("cpuSeconds = %v, want %v", got, want)
	}
	_, err = cpuSeconds(t.TempDir(), []int{4242})
	checkErr(t, err, "shows no processes")
}

// checkErr fails the test unless err has want in its text, or is nil where want
// is empty.
func checkErr(t testing.TB, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error = %v, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error = %v, want one with %q", err, want)
	}
}
