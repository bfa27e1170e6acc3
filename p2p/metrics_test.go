package p2p

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// values returns what a registry shows, by name and labels.
func values(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "p2pnode_p2p_")
			for _, l := range m.GetLabel() {
				name += fmt.Sprintf(" %s=%s", l.GetName(), l.GetValue())
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

func TestMetricsOfTwoNodes(t *testing.T) {
	dialed, dials := prometheus.NewRegistry(), prometheus.NewRegistry()
	to := newTestNode(t, Config{Metrics: dialed, Admission: secret("word")})
	from := newTestNode(t, Config{Metrics: dials, Admission: secret("word")})
	stranger := newTestNode(t, Config{Admission: secret("wrong")})

	if err := from.Connect(testContext(t), to.ID(), to.Addrs()...); err != nil {
		t.Fatal(err)
	}
	near, far := openStream(t, from, to)
	if _, err := near.Write([]byte("four")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stranger.Connect(testContext(t), to.ID(), to.Addrs()...); err == nil {
			t.Fatal("Connect of a stranger = nil, want a refusal")
		}
	}
	if err := from.Connect(testContext(t), strangerID(t), addrs(closedTCP(t))...); err == nil {
		t.Fatal("Connect to nobody = nil, want an error")
	}
	until(t, "the refusals are counted", func() bool { return to.gate.refused.Load() == 2 })

	quiet := map[string]float64{
		"streams_waiting": 0, "stream_moves_total": 0, "stream_resumes_total": 0, "stream_stalls_total": 0,
		"stream_replayed_bytes_total": 0, "streams_lost_total why=time limit": 0, "streams_lost_total why=unknown": 0,
	}
	held := func(n *Node) float64 { return float64(n.StreamTotals().Held) }
	checkValues(t, "the node that dials", values(t, dials), quiet, map[string]float64{
		"stream_held_bytes":    held(from),
		"connections path=lan": 1, "connections path=direct": 0, "connections path=unix": 0, "connections path=relay": 0,
		"streams": 1, "streams_opened_total": 1,
		"stream_bytes_total direction=in": 0, "stream_bytes_total direction=out": 4,
		"connections_refused_total": 0, "dials_failed_total": 1,
	})
	checkValues(t, "the node that is dialed", values(t, dialed), quiet, map[string]float64{
		"stream_held_bytes":    held(to),
		"connections path=lan": 1, "connections path=direct": 0, "connections path=unix": 0, "connections path=relay": 0,
		"streams": 1, "streams_opened_total": 1,
		"stream_bytes_total direction=in": 4, "stream_bytes_total direction=out": 0,
		"connections_refused_total": 2, "dials_failed_total": 0,
	})
}

func checkValues(t *testing.T, whose string, got map[string]float64, wants ...map[string]float64) {
	t.Helper()
	want := map[string]float64{}
	for _, w := range wants {
		maps.Copy(want, w)
	}
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s: %s = %v, want %v", whose, name, g, v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: metrics = %v, want %v", whose, got, want)
	}
}

func TestNodesOnOneRegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	first := newTestNode(t, Config{Metrics: reg})
	_, err := New(Config{Metrics: reg, Listen: addrs("/ip4/127.0.0.1/tcp/0")})
	checkText(t, "New on a registry that has a node", err, "p2p: register metrics: another node has registered there, with the same labels")
	if got := len(values(t, reg)); got == 0 {
		t.Error("the first node's metrics are gone after a second could not register")
	}
	first.Close()
	if got := values(t, reg); len(got) != 0 {
		t.Errorf("metrics of a closed node = %v, want none", got)
	}
	newTestNode(t, Config{Metrics: reg}) // there is room again
}

func TestNodesOnOneRegistryWithLabels(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, name := range []string{"a", "b"} {
		newTestNode(t, Config{Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"node": name}, reg)})
	}
	got := values(t, reg)
	for _, want := range []string{"streams node=a", "streams node=b"} {
		if _, ok := got[want]; !ok {
			t.Errorf("metrics of two nodes = %v, want %s among them", got, want)
		}
	}
}

func TestLogsOfTwoNodes(t *testing.T) {
	var logs [2]bytes.Buffer
	var nodes [2]*Node
	for i := range nodes {
		log := slog.New(slog.NewTextHandler(&logs[i], &slog.HandlerOptions{Level: slog.LevelDebug}))
		nodes[i] = newTestNode(t, Config{Logger: log, Admission: secret("word")})
	}
	stranger := newTestNode(t, Config{Admission: secret("wrong")})
	if err := stranger.Connect(testContext(t), nodes[0].ID(), nodes[0].Addrs()...); err == nil {
		t.Fatal("Connect of a stranger = nil, want a refusal")
	}
	for _, n := range nodes {
		n.Close()
	}
	if got := logs[0].String(); !strings.Contains(got, "connection not admitted") || !strings.Contains(got, stranger.ID().String()) {
		t.Errorf("log of the node that refused = %q, want the refusal and the peer in it", got)
	}
	if got := logs[1].String(); got != "" {
		t.Errorf("log of the other node = %q, want nothing", got)
	}
}
