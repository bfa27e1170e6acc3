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
)

// A collector reads a node's counters when it is scraped.
type collector struct{ node *Node }

func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConnections, descStreams, descOpened, descBytes, descRefused, descFailed} {
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
