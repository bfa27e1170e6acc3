package p2p

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
)

// A namer is the dialing end of a stream whose protocol is still to be named,
// by multistream-select 1.0.0 (https://github.com/multiformats/multistream-select):
// the name goes out with the first bytes written, and the answer, which can be
// only one if the peer speaks the protocol, comes in before the first byte
// read. So it costs no round trip. go-multistream has the same, but a deadline
// that passes while the answer is awaited breaks its stream for good.
//
// Reads must not overlap each other, nor writes; Flush may be called any time.
type namer struct {
	network.MuxedStream
	proto  string
	expect []byte // of the answer, not yet read
	err    error  // the answer was another
	read   bool   // the answer was read, and the name is out

	mu   sync.Mutex
	send []byte // of the name, not yet written
}

// withName bounds what goes out together with the name, well below the window
// that a stream begins with, so that the name is never stuck behind it.
const withName = 16 << 10

func newNamer(s network.MuxedStream, proto string) *namer {
	name := appendToken(appendToken(nil, "/multistream/1.0.0"), proto)
	return &namer{MuxedStream: s, proto: proto, send: name, expect: name}
}

// appendToken adds a length and a line.
func appendToken(b []byte, token string) []byte {
	b = binary.AppendUvarint(b, uint64(len(token)+1))
	return append(append(b, token...), '\n')
}

func (n *namer) Read(p []byte) (int, error) {
	if !n.read {
		n.Flush()
		if err := n.answer(); err != nil {
			return 0, err
		}
		n.read = true
	}
	return n.MuxedStream.Read(p)
}

// answer takes in the rest of the peer's answer.
func (n *namer) answer() error {
	for len(n.expect) > 0 && n.err == nil {
		got := make([]byte, len(n.expect))
		k, err := n.MuxedStream.Read(got)
		if !bytes.HasPrefix(n.expect, got[:k]) {
			n.err = fmt.Errorf("%w for %s", ErrNoListener, n.proto)
			break
		}
		n.expect = n.expect[k:]
		if len(n.expect) == 0 {
			break
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // no end that the peer's listener made
		}
		if err != nil {
			return err
		}
	}
	return n.err
}

func (n *namer) Write(p []byte) (int, error) {
	k, err := n.name(p[:min(len(p), withName)])
	if err != nil || k == len(p) {
		return k, err
	}
	m, err := n.MuxedStream.Write(p[k:])
	return k + m, err
}

// name writes what is left of the name, and p behind it. Once the name is out
// it writes nothing.
func (n *namer) name(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nameLocked(p)
}

func (n *namer) nameLocked(p []byte) (int, error) {
	if len(n.send) == 0 {
		return 0, nil
	}
	k, err := n.MuxedStream.Write(append(bytes.Clone(n.send), p...))
	named := min(k, len(n.send))
	n.send = n.send[named:]
	return k - named, err
}

// Flush names the protocol now, if nothing was written yet, nor is just being
// written. What keeps it from doing so, Read and Write will tell.
func (n *namer) Flush() {
	if n.mu.TryLock() {
		defer n.mu.Unlock()
		_, _ = n.nameLocked(nil)
	}
}
