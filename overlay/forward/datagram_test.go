package forward

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/p2pnode/p2pnode/overlay/wire/wiretest"
)

func TestDatagramVectors(t *testing.T) {
	hello := []byte("hello")
	wiretest.Golden(t, "datagram", []wiretest.Vector{
		{Name: "of nothing", Value: hex.EncodeToString(appendDatagram(nil, nil))},
		{Name: "of 5 bytes", Value: hex.EncodeToString(appendDatagram(nil, hello))},
		{Name: "two, one of them of nothing", Value: hex.EncodeToString(appendDatagram(appendDatagram(nil, nil), hello))},
		{Name: "start of the longest", Value: hex.EncodeToString(appendDatagram(nil, make([]byte, maxDatagram))[:datagramHeader])},
	})
}

// readDatagramsOf returns all that can be read of a stream, and how it ended.
func readDatagramsOf(r io.Reader) (got [][]byte, err error) {
	d := newDatagramReader(r)
	for {
		b, err := d.next()
		if err != nil {
			return got, err
		}
		got = append(got, bytes.Clone(b.payload()))
		b.release()
	}
}

func TestDatagramReader(t *testing.T) {
	longest := bytes.Repeat([]byte{7}, maxDatagram)
	for _, tt := range []struct {
		name string
		in   []byte
		want [][]byte
		err  error
	}{
		{"nothing", nil, nil, io.EOF},
		{"one of nothing", []byte{0, 0}, [][]byte{{}}, io.EOF},
		{"some", []byte{0, 1, 'a', 0, 0, 0, 2, 'b', 'c'}, [][]byte{{'a'}, {}, {'b', 'c'}}, io.EOF},
		{"the longest", appendDatagram(nil, longest), [][]byte{longest}, io.EOF},
		{"one that is too long", []byte{0xff, 0xe4, 1, 2}, nil, errDatagramTooLong},
		{"the largest length", []byte{0, 0, 0xff, 0xff}, [][]byte{{}}, errDatagramTooLong},
		{"half a length", []byte{0, 0, 1}, [][]byte{{}}, io.ErrUnexpectedEOF},
		{"no datagram behind the length", []byte{0, 1}, nil, io.ErrUnexpectedEOF},
		{"half a datagram", []byte{0, 2, 'a'}, nil, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(tt.in), iotest.OneByteReader(bytes.NewReader(tt.in)), iotest.DataErrReader(bytes.NewReader(tt.in))} {
				got, err := readDatagramsOf(r)
				if !equalAll(got, tt.want) || !errors.Is(err, tt.err) {
					t.Errorf("read %d datagrams and %v, want %d and %v", len(got), err, len(tt.want), tt.err)
				}
			}
		})
	}
}

func equalAll(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Whatever is on a stream, the datagrams read are those whose bytes are there.
func FuzzDatagramReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'a'})
	f.Add([]byte{0xff, 0xe4})
	f.Add(appendDatagram(nil, make([]byte, 3000)))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readDatagramsOf(bytes.NewReader(in))
		var again []byte
		for _, d := range got {
			again = appendDatagram(again, d)
		}
		if !bytes.HasPrefix(in, again) || (err == io.EOF) != (len(again) == len(in)) {
			t.Errorf("%x gives %d datagrams and %v, which are written as %x", in, len(got), err, again)
		}
	})
}

func TestDatagramQueue(t *testing.T) {
	q := newDatagramQueue()
	for _, p := range []string{"a", "", "bc"} {
		if !q.put([]byte(p)) {
			t.Errorf("put(%q) = false, want true", p)
		}
	}
	framed, payload := q.take(nil)
	if want := []byte("\x00\x01a\x00\x00\x00\x02bc"); !bytes.Equal(framed, want) || payload != 3 {
		t.Errorf("take() = %q, %d, want %q, 3", framed, payload, want)
	}
	if q.put(make([]byte, maxDatagram+1)) {
		t.Error("put of a datagram that is too long = true, want false")
	}
	longest := make([]byte, maxDatagram)
	for range 4 {
		if !q.put(longest) {
			t.Error("put of the longest = false, want room for four")
		}
	}
	if q.put(nil) {
		t.Error("put into a full queue = true, want false")
	}
	if left := q.close(); left != 4 {
		t.Errorf("close() = %d, want 4 that nobody took", left)
	}
	if framed, _ := q.take(nil); framed != nil || q.put(nil) {
		t.Error("a closed queue gives or takes, want neither")
	}
}
