package p2p

import (
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-yamux/v5"
)

// yamux cannot tell the other end that nobody reads any more: it drops what
// comes in for a closed stream, and the other end, which once has no window
// left, would write for ever. So a stream that is closed before the other end
// has closed its side lingers: what comes in is thrown away, and if it does
// not stop, the stream is reset. QUIC has STOP_SENDING and needs none of this.
const (
	// lingerBytes may be under way when a stream is closed. Whoever sends more
	// is told to stop, as TCP would tell at the first byte.
	lingerBytes = 1 << 20

	// lingerTimeout is how long the other end may be silent, after which its
	// data could still be read by a slow reader, so nothing is reset.
	lingerTimeout = time.Minute
)

// runsYamux tells whether streams of c have to linger.
func runsYamux(c network.Conn) bool {
	var y *yamux.Session
	return c.As(&y)
}

// linger closes a stream for writing, and for reading once the other end has.
// It does not wait for that.
func (s *Stream) linger() {
	_ = s.raw.CloseWrite()
	if !s.node.start(s.drain) { // the connection closes anyway
		s.uncount()
	}
}

func (s *Stream) drain() {
	defer s.uncount()
	s.rmu.Lock()
	defer s.rmu.Unlock()
	_ = s.raw.SetReadDeadline(time.Now().Add(lingerTimeout))
	if n, _ := io.CopyN(io.Discard, s.raw, lingerBytes); n == lingerBytes {
		_ = s.raw.Reset()
		return
	}
	_ = s.raw.Close()
}
