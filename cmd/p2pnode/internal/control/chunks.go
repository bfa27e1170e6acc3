package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
)

// A chunkReader reads what is in chunks. It is that of net/http/httputil, with
// the one thing that it can't: a line that says why there are no more.
type chunkReader struct {
	in   *bufio.Reader
	left int64 // of the chunk
	open bool  // the line end behind the chunk is not read yet
	err  error // what Read returns from now on
}

var errChunks = errors.New("malformed chunks")

// Read returns what there is of a chunk, and waits for the next only if there is
// nothing of this one.
func (r *chunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.left == 0 && r.err == nil {
		r.err = asBroken(r.next())
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.in.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err != nil {
		r.err = asBroken(err)
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

// next reads up to the bytes of the next chunk. It returns errLast at the last.
func (r *chunkReader) next() error {
	if r.open {
		end, err := r.line()
		if err != nil {
			return err
		}
		if len(end) > 0 {
			return errChunks
		}
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	if len(line) > 0 && line[0] == brokenMark {
		return broken(line[1:])
	}
	size, err := strconv.ParseUint(string(line), 16, 63)
	if err != nil {
		return errChunks
	}
	r.left, r.open = int64(size), true
	if size == 0 {
		return errLast
	}
	return nil
}

// errLast is the end that was meant, while io.EOF is one in the middle.
var errLast = errors.New("last chunk")

// line reads a line that is not longer than the buffer, without its end.
func (r *chunkReader) line() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errChunks
	}
	if err != nil {
		return nil, err
	}
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, errChunks
	}
	return text, nil
}

// broken returns the reason that a line has.
func broken(line []byte) error {
	var why Error
	if err := json.Unmarshal(line, &why); err != nil || why.Text == "" {
		return errChunks
	}
	return fmt.Errorf("%w: %w", ErrBroken, &why)
}

// asBroken says in our words how a stream ended.
func asBroken(err error) error {
	switch {
	case errors.Is(err, errLast):
		return io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return ErrBroken
	}
	return err
}
