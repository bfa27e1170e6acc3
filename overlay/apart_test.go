package overlay_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/prometheus/client_golang/prometheus"
)

// A logText is a log that may be read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// A side is one of two meshes in this process.
type side struct {
	alice, bob *overlay.Mesh
	logs       *logText
	metrics    *prometheus.Registry // alice's
}

func newSide(t testing.TB) side {
	t.Helper()
	s := side{logs: new(logText), metrics: prometheus.NewRegistry()}
	logger := slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.alice = open(t, overlay.Config{Name: "alice", Logger: logger, Metrics: s.metrics})
	s.bob = join(t, invite(t, s.alice, overlay.InviteOptions{}), overlay.Config{Name: "bob", Logger: logger})
	return s
}

// Two meshes in one process have the same names and nothing else in common.
func TestTwoMeshes(t *testing.T) {
	t.Parallel()
	one, two := newSide(t), newSide(t)
	for _, s := range []side{one, two} {
		waitAll(t, s.alice, s.bob)
		l := listen(t, s.alice, "whose")
		go func() {
			for {
				c, err := l.AcceptConn()
				if err != nil {
					return
				}
				c.Write([]byte(s.alice.ID().String()))
				c.Close()
			}
		}()
		await(t, "the service can be found", l.Found())
	}
	for _, tt := range []struct {
		name       string
		own, other side
	}{
		{"one", one, two},
		{"two", two, one},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, target := range []string{"alice/whose", "/whose"} {
				checkAnswer(t, tt.own.bob, target, tt.own.alice.ID().String())
			}
			if got := len(tt.own.bob.Members()); got != 2 {
				t.Errorf("bob sees %d members, want 2", got)
			}
			for _, m := range []*overlay.Mesh{tt.other.alice, tt.other.bob} {
				id := m.Self().ID
				if o, ok := tt.own.bob.Member(id); ok {
					t.Errorf("bob sees %+v of the other mesh", o)
				}
				_, err := tt.own.bob.Dial(testContext(t), id.String()+"/whose")
				checkIs(t, "Dial of a member of the other mesh", err, overlay.ErrUnknownMember)
			}
		})
	}
	// What was dialed above is in the log by right: look at the others.
	one.bob.Close()
	two.alice.Close()
	checkLog(t, one, two)
	checkLog(t, two, one)
	until(t, "the first alice's metrics show that bob is gone", func() bool { return connections(t, one.metrics) == 0 })
	if got, err := two.metrics.Gather(); err != nil || len(got) != 0 {
		t.Errorf("the second alice has %d metrics after Close, %v, want none", len(got), err)
	}
}

// checkLog sees that a mesh has logged something and no address of the other's.
func checkLog(t testing.TB, own, other side) {
	t.Helper()
	text := own.logs.String()
	if text == "" {
		t.Error("nothing was logged")
	}
	for _, m := range []*overlay.Mesh{other.alice, other.bob} {
		for _, addr := range m.Addrs() {
			if strings.Contains(text, addr.String()) {
				t.Errorf("the log has %v, which is of the other mesh", addr)
			}
		}
	}
	if strings.Contains(text, other.alice.ID().String()) {
		t.Error("the log has the ID of the other mesh")
	}
}

// connections returns what a registry says of connections.
func connections(t testing.TB, r *prometheus.Registry) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "p2pnode_p2p_connections" {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
			return sum
		}
	}
	t.Fatalf("no metric p2pnode_p2p_connections among %d", len(families))
	return 0
}

// Two nodes can't share a registry unnoticed; what New had opened is closed.
func TestSharedRegistry(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	labeled := func(node string) prometheus.Registerer {
		return prometheus.WrapRegistererWith(prometheus.Labels{"node": node}, r)
	}
	open(t, overlay.Config{Metrics: labeled("first")})
	if m, err := overlay.Open(testContext(t), onLoopback(overlay.Config{Metrics: labeled("first")})); err == nil {
		m.Close()
		t.Error("Open with a registry that has such a node = nil error, want one")
	}
	open(t, overlay.Config{Metrics: labeled("second")})
}
