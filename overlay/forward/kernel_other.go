//go:build !linux

package forward

import (
	"net"
	"sync/atomic"
)

// transfer moves bytes from src to dst until src ends, and then returns nil, or
// until an error.
func transfer(dst, src *side, moved *atomic.Uint64) error {
	return copyBuffered(dst, readConn(src), moved)
}

// awaitReset would wait for a reset; here that is left to the next write.
func awaitReset(*side) error { return nil }

// readDatagrams returns what waits for a datagram, with a buffer.
func readDatagrams(c *net.UDPConn) func() (*datagramBuffer, error) {
	return func() (*datagramBuffer, error) {
		b := newDatagramBuffer()
		n, err := c.Read(b.bytes[:])
		if err != nil {
			b.release()
			return nil, err
		}
		b.n = n
		return b, nil
	}
}
