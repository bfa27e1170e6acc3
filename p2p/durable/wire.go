package durable

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// ErrProtocol says that the other end sent what no end may send.
var ErrProtocol = errors.New("durable stream: protocol violation")

// An ID names a stream between two peers. The end that opens the stream draws it
// at random; only the two ends know it, and it counts only from the peer that the
// stream is with.
type ID [8]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// What a frame is: the low two bits of its header, which is a uvarint. The rest of
// the header is a value.
const (
	kindData  = iota // value: the number of bytes that follow
	kindAsk          // as kindData, and the reader is to acknowledge it at once
	kindFin          // the end of the direction; value: what the sender has got of the other
	kindReset        // the end of the stream; value: a code
)

const (
	// MaxFrame bounds the bytes of one frame.
	MaxFrame = 1 << 20

	// MaxProtocol bounds the name of a stream's protocol.
	MaxProtocol = 255

	// maxOffset is far beyond what any stream carries. A bound keeps sums from
	// overflowing.
	maxOffset = 1 << 60

	// maxCode bounds the codes for why a stream is over.
	maxCode = 1<<32 - 1

	// maxHeader is the length of the longest header.
	maxHeader = binary.MaxVarintLen64
)

func appendHeader(b []byte, kind int, value uint64) []byte {
	return binary.AppendUvarint(b, value<<2|uint64(kind))
}

// AppendReset appends a frame that ends a stream with a code, as one end refuses what
// the other has opened.
func AppendReset(b []byte, code uint32) []byte { return appendHeader(b, kindReset, uint64(code)) }

// header reads a header. n is zero if b does not have all of it.
func header(b []byte) (kind int, value uint64, n int, err error) {
	v, n, err := uvarint(b)
	return int(v & 3), v >> 2, n, err
}

// uvarint reads a number in as few bytes as it has room in. n is zero if b does not
// have all of it.
func uvarint(b []byte) (v uint64, n int, err error) {
	v, n = binary.Uvarint(b)
	if n < 0 || n > 1 && b[n-1] == 0 || n == 0 && len(b) >= binary.MaxVarintLen64 {
		return 0, 0, fmt.Errorf("%w: a number that is malformed", ErrProtocol)
	}
	return v, n, nil
}

// What the first byte of a carrier says.
const (
	helloOpen   = 1 // from the opener: a new stream
	helloResume = 2 // from the opener: a stream that is to go on here
	helloGot    = 3 // the answer to helloResume: it goes on
	helloGone   = 4 // the answer to helloResume: it has ended
	helloAgain  = 5 // from the opener: helloResume, of a stream that the other end may not have heard of
	helloAll    = 6 // from the opener, on a carrier that a stream has left: the opener has all of that
)

// A Hello is what an opener sends first on each carrier.
type Hello struct {
	ID     ID
	Resume bool

	// Of a new stream, and of one that is to be resumed where the other end may not
	// have heard of it, as nothing has come from there.
	Protocol string

	// Of a stream that is to be resumed: the carrier's number, larger than those
	// before, and the offset up to which the opener has the other end's bytes.
	Epoch, Got uint64

	// Age is how long ago the stream was opened, in whole milliseconds, where the other
	// end may not have heard of it: who was started since does not know whether it had.
	Age time.Duration
}

// Append appends the bytes of h to b.
func (h Hello) Append(b []byte) []byte {
	switch {
	case h.Resume && h.Protocol == "":
		b = append(append(b, helloResume), h.ID[:]...)
		return binary.AppendUvarint(binary.AppendUvarint(b, h.Epoch), h.Got)
	case h.Resume:
		b = append(append(b, helloAgain), h.ID[:]...)
		b = binary.AppendUvarint(binary.AppendUvarint(b, h.Epoch), uint64(h.Age/time.Millisecond))
	default:
		b = append(append(b, helloOpen), h.ID[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(h.Protocol)))
	return append(b, h.Protocol...)
}

// ReadHello reads a Hello, and not a byte more. Its error is ErrProtocol or what r
// says.
func ReadHello(r io.Reader) (h Hello, err error) {
	var first [1]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return Hello{}, err
	}
	return readHello(r, first[0])
}

// ReadNext reads what comes on a carrier that a stream has left: the Hello of the next,
// or that the opener has all of the one before, which a Hello says too. It reads not a
// byte more, and its error is as that of ReadHello.
func ReadNext(r io.Reader) (h Hello, all bool, err error) {
	var first [1]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return Hello{}, false, err
	}
	if first[0] == helloAll {
		return Hello{}, true, nil
	}
	h, err = readHello(r, first[0])
	return h, false, err
}

// AppendAll appends what ReadNext reads as that the opener has all.
func AppendAll(b []byte) []byte { return append(b, helloAll) }

// readHello reads a Hello behind its first byte.
func readHello(r io.Reader, first byte) (h Hello, err error) {
	if first != helloOpen && first != helloResume && first != helloAgain {
		return Hello{}, fmt.Errorf("%w: a carrier that begins with %#x", ErrProtocol, first)
	}
	if _, err := io.ReadFull(r, h.ID[:]); err != nil {
		return Hello{}, unexpected(err)
	}
	switch first {
	case helloOpen:
		h.Protocol, err = readProtocol(r)
		return h, err
	case helloAgain:
		h.Resume = true
		var age uint64
		if h.Epoch, err = readUvarint(r); err == nil {
			age, err = readUvarint(r)
		}
		if err == nil && (h.Epoch == 0 || age > maxAge) {
			err = fmt.Errorf("%w: a resumption out of bounds", ErrProtocol)
		}
		if err != nil {
			return Hello{}, err
		}
		h.Age = time.Duration(age) * time.Millisecond
		h.Protocol, err = readProtocol(r)
		return h, err
	}
	h.Resume = true
	if h.Epoch, err = readUvarint(r); err == nil {
		h.Got, err = readUvarint(r)
	}
	if err == nil && (h.Epoch == 0 || h.Got > maxOffset) {
		err = fmt.Errorf("%w: a resumption out of bounds", ErrProtocol)
	}
	return h, err
}

// maxAge is 34 years, in milliseconds.
const maxAge = 1 << 40

// readProtocol reads the name of a protocol.
func readProtocol(r io.Reader) (string, error) {
	n, err := readUvarint(r)
	if err == nil && (n == 0 || n > MaxProtocol) {
		err = fmt.Errorf("%w: a protocol's name of %d bytes", ErrProtocol, n)
	}
	if err != nil {
		return "", err
	}
	name := make([]byte, n)
	_, err = io.ReadFull(r, name)
	return string(name), unexpected(err)
}

// An Answer is what the other end says to a Hello that resumes.
type Answer struct {
	Gone bool
	Code uint32 // why it has ended, if it has

	// The offset up to which it has the opener's bytes, and the one from which it
	// sends its own: that of the Hello, or more if more was acknowledged since.
	Got, From uint64
}

// Append appends the bytes of a to b.
func (a Answer) Append(b []byte) []byte {
	if a.Gone {
		return binary.AppendUvarint(append(b, helloGone), uint64(a.Code))
	}
	return binary.AppendUvarint(binary.AppendUvarint(append(b, helloGot), a.Got), a.From)
}

// ReadAnswer reads an Answer, and not a byte more.
func ReadAnswer(r io.Reader) (a Answer, err error) {
	var first [1]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return Answer{}, err
	}
	v, err := readUvarint(r)
	if err != nil {
		return Answer{}, err
	}
	switch {
	case first[0] == helloGot && v <= maxOffset:
		from, err := readUvarint(r)
		if err == nil && from > maxOffset {
			err = fmt.Errorf("%w: an answer out of bounds", ErrProtocol)
		}
		if err != nil {
			return Answer{}, err
		}
		return Answer{Got: v, From: from}, nil
	case first[0] == helloGone && v <= maxCode:
		return Answer{Gone: true, Code: uint32(v)}, nil
	}
	return Answer{}, fmt.Errorf("%w: an answer of %#x with %d", ErrProtocol, first[0], v)
}

// readUvarint reads a number byte by byte.
func readUvarint(r io.Reader) (uint64, error) {
	var b [binary.MaxVarintLen64]byte
	for i := range b {
		if _, err := io.ReadFull(r, b[i:i+1]); err != nil {
			return 0, unexpected(err)
		}
		if v, n, err := uvarint(b[:i+1]); n > 0 || err != nil {
			return v, err
		}
	}
	return 0, fmt.Errorf("%w: a number that is malformed", ErrProtocol)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// What a message between two nodes is about one of their streams: it goes beside
// the carriers, so that bytes that nobody reads don't hold it up.
const (
	MessageAck   = 1 // Value: the offset up to which the reader has the bytes
	MessageReset = 2 // Value: a code
	MessageLost  = 3 // Value: the number of the carrier that the end has no more
	MessageGone  = 4 // Value: the code with which the stream ended; the answer to MessageLost
)

// MaxMessage is the length of the longest Message.
const MaxMessage = 1 + len(ID{}) + binary.MaxVarintLen64

// A Message is about one stream.
type Message struct {
	Kind  byte
	ID    ID
	Value uint64
}

// Append appends the bytes of m to b.
func (m Message) Append(b []byte) []byte {
	return binary.AppendUvarint(append(append(b, m.Kind), m.ID[:]...), m.Value)
}

// ParseMessage reads the first message in b. n is zero if b does not have all of it.
func ParseMessage(b []byte) (m Message, n int, err error) {
	if len(b) == 0 {
		return Message{}, 0, nil
	}
	if b[0] < MessageAck || b[0] > MessageGone {
		return Message{}, 0, fmt.Errorf("%w: a message of kind %#x", ErrProtocol, b[0])
	}
	const at = 1 + len(m.ID)
	if len(b) <= at {
		return Message{}, 0, nil
	}
	m.Kind, m.ID = b[0], ID(b[1:at])
	v, k, err := uvarint(b[at:])
	if err != nil || k == 0 {
		return Message{}, 0, err
	}
	bound := uint64(maxCode)
	switch m.Kind {
	case MessageAck:
		bound = maxOffset
	case MessageLost:
		bound = math.MaxUint64
	}
	if v > bound {
		return Message{}, 0, fmt.Errorf("%w: a message with %d", ErrProtocol, v)
	}
	m.Value = v
	return m, at + k, nil
}
