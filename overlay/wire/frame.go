package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge is what [ReadFrame] returns, with the sizes, for a frame that
// announces more than the reader takes. The stream is of no further use: the
// frame's bytes are still in it.
var ErrTooLarge = errors.New("frame too large")

// frameHeader is the length before each frame: 16 bits, big endian.
const frameHeader = 2

// WriteFrame writes b, at most [MaxSize] bytes, as one frame. It makes a single
// call to Write, so that a frame is not torn by another writer of a stream that
// serialises writes, and is not sent as two packets.
func WriteFrame(w io.Writer, b []byte) error {
	if len(b) > MaxSize {
		return fmt.Errorf("write frame: %w: %d bytes; at most %d", ErrTooLarge, len(b), MaxSize)
	}
	frame := make([]byte, 0, frameHeader+len(b))
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(b)))
	frame = append(frame, b...)
	if _, err := w.Write(frame); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// ReadFrame reads one frame of at most max bytes and returns what it carries,
// which may be empty. It reads not a byte beyond the frame, so r needs no
// buffer of its own and can be handed on.
//
// At the end of r it returns io.EOF as it is; an end inside a frame is an
// io.ErrUnexpectedEOF. A frame that announces more than max is [ErrTooLarge],
// before memory is set aside for it.
func ReadFrame(r io.Reader, max int) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read frame: length: %w", err)
	}
	n := int(binary.BigEndian.Uint16(header[:]))
	if n > max {
		return nil, fmt.Errorf("read frame: %w: %d bytes announced; at most %d", ErrTooLarge, n, max)
	}
	b := make([]byte, n)
	if got, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read frame: %d of %d bytes: %w", got, n, err)
	}
	return b, nil
}
