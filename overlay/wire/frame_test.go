package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrames(t *testing.T) {
	frames := [][]byte{[]byte("hello"), {}, bytes.Repeat([]byte{7}, MaxSize)}
	var stream bytes.Buffer
	for _, b := range frames {
		if err := WriteFrame(&stream, b); err != nil {
			t.Fatalf("WriteFrame of %d bytes = %v, want nil", len(b), err)
		}
	}
	r := iotest.OneByteReader(&stream)
	for _, want := range frames {
		if got, err := ReadFrame(r, MaxSize); err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadFrame = %d bytes, %v, want the %d written", len(got), err, len(want))
		}
	}
	if _, err := ReadFrame(r, MaxSize); err != io.EOF {
		t.Errorf("ReadFrame at the end = %v, want exactly io.EOF", err)
	}
}

func TestReadFrameRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		max      int
		want     error
		says     string
	}{
		{"half a length", "\x00", 5, io.ErrUnexpectedEOF, "length"},
		{"nothing after the length", "\x00\x05", 5, io.ErrUnexpectedEOF, "0 of 5 bytes"},
		{"a part", "\x00\x05hel", 5, io.ErrUnexpectedEOF, "3 of 5 bytes"},
		{"one too many", "\x00\x06hello!", 5, ErrTooLarge, "6 bytes announced; at most 5"},
		{"far too many", "\xff\xff", 5, ErrTooLarge, "65535 bytes announced"},
		{"nothing allowed", "\x00\x01!", 0, ErrTooLarge, "1 bytes announced; at most 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadFrame(strings.NewReader(tt.in), tt.max)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || got != nil {
				t.Errorf("ReadFrame = %q, %v, want %v that says %q", got, err, tt.want, tt.says)
			}
		})
	}
}

func TestReadFramePassesErrorsOn(t *testing.T) {
	reset := errors.New("reset")
	if _, err := ReadFrame(iotest.ErrReader(reset), 5); !errors.Is(err, reset) {
		t.Errorf("ReadFrame = %v, want %v", err, reset)
	}
	r := io.MultiReader(strings.NewReader("\x00\x05he"), iotest.ErrReader(reset))
	if _, err := ReadFrame(r, 5); !errors.Is(err, reset) {
		t.Errorf("ReadFrame = %v, want %v", err, reset)
	}
}

func TestReadFrameLeavesTheRest(t *testing.T) {
	r := strings.NewReader("\x00\x02hirest")
	if got, err := ReadFrame(r, 5); err != nil || string(got) != "hi" {
		t.Errorf("ReadFrame = %q, %v, want hi", got, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "rest" {
		t.Errorf("left in the stream = %q, want rest", rest)
	}
}

// writes records each call to Write.
type writes [][]byte

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, bytes.Clone(p))
	return len(p), nil
}

func TestWriteFrameWritesOnce(t *testing.T) {
	var w writes
	if err := WriteFrame(&w, []byte("hello")); err != nil {
		t.Fatalf("WriteFrame = %v, want nil", err)
	}
	if len(w) != 1 || string(w[0]) != "\x00\x05hello" {
		t.Errorf("WriteFrame wrote %q, want one piece, 0005 and hello", w)
	}
}

func TestWriteFrameRefuses(t *testing.T) {
	var w writes
	err := WriteFrame(&w, make([]byte, MaxSize+1))
	if !errors.Is(err, ErrTooLarge) || len(w) != 0 {
		t.Errorf("WriteFrame = %v after %d writes, want %v and none", err, len(w), ErrTooLarge)
	}
	r, closed := io.Pipe()
	r.Close()
	if err := WriteFrame(closed, []byte("hello")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("WriteFrame = %v, want %v", err, io.ErrClosedPipe)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x05hello"), 5)
	f.Add([]byte("\x00\x00\x00\x01a"), 100)
	f.Add([]byte("\xff\xff"), 10)
	f.Fuzz(func(t *testing.T, stream []byte, max int) {
		r := bytes.NewReader(stream)
		b, err := ReadFrame(r, max)
		if err != nil {
			return
		}
		if len(b) > max {
			t.Errorf("ReadFrame = %d bytes, want at most %d", len(b), max)
		}
		var again bytes.Buffer
		if err := WriteFrame(&again, b); err != nil || !bytes.Equal(again.Bytes(), stream[:len(stream)-r.Len()]) {
			t.Errorf("WriteFrame = %x, %v, want the bytes that were read", again.Bytes(), err)
		}
	})
}
