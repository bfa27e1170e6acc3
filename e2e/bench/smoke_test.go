package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
	"go.uber.org/goleak"
)

// The roles are this test's own executable, started again.
func TestMain(m *testing.M) {
	if isRole(os.Args) {
		os.Exit(runRole(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// The smallest plan still sends more than one buffer.
func smallPlan(ways ...string) plan {
	return plan{Only: ways, Rounds: 2, BulkBytes: 3 * bulkBuffer, BulkTime: time.Minute, Trips: 5, Conns: 100, Time: 50 * time.Millisecond}
}

func TestEachWayIsMeasured(t *testing.T) {
	r, err := measureWays(t.Context(), smallPlan("none", "unix", "stream", "splice", "tls", "libp2p"), machine{}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Ways {
		if w.Err != "" || w.Skipped != "" || len(w.Rounds) != 2 {
			t.Errorf("%s: error %q, skipped %q, %d rounds, want 2 rounds alone", w.Name, w.Err, w.Skipped, len(w.Rounds))
		}
		for _, m := range measures {
			// So few bytes may cost less CPU time than its clock shows.
			if m.key != "cpu_s_per_gib" && !(w.Median[m.key] > 0) {
				t.Errorf("%s: median %s = %v, want more than 0", w.Name, m.key, w.Median[m.key])
			}
		}
		for _, base := range []string{"unix", "splice"} {
			if n := len(w.Ratios[base].Rounds); n != 2 {
				t.Errorf("%s: %d rounds of ratios to %s, want 2", w.Name, n, base)
			}
		}
		if tells := w.path() == "lan" || w.path() == "unix"; tells != (w.Name == "stream") {
			t.Errorf("%s: path %s", w.Name, w.path())
		}
	}
	checkJSON(t, r)
}

// Between two machines, ways whose ends are on one are skipped.
func TestWaysBetweenNamespaces(t *testing.T) {
	p := smallPlan("none", "unix", "splice", "tls", "libp2p")
	p.Apart = true
	r, err := measureWays(t.Context(), p, machine{}, io.Discard)
	if errors.Is(err, lab.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Ways {
		want := 2
		if w.Name == "unix" {
			want = 0
		}
		if w.Err != "" || (w.Skipped != "") != (want == 0) || len(w.Rounds) != want {
			t.Errorf("%s: error %q, skipped %q, %d rounds, want %d", w.Name, w.Err, w.Skipped, len(w.Rounds), want)
		}
	}
}

func checkJSON(t *testing.T, r *report) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bench.json")
	checkErr(t, r.writeJSON(file), "")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var again report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if again.Version != reportVersion || len(again.Ways) != len(r.Ways) {
		t.Errorf("JSON has version %d and %d ways, want %d and %d", again.Version, len(again.Ways), reportVersion, len(r.Ways))
	}
}

func TestInterruptEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := smallPlan("none")
	p.Rounds = 1
	p.Time, p.Conns = time.Hour, 1<<30
	_, err := measureWays(ctx, p, machine{}, cancelAtRound{cancel})
	checkErr(t, err, "interrupted")
}

// cancelAtRound is a log that cancels once the round begins.
type cancelAtRound struct{ cancel func() }

func (c cancelAtRound) Write(b []byte) (int, error) {
	if string(b) == "round 1 of 1\n" {
		c.cancel()
	}
	return len(b), nil
}

// A brokenWay is one that does not come up.
type brokenWay struct {
	overTCP
	err error
}

func (brokenWay) name() string { return "broken" }

// start returns its error, or else an address at which nobody listens, and the
// process that should ends.
func (w brokenWay) start(_ context.Context, s *site, _ string) (string, error) {
	if w.err != nil {
		return "", w.err
	}
	if _, err := s.startRole(s.near, "pigeon"); err != nil {
		return "", err
	}
	return s.near.freeAddr()
}

func TestWayThatDoesNotComeUp(t *testing.T) {
	for _, tt := range []struct {
		name         string
		err          error
		skipped, bad string // substrings
	}{
		{"not to be had", skip("no pigeons"), "no pigeons", ""},
		{"fault", errors.New("pigeon lost"), "", "pigeon lost"},
		{"nothing comes through", nil, "", `no byte came through: pigeon ended: exit status 2: no role "pigeon"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, s := open(t.Context(), brokenWay{err: tt.err}, places{})
			if s != nil {
				s.stop()
				t.Error("open gave a site, want none")
			}
			if res.Skipped != tt.skipped || !strings.Contains(res.Err, tt.bad) || (res.Err == "") != (tt.bad == "") {
				t.Errorf("result = %+v, want skipped %q, error %q", res, tt.skipped, tt.bad)
			}
		})
	}
}

// A way whose path is another in each round, and then can't be told.
func TestPathsAreNotedOnce(t *testing.T) {
	says := []string{"lan", "lan", "unix", "", "lan"}
	s := &site{path: func(context.Context) (p string, err error) {
		if p, says = says[0], says[1:]; p == "" {
			err = errors.New("gone")
		}
		return p, err
	}}
	w := &result{Name: "stream"}
	for range len(says) {
		w.notePath(t.Context(), s)
	}
	if got, want := w.path(), "lan,unix,unknown"; got != want {
		t.Errorf("path = %s, want %s", got, want)
	}
	w = &result{Name: "none"}
	w.notePath(t.Context(), &site{})
	if got := w.path(); got != "-" {
		t.Errorf("path of a way without = %s, want -", got)
	}
}

func TestSiteStopRemovesAll(t *testing.T) {
	s, err := openSite(t.Context(), splice{}, places{})
	if err != nil {
		t.Fatal(err)
	}
	dir, procs, undone := s.dir, s.procs, false
	s.onStop(func() { undone = true })
	s.stop()
	s.stop()
	if len(procs) != 3 {
		t.Errorf("%d processes, want client, server and proxy", len(procs))
	}
	for _, p := range procs {
		if p.ended() == nil {
			t.Errorf("%s runs after stop", p.name)
		}
	}
	if _, err := os.Stat(dir); err == nil || !undone {
		t.Errorf("after stop: folder there %v, undone %v, want it gone and undone", err == nil, undone)
	}
}

func TestProcessThatEnds(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := startProcess("pigeon", exec.Command(self, roleArg, "127.0.0.1", "pigeon"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	_, err = p.line(t.Context())
	checkErr(t, err, `pigeon ended: exit status 2: no role "pigeon"`)
}
