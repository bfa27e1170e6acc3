package unixsock

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A frame is what one end tells the other on the control socket of a
// connection. The bytes of streams go elsewhere, each on a socket of its own.
//
//	offset  bytes  meaning, numbers in big-endian order
//	0       1      kind
//	1       1      1 if a socket comes with the frame, else 0
//	2       2      length of the payload, at most 2048
//	4       4      code
//	8       8      the stream
//	16             payload
type frame struct {
	kind    frameKind
	socket  bool
	code    uint32
	stream  uint64
	payload []byte
}

type frameKind uint8

const (
	frameOpen   frameKind = 1 // a stream: its socket, and its name as payload
	frameAsk    frameKind = 2 // a stream to be answered: length of name, name, question
	frameAnswer frameKind = 3 // the answer to an ask, with the stream's socket unless it is refused
	frameEnd    frameKind = 4 // nothing more will be written to the stream
	frameReset  frameKind = 5 // the stream is given up, with a code
	frameClose  frameKind = 6 // the connection is given up, with a code
)

const (
	frameHead  = 16
	maxPayload = 2048

	// MaxName bounds the name of a stream, in bytes.
	MaxName = 255

	// MaxQuestion bounds the question of Ask and the answer to it, in bytes.
	MaxQuestion = maxPayload - 1 - MaxName
)

var errProtocol = errors.New("not the protocol of this package")

func (f frame) append(b []byte) []byte {
	var socket byte
	if f.socket {
		socket = 1
	}
	b = append(b, byte(f.kind), socket)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.payload)))
	b = binary.BigEndian.AppendUint32(b, f.code)
	b = binary.BigEndian.AppendUint64(b, f.stream)
	return append(b, f.payload...)
}

// cutFrame takes the first frame off b. ok is false if it is not whole yet. The
// payload is a part of b.
func cutFrame(b []byte) (f frame, rest []byte, ok bool, err error) {
	if len(b) < frameHead {
		return frame{}, b, false, nil
	}
	f = frame{
		kind: frameKind(b[0]), socket: b[1] == 1,
		code: binary.BigEndian.Uint32(b[4:]), stream: binary.BigEndian.Uint64(b[8:]),
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case f.kind < frameOpen || f.kind > frameClose:
		return frame{}, nil, false, fmt.Errorf("%w: frame of kind %d", errProtocol, f.kind)
	case b[1] > 1 || f.socket && f.kind > frameAnswer || !f.socket && f.kind == frameOpen || f.socket && f.kind == frameAsk:
		return frame{}, nil, false, fmt.Errorf("%w: frame of kind %d with %d sockets", errProtocol, f.kind, b[1])
	case n > maxPayload:
		return frame{}, nil, false, fmt.Errorf("%w: payload of %d bytes; at most %d", errProtocol, n, maxPayload)
	case len(b) < frameHead+n:
		return frame{}, b, false, nil
	}
	f.payload = b[frameHead : frameHead+n]
	if err := f.check(); err != nil {
		return frame{}, nil, false, err
	}
	return f, b[frameHead+n:], true, nil
}

// check keeps the payload within what its kind may hold.
func (f frame) check() error {
	var bad bool
	switch f.kind {
	case frameOpen:
		bad = len(f.payload) > MaxName
	case frameAsk:
		bad = len(f.payload) < 1 || f.payload[0] == 0 || len(f.payload) < 1+int(f.payload[0]) ||
			len(f.payload)-1-int(f.payload[0]) > MaxQuestion
	case frameAnswer:
		bad = len(f.payload) > MaxQuestion
	default:
		bad = len(f.payload) > 0
	}
	if bad {
		return fmt.Errorf("%w: payload of %d bytes in a frame of kind %d", errProtocol, len(f.payload), f.kind)
	}
	return nil
}

// asked returns the parts of an ask's payload.
func (f frame) asked() (name string, question []byte) {
	n := 1 + int(f.payload[0])
	return string(f.payload[1:n]), f.payload[n:]
}
