package unixsock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

// helloVectors are what processes of different releases say to each other first,
// so they stay.
var helloVectors = []struct {
	name  string
	hello hello
	hex   string
}{
	{
		"no key", hello{},
		"01 0000" + strings.Repeat("00", nonceSize) + "00000000",
	},
	{
		"key", hello{key: []byte("key"), nonce: [nonceSize]byte{0: 0xa1, nonceSize - 1: 0xa2}, user: 1000},
		"01 0003 6b6579 a1" + strings.Repeat("00", nonceSize-2) + "a2 000003e8",
	},
	{
		"last user", hello{key: []byte{0}, user: 1<<32 - 1},
		"01 0001 00" + strings.Repeat("00", nonceSize) + "ffffffff",
	},
}

func sameHello(a, b hello) bool {
	return bytes.Equal(a.key, b.key) && a.nonce == b.nonce && a.user == b.user
}

func TestHelloVectors(t *testing.T) {
	for _, v := range helloVectors {
		t.Run(v.name, func(t *testing.T) {
			want := unhex(t, v.hex)
			if got := v.hello.bytes(); !bytes.Equal(got, want) {
				t.Errorf("written as %x, want %x", got, want)
			}
			r := bytes.NewReader(append(bytes.Clone(want), "more"...))
			h, err := readHello(r)
			if err != nil || !sameHello(h, v.hello) || r.Len() != len("more") {
				t.Errorf("read as %+v, %v, %d bytes left; want %+v and what follows left", h, err, r.Len(), v.hello)
			}
			for n := range want {
				if _, err := readHello(bytes.NewReader(want[:n])); err != io.EOF && err != io.ErrUnexpectedEOF {
					t.Errorf("%d of %d bytes: %v, want an end", n, len(want), err)
				}
			}
		})
	}
}

func TestLongestKey(t *testing.T) {
	want := hello{key: make([]byte, maxKey)}
	if h, err := readHello(bytes.NewReader(want.bytes())); err != nil || !sameHello(h, want) {
		t.Errorf("a key of %d bytes: %v", maxKey, err)
	}
}

func TestHellosRefused(t *testing.T) {
	tail := make([]byte, maxKey+1+nonceSize+4)
	for _, v := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"version 0", append([]byte{0, 0, 0}, tail...), "version 0 of the handshake, not 1"},
		{"version 2", append([]byte{2, 0, 0}, tail...), "version 2 of the handshake, not 1"},
		{"key too long", append([]byte{1, 0x04, 0x01}, tail...), "1025 bytes where there are at most 1024"},
	} {
		t.Run(v.name, func(t *testing.T) {
			_, err := readHello(bytes.NewReader(v.bytes))
			if !errors.Is(err, errProtocol) || !strings.Contains(err.Error(), v.want) {
				t.Errorf("%v, want %q", err, v.want)
			}
		})
	}
}

// What is read as a hello is written as the same bytes again.
func FuzzHello(f *testing.F) {
	for _, v := range helloVectors {
		f.Add(unhex(f, v.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := readHello(r)
		if err != nil {
			return
		}
		if again := h.bytes(); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("%x is written as %x", b, again)
		}
	})
}
func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
