package p2p

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descConnections = prometheus.NewDesc("p2pnode_p2p_connections", "Connections to peers now.", []string{"path"}, nil)
	descStreams     = prometheus.NewDesc("p2pnode_p2p_streams", "Streams open now.", nil, nil)
	descOpened      = prometheus.NewDesc("p2pnode_p2p_streams_opened_total", "Streams opened, by either end.", nil, nil)
	descBytes       = prometheus.NewDesc("p2pnode_p2p_stream_bytes_total", "Bytes that streams carried.", []string{"direction"}, nil)
	descRefused     = prometheus.NewDesc("p2pnode_p2p_connections_refused_total", "Connections not admitted, by either end.", nil, nil)
	descFailed      = prometheus.NewDesc("p2pnode_p2p_dials_failed_total", "Dials that made no connection.", nil, nil)

	// Of streams that outlive their connections; see [StreamTotals].
	descWaiting  = prometheus.NewDesc("p2pnode_p2p_streams_waiting", "Streams that wait for a connection now.", nil, nil)
	descHeld     = prometheus.NewDesc("p2pnode_p2p_stream_held_bytes", "Memory held now for what peers have not acknowledged.", nil, nil)
	descMoves    = prometheus.NewDesc("p2pnode_p2p_stream_moves_total", "Times that a stream went over to a better connection.", nil, nil)
	descResumes  = prometheus.NewDesc("p2pnode_p2p_stream_resumes_total", "Times that a stream went on after its connection was lost.", nil, nil)
	descStalls   = prometheus.NewDesc("p2pnode_p2p_stream_stalls_total", "Times that a peer took long to acknowledge anything of a stream.", nil, nil)
	descReplayed = prometheus.NewDesc("p2pnode_p2p_stream_replayed_bytes_total", "Bytes of streams that were sent again.", nil, nil)
	descLost     = prometheus.NewDesc("p2pnode_p2p_streams_lost_total", "Streams lost: no connection within the time limit, or no longer known to the peer.", []string{"why"}, nil)
)

var descs = []*prometheus.Desc{
	descConnections, descStreams, descOpened, descBytes, descRefused, descFailed,
	descWaiting, descHeld, descMoves, descResumes, descStalls, descReplayed, descLost,
}

// A collector reads a node's counters when it is scraped.
type collector struct{ node *Node }

func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descs {
		out <- d
	}
}

func (c collector) Collect(out chan<- prometheus.Metric) {
	paths := map[Path]int{}
	for _, conn := range c.node.Connections() {
		paths[conn.Path]++
	}
	for p := PathUnix; p <= PathRelay; p++ {
		out <- prometheus.MustNewConstMetric(descConnections, prometheus.GaugeValue, float64(paths[p]), p.String())
	}
	out <- prometheus.MustNewConstMetric(descStreams, prometheus.GaugeValue, float64(c.node.openStreams()))
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(descOpened, c.node.streamsTotal.Load())
	count(descBytes, c.node.bytesIn.Load(), "in")
	count(descBytes, c.node.bytesOut.Load(), "out")
	count(descRefused, c.node.gate.refused.Load())
	count(descFailed, c.node.dialsFailed.Load())

	t := c.node.StreamTotals()
	out <- prometheus.MustNewConstMetric(descWaiting, prometheus.GaugeValue, float64(t.Waiting))
	out <- prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, float64(t.Held))
	count(descMoves, t.Moves)
	count(descResumes, t.Resumes)
	count(descStalls, t.Stalls)
	count(descReplayed, t.Replayed)
	count(descLost, t.Expired, "time limit")
	count(descLost, t.Unknown, "unknown")
}

func (n *Node) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	c := collector{n}
	var taken prometheus.AlreadyRegisteredError
	switch err := r.Register(c); {
	case errors.As(err, &taken):
		return errors.New("register metrics: another node has registered there, with the same labels")
	case err != nil:
		return fmt.Errorf("register metrics: %w", err)
	}
	n.unregister = func() { r.Unregister(c) }
	return nil
}

func (n *Node) openStreams() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, k := range n.streams {
		total += k
	}
	return total
}
