package unixsock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

// frameVectors have one frame of each kind, as docs/protocol.md describes them.
var frameVectors = []struct {
	name string
	f    frame
	hex  string
}{
	{"open, without a name", frame{kind: frameOpen, socket: true, stream: 1}, "01010000" + "00000000" + "0000000000000001"},
	{"open, with a name", frame{kind: frameOpen, socket: true, stream: 3, payload: []byte("/a/1")}, "01010004" + "00000000" + "0000000000000003" + "2f612f31"},
	{"ask", frame{kind: frameAsk, stream: 5, payload: []byte("\x04/a/1?")}, "02000006" + "00000000" + "0000000000000005" + "042f612f313f"},
	{"answer", frame{kind: frameAnswer, socket: true, code: answerMute, stream: 5, payload: []byte("!")}, "03010001" + "00000002" + "0000000000000005" + "21"},
	{"answer that refuses", frame{kind: frameAnswer, stream: 5, payload: []byte("!")}, "03000001" + "00000000" + "0000000000000005" + "21"},
	{"end", frame{kind: frameEnd, stream: 2}, "04000000" + "00000000" + "0000000000000002"},
	{"reset", frame{kind: frameReset, code: 0x1001, stream: 2}, "05000000" + "00001001" + "0000000000000002"},
	{"close", frame{kind: frameClose, code: 0x1005}, "06000000" + "00001005" + "0000000000000000"},
}

func TestFrames(t *testing.T) {
	for _, tt := range frameVectors {
		b := tt.f.append(nil)
		if got := hex.EncodeToString(b); got != tt.hex {
			t.Errorf("%s: append = %s, want %s", tt.name, got, tt.hex)
		}
		f, rest, ok, err := cutFrame(append(b, "next"...))
		if err != nil || !ok || string(rest) != "next" || !bytes.Equal(f.append(nil), b) {
			t.Errorf("%s: cutFrame = %+v, %q, %v, %v", tt.name, f, rest, ok, err)
		}
		for n := range b {
			if _, rest, ok, err := cutFrame(b[:n]); ok || err != nil || len(rest) != n {
				t.Errorf("%s: cutFrame of %d of %d bytes = %d bytes left, %v, %v; want to wait for the rest", tt.name, n, len(b), len(rest), ok, err)
			}
		}
	}
}

func TestRefusedFrames(t *testing.T) {
	head := func(kind frameKind, socket byte, payload int) []byte {
		b := frame{kind: kind, payload: make([]byte, payload)}.append(nil)
		b[1] = socket
		return b
	}
	for name, b := range map[string][]byte{
		"no kind":                      head(0, 0, 0),
		"a kind that there is not":     head(frameClose+1, 0, 0),
		"two sockets":                  head(frameOpen, 2, 0),
		"open without a socket":        head(frameOpen, 0, 0),
		"ask with a socket":            head(frameAsk, 1, 8),
		"end with a socket":            head(frameEnd, 1, 0),
		"payload that is too long":     append(head(frameAnswer, 0, 0)[:2], 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"name that is too long":        head(frameOpen, 1, MaxName+1),
		"ask without a name":           head(frameAsk, 0, 1),
		"ask with nothing":             head(frameAsk, 0, 0),
		"ask whose name is cut":        frame{kind: frameAsk, payload: []byte("\x05name")}.append(nil),
		"question that is too long":    frame{kind: frameAsk, payload: append([]byte{1, 'n'}, make([]byte, MaxQuestion+1)...)}.append(nil),
		"answer that is too long":      head(frameAnswer, 0, MaxQuestion+1),
		"reset with something besides": head(frameReset, 0, 1),
	} {
		if f, _, ok, err := cutFrame(b); !errors.Is(err, errProtocol) || ok {
			t.Errorf("%s: cutFrame = %+v, %v, %v, want %v", name, f, ok, err, errProtocol)
		}
	}
}

// FuzzFrame checks that what is taken for a frame is written as the same bytes.
func FuzzFrame(f *testing.F) {
	for _, tt := range frameVectors {
		f.Add(tt.f.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, rest, ok, err := cutFrame(b)
		if err != nil || !ok {
			return
		}
		if whole := append(got.append(nil), rest...); !bytes.Equal(whole, b) {
			t.Errorf("cutFrame(%x) = %+v, which is %x", b, got, whole)
		}
		if got.kind == frameAsk {
			if name, question := got.asked(); name == "" || len(question) > MaxQuestion {
				t.Errorf("asked() of %x = %q, %d bytes", b, name, len(question))
			}
		}
	})
}
