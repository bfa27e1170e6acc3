package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Few of everything, and no time to settle.
func TestMeasureLocal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		measure measurement
		figures int
		want    []string // of the figures, the beginning of those that must be above 0
	}{
		{"start", measureLocalStart(1), 6, []string{"join, with a network: process", "up, with a network"}},
		{"peers", measureLocalPeers(peering{few: 1, held: 2, many: 3, processes: 2}), 14, []string{"p2p: resident memory with", "overlay: resident memory with"}},
		{"streams", measureLocalStreams(50), 6, nil},
		{"many", measureLocalMany(crowd{processes: 3, idle: 100 * time.Millisecond}), 7, []string{"each of 3", "3 processes", "resident", "members", "other members"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			figures := take(t, tt.measure)
			if len(figures) != tt.figures {
				t.Fatalf("figures = %v, want %d", figures, tt.figures)
			}
			for _, f := range figures {
				if len(f.Values) == 0 && f.Note == "" {
					t.Errorf("%s has neither a value nor a reason", f.Name)
				}
				for _, name := range tt.want {
					if strings.HasPrefix(f.Name, name) && !(f.percentile(1) > 0) {
						t.Errorf("%s = %v %s, want values above 0", f.Name, f.Values, f.Note)
					}
				}
			}
		})
	}
}

func TestParseCPU(t *testing.T) {
	const after = " S 1 1 1 0 -1 0 0 0 0 0 "
	for _, tt := range []struct {
		name, text string
		want       time.Duration
		err        string // substring; empty means success
	}{
		{"plain", "7 (p2pnode)" + after + "150 50 3 4 20 0", 2 * time.Second, ""},
		{"a name with spaces", "7 (p2p) node (x)" + after + "1 0 3 4", 10 * time.Millisecond, ""},
		{"too short", "7 (p2pnode) S 1 1", 0, "too few fields"},
		{"empty", "", 0, "too few fields"},
		{"no number", "7 (p2pnode)" + after + "x 50 3 4", 0, "time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseCPU(tt.text)
			checkErr(t, err, tt.err)
			if got != tt.want {
				t.Errorf("parseCPU(%q) = %v, want %v", tt.text, got, tt.want)
			}
		})
	}
}

func TestSinceSocket(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, int64(ms)*1e6) }
	for _, tt := range []struct {
		name     string
		appeared []time.Time
		want     time.Duration
		err      string // substring; empty means success
	}{
		{"once", []time.Time{at(90)}, 10 * time.Millisecond, ""},
		{"again by its name", []time.Time{at(90), at(95)}, 5 * time.Millisecond, ""},
		{"and another later", []time.Time{at(90), at(120)}, 10 * time.Millisecond, ""},
		{"only later", []time.Time{at(120), at(130)}, -20 * time.Millisecond, ""},
		{"never", nil, 0, "no socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := sinceSocket(at(100), tt.appeared)
			checkErr(t, err, tt.err)
			if got != tt.want {
				t.Errorf("sinceSocket = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSocketWatchSeesSocketsAlone(t *testing.T) {
	dir, err := os.MkdirTemp("", "watch") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	w, err := watchSockets(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if at := <-w.seen; at.Before(before) {
		t.Errorf("something appeared %v before the socket", before.Sub(at))
	}
	if more := w.take(); len(more) > 0 {
		t.Errorf("appeared %d times more, want once", len(more))
	}
}

func TestObey(t *testing.T) {
	orders := map[string]func([]string) (string, error){
		"say":  func(words []string) (string, error) { return strings.Join(words, "+"), nil },
		"fail": func([]string) (string, error) { return "", errors.New("no") },
	}
	for _, tt := range []struct {
		name, in, want string
		err            string // substring; empty means success
	}{
		{"nothing", "", "", ""},
		{"words", "say a b\nsay c\n", `{"Text":"a+b","Error":""}` + "\n" + `{"Text":"c","Error":""}` + "\n", ""},
		{"error", "fail\n", `{"Text":"","Error":"no"}` + "\n", ""},
		{"unknown", "sing\n", `{"Text":"","Error":"no such order"}` + "\n", ""},
		{"empty line", "\n", "", "without words"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			checkErr(t, obey(strings.NewReader(tt.in), &out, orders), tt.err)
			if out.String() != tt.want {
				t.Errorf("answers = %q, want %q", &out, tt.want)
			}
		})
	}
}

// What this program has started ends when it is killed. The processes hold the
// writing end of a pipe, which is at its end once all are gone.
func TestProcessesEndWithThisOne(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := exec.Command(self, parentRole)
	p.Stdout, p.Stderr = w, os.Stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	started := make([]byte, 1)
	_, err = io.ReadFull(r, started)
	if kill := errors.Join(p.Process.Kill(), r.SetReadDeadline(time.Now().Add(time.Minute))); err != nil || kill != nil {
		t.Fatal(err, kill)
	}
	_ = p.Wait() // says that it was killed
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("a process goes on after its parent: %v", err)
	}
}
