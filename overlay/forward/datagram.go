package forward

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// maxDatagram is the most bytes that UDP carries over IPv4: a packet's 65,535
	// less the headers of IP and of UDP.
	maxDatagram = 65535 - 20 - 8

	// datagramHeader is what precedes a datagram on a stream: its length.
	datagramHeader = 2

	// readAhead is what a flow holds while it waits for the stream, and so what
	// several small datagrams are read with at once.
	readAhead = 2 << 10
)

var errDatagramTooLong = fmt.Errorf("a datagram has at most %d bytes", maxDatagram)

// A datagramReader takes a stream apart into datagrams.
type datagramReader struct{ r *bufio.Reader }

func newDatagramReader(r io.Reader) datagramReader {
	return datagramReader{bufio.NewReaderSize(r, readAhead)}
}

// next returns the next datagram in a buffer that the caller gives back. The error
// is io.EOF if the stream has ended between two datagrams.
func (d datagramReader) next() (*datagramBuffer, error) {
	head, err := d.r.Peek(datagramHeader)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head))
	if n > maxDatagram {
		return nil, fmt.Errorf("%w, and the stream tells of one of %d", errDatagramTooLong, n)
	}
	_, _ = d.r.Discard(datagramHeader) // which is there
	b := newDatagramBuffer()
	b.n = n
	if _, err := io.ReadFull(d.r, b.payload()); err != nil {
		b.release()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// appendDatagram appends a datagram as it is on a stream.
func appendDatagram(to, payload []byte) []byte {
	to = binary.BigEndian.AppendUint16(to, uint16(len(payload)))
	return append(to, payload...)
}

// A datagramBuffer has room for any datagram, and for one byte more, so that one
// that is too long is seen to be.
type datagramBuffer struct {
	bytes [maxDatagram + 1]byte
	n     int
}

var datagramPool = sync.Pool{New: func() any { return new(datagramBuffer) }}

func newDatagramBuffer() *datagramBuffer { return datagramPool.Get().(*datagramBuffer) }

func (b *datagramBuffer) payload() []byte { return b.bytes[:b.n] }

func (b *datagramBuffer) release() { datagramPool.Put(b) }

// maxQueued is the most bytes, lengths included, that wait for a stream: some tens
// of milliseconds of the fastest flow that a stream could carry, and room for the
// four largest datagrams at once.
const maxQueued = 4 * (datagramHeader + maxDatagram)

// A datagramQueue holds what is to go to a stream. Whoever reads a socket must not
// wait for a stream: what there is no room for is dropped, as UDP does.
type datagramQueue struct {
	mu      sync.Mutex
	waiting []byte // framed
	payload int    // bytes of it that are no lengths
	number  int    // datagrams
	closed  bool
	more    sync.Cond // something waits, or the queue is closed
}

func newDatagramQueue() *datagramQueue {
	q := new(datagramQueue)
	q.more.L = &q.mu
	return q
}

// put adds a datagram, and returns false if it is dropped.
func (q *datagramQueue) put(payload []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(payload) > maxDatagram || len(q.waiting)+datagramHeader+len(payload) > maxQueued {
		return false
	}
	q.waiting = appendDatagram(q.waiting, payload)
	q.payload += len(payload)
	q.number++
	q.more.Signal()
	return true
}

// take waits for datagrams and returns all there are, framed, and how many bytes
// they have. It returns nil when the queue is closed. In exchange it is given the
// bytes that it returned before.
func (q *datagramQueue) take(spent []byte) (framed []byte, payload int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		spent = nil // a flow that is idle holds nothing
	}
	for len(q.waiting) == 0 && !q.closed {
		q.more.Wait()
	}
	if q.closed {
		return nil, 0
	}
	framed, payload = q.waiting, q.payload
	q.waiting, q.payload, q.number = spent[:0], 0, 0
	return framed, payload
}

// close has take return, and returns how many datagrams nobody took.
func (q *datagramQueue) close() (left int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left = q.number
	q.closed, q.waiting, q.number = true, nil, 0
	q.more.Signal()
	return left
}
