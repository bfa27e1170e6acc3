package p2p

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
)

// Somewhere on the way long packets may be lost without a word (RFC 2923, "black
// holes"). TCP connects there, and then stands still. So a connection that has not come
// about after a while is tried once more with segments that pass everywhere.

const (
	// narrowAfter is how long a handshake of TCP and TLS may take before: ten round
	// trips of 150 ms.
	narrowAfter = 1500 * time.Millisecond

	// narrowSegment is what is left of 1280 bytes, which is the least that IPv6 asks of
	// any link (RFC 8200), after the headers of IPv6 and TCP with its options.
	narrowSegment = 1280 - 40 - 32
)

// A patientTCP dials by TCP, and once more with short segments.
type patientTCP struct {
	*tcp.TcpTransport
	narrow *tcp.TcpTransport
}

// shortSegments makes connections whose both ends send short segments: each end keeps to
// what the other has announced.
func shortSegments(multiaddr.Multiaddr) (tcp.ContextDialer, error) {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = setMaxSegment(fd, narrowSegment) })
		if failed != nil {
			return failed
		}
		return err
	}}, nil
}

type tcpDial func(*tcp.TcpTransport, context.Context) (transport.CapableConn, error)

// Dial connects to an address.
func (t *patientTCP) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	return t.dial(ctx, func(t *tcp.TcpTransport, ctx context.Context) (transport.CapableConn, error) {
		return t.Dial(ctx, addr, id)
	})
}

// DialWithUpdates is Dial that tells when the peer has answered.
func (t *patientTCP) DialWithUpdates(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	return t.dial(ctx, func(t *tcp.TcpTransport, ctx context.Context) (transport.CapableConn, error) {
		return t.DialWithUpdates(ctx, addr, id, updates)
	})
}

// dial returns the first connection that comes about, or why the first try failed.
func (t *patientTCP) dial(ctx context.Context, dial tcpDial) (transport.CapableConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn   transport.CapableConn
		err    error
		narrow bool
	}
	results := make(chan result, 2)
	try := func(with *tcp.TcpTransport) {
		c, err := dial(with, ctx)
		results <- result{c, err, with == t.narrow}
	}
	go try(t.TcpTransport)
	timer := time.NewTimer(narrowAfter)
	defer timer.Stop()
	var failed error
	for running := 1; running > 0; {
		select {
		case <-timer.C:
			running++
			go try(t.narrow)
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				if running > 0 {
					go closeLoser(func() transport.CapableConn { return (<-results).conn })
				}
				return r.conn, nil
			}
			if failed == nil || !r.narrow {
				failed = r.err
			}
			if running == 0 && !r.narrow { // it has failed for a reason that short segments don't mend
				return nil, failed
			}
		}
	}
	return nil, failed
}

// closeLoser closes the connection of the try that came second, if it has one.
func closeLoser(wait func() transport.CapableConn) {
	if c := wait(); c != nil {
		_ = c.Close()
	}
}
