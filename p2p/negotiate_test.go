package p2p

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/libp2p/go-libp2p/core/network"
)

// A scriptedStream reads from one place and writes to another.
type scriptedStream struct {
	network.MuxedStream // nil: whatever else is called panics
	in                  io.Reader
	out                 io.Writer
}

func (s *scriptedStream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *scriptedStream) Write(p []byte) (int, error) { return s.out.Write(p) }

// A stingyWriter takes a few bytes of each Write and then fails like a Write
// whose deadline passed.
type stingyWriter struct {
	strings.Builder
	each int
}

func (w *stingyWriter) Write(p []byte) (int, error) {
	if len(p) <= w.each {
		return w.Builder.Write(p)
	}
	k, _ := w.Builder.Write(p[:w.each])
	return k, os.ErrDeadlineExceeded
}

const testName = "\x13/multistream/1.0.0\n\x08/test/1\n"

func TestNamerWrites(t *testing.T) {
	big := strings.Repeat("b", 100<<10)
	for _, tt := range []struct {
		name string
		do   func(n *namer) error
		want string
	}{
		{"nothing, until asked", func(n *namer) error { return nil }, ""},
		{"the name with the first bytes", func(n *namer) error { return write(n, "a") }, testName + "a"},
		{"the name once", func(n *namer) error { return errors.Join(write(n, "a"), write(n, "b")) }, testName + "ab"},
		{"the name by itself", func(n *namer) error { n.Flush(); n.Flush(); return nil }, testName},
		{"the name by itself, then bytes", func(n *namer) error { n.Flush(); return write(n, "a") }, testName + "a"},
		{"more than goes with the name", func(n *namer) error { return write(n, big) }, testName + big},
		{"no bytes", func(n *namer) error { return write(n, "") }, testName},
		{"the name before it reads", func(n *namer) error {
			_, err := n.Read(make([]byte, 1))
			return err
		}, testName},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			n := newNamer(&scriptedStream{in: strings.NewReader(testName + "x"), out: &out}, "/test/1")
			if err := tt.do(n); err != nil {
				t.Fatal(err)
			}
			if out.String() != tt.want {
				t.Errorf("wrote %.80q (%d bytes), want %.80q (%d bytes)", out.String(), out.Len(), tt.want, len(tt.want))
			}
		})
	}
}

func write(w io.Writer, s string) error {
	k, err := io.WriteString(w, s)
	if err == nil && k != len(s) {
		err = io.ErrShortWrite
	}
	return err
}

// A Write that a deadline cuts short says how much of its own bytes went out,
// and the next goes on from there, whatever the length of each piece.
func TestNamerWritesInPieces(t *testing.T) {
	payload := strings.Repeat("0123456789", 10)
	for each := 1; each < len(testName)+len(payload); each++ {
		out := &stingyWriter{each: each}
		n := newNamer(&scriptedStream{in: strings.NewReader(""), out: out}, "/test/1")
		left := payload
		for tries := 0; left != ""; tries++ {
			if tries > len(testName)+len(payload) {
				t.Fatalf("pieces of %d: no end of it", each)
			}
			k, err := n.Write([]byte(left))
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("pieces of %d: Write = %v", each, err)
			}
			left = left[k:]
		}
		if got := out.String(); got != testName+payload {
			t.Errorf("pieces of %d: wrote %q, want %q", each, got, testName+payload)
		}
	}
}

func TestNamerReads(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   io.Reader
		want string
		err  error
	}{
		{"an answer and bytes at once", strings.NewReader(testName + "bytes"), "bytes", nil},
		{"an answer and bytes one by one", iotest.OneByteReader(strings.NewReader(testName + "bytes")), "bytes", nil},
		{"an answer in halves", iotest.HalfReader(strings.NewReader(testName + "bytes")), "bytes", nil},
		{"an answer with the end", iotest.DataErrReader(strings.NewReader(testName)), "", nil},
		{"an answer and the end", strings.NewReader(testName), "", nil},
		{"na", strings.NewReader("\x13/multistream/1.0.0\n\x03na\n"), "", ErrNoListener},
		{"na byte by byte", iotest.OneByteReader(strings.NewReader("\x13/multistream/1.0.0\n\x03na\n")), "", ErrNoListener},
		{"another protocol", strings.NewReader("\x13/multistream/1.0.0\n\x08/test/2\n"), "", ErrNoListener},
		{"no multistream", strings.NewReader("HTTP/1.1 400 Bad Request\r\n\r\n"), "", ErrNoListener},
		{"the end at once", strings.NewReader(""), "", io.ErrUnexpectedEOF},
		{"the end in the answer", strings.NewReader(testName[:10]), "", io.ErrUnexpectedEOF},
		{"a reset in the answer", io.MultiReader(strings.NewReader(testName[:10]), iotest.ErrReader(network.ErrReset)), "", network.ErrReset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNamer(&scriptedStream{in: tt.in, out: io.Discard}, "/test/1")
			got, err := io.ReadAll(n)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("ReadAll = %q, %v, want %q, %v", got, err, tt.want, tt.err)
			}
			if tt.err == ErrNoListener {
				_, err := n.Read(make([]byte, 1))
				checkIs(t, "Read again", err, ErrNoListener)
			}
		})
	}
}

// A deadline that passes anywhere in the answer leaves the stream usable.
func TestNamerDeadlineInTheAnswer(t *testing.T) {
	for at := range len(testName) {
		in := io.MultiReader(
			strings.NewReader(testName[:at]),
			&failOnce{err: os.ErrDeadlineExceeded},
			strings.NewReader(testName[at:]+"bytes"),
		)
		n := newNamer(&scriptedStream{in: in, out: io.Discard}, "/test/1")
		if _, err := n.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline after %d bytes: Read = %v, want %v", at, err, os.ErrDeadlineExceeded)
		}
		if got, err := io.ReadAll(n); string(got) != "bytes" || err != nil {
			t.Errorf("deadline after %d bytes: ReadAll = %q, %v, want %q", at, got, err, "bytes")
		}
	}
}

type failOnce struct {
	err    error
	failed bool
}

func (f *failOnce) Read([]byte) (int, error) {
	if f.failed {
		return 0, io.EOF
	}
	f.failed = true
	return 0, f.err
}

func FuzzNamerRead(f *testing.F) {
	f.Add([]byte(testName + "bytes"))
	f.Add([]byte("\x13/multistream/1.0.0\n\x03na\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		n := newNamer(&scriptedStream{in: strings.NewReader(string(in)), out: io.Discard}, "/test/1")
		got, err := io.ReadAll(n)
		rest, named := strings.CutPrefix(string(in), testName)
		if named != (err == nil) || string(got) != rest && named {
			t.Errorf("ReadAll after the answer %q = %q, %v, want %q and success to be %v", in, got, err, rest, named)
		}
	})
}
