package unixsock_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/transport"
	ttransport "github.com/libp2p/go-libp2p/p2p/transport/testsuite"
	"github.com/multiformats/go-multiaddr"
)

// TestSuite runs go-libp2p's own tests of a transport.
func TestSuite(t *testing.T) {
	for _, f := range ttransport.Subtests {
		a, b := newTransport(t), newTransport(t)
		addr := "/unix" + filepath.Join(shortDir(t), "s")
		ttransport.SubtestTransportWithFs(t, &manySockets{Transport: a.Transport}, b.Transport, addr, a.id, []ttransport.TransportSubTestFn{f})
	}
}

// manySockets listens at a new socket each time, as the suite expects of an
// address whose port is 0.
type manySockets struct {
	transport.Transport
	count atomic.Int64
}

func (m *manySockets) Listen(addr multiaddr.Multiaddr) (transport.Listener, error) {
	return m.Transport.Listen(multiaddr.StringCast(fmt.Sprintf("%v%d", addr, m.count.Add(1))))
}
