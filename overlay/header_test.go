package overlay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// framed puts a message, given in hex, into a frame.
func framed(t testing.TB, message string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := wire.WriteFrame(&b, unhex(t, message)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestRoundTrip(t *testing.T) {
	for _, want := range []request{
		{"w", KindStream}, {"web", KindStream}, {"a-1", KindStream}, {strings.Repeat("x", credential.MaxName), KindStream},
		{"dns", KindDatagram}, {"later", 255},
	} {
		t.Run(want.Service, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeMessage(&b, want); err != nil {
				t.Fatal(err)
			}
			b.WriteString("what follows") // belongs to the programs
			got, err := readRequest(&b)
			if err != nil || got != want {
				t.Errorf("readRequest = %v, %v, want %v", got, err, want)
			}
			if rest := b.String(); rest != "what follows" {
				t.Errorf("after readRequest there is %q, want what follows the frame", rest)
			}
		})
	}
}

func TestAgreed(t *testing.T) {
	if err := readStatus(bytes.NewReader(agreed)); err != nil {
		t.Errorf("readStatus(agreed) = %v, want nil", err)
	}
	if want := framed(t, "a10100"); !bytes.Equal(agreed, want) || !bytes.Equal(yes, unhex(t, "a10100")) {
		t.Errorf("agreed = %x, yes = %x, want %x", agreed, yes, want)
	}
}

func TestReadRequestRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a length", []byte{0}, io.ErrUnexpectedEOF},
		{"a length and nothing", []byte{0, 6}, io.ErrUnexpectedEOF},
		{"cut off", framed(t, "a10163776562")[:7], io.ErrUnexpectedEOF},
		{"an empty frame", framed(t, ""), wire.ErrMalformed},
		{"no map", framed(t, "63776562"), wire.ErrMalformed},
		{"no service", framed(t, "a0"), wire.ErrMalformed},
		{"another key", framed(t, "a10263776562"), wire.ErrMalformed},
		{"a key more", framed(t, "a201637765620300"), wire.ErrMalformed},
		{"the usual kind, written out", framed(t, "a201637765620200"), wire.ErrMalformed},
		{"a kind too large", framed(t, "a2016377656202190100"), wire.ErrMalformed},
		{"a number for a service", framed(t, "a10107"), wire.ErrMalformed},
		{"bytes for a service", framed(t, "a10143776562"), wire.ErrMalformed},
		{"something behind it", framed(t, "a1016377656200"), wire.ErrMalformed},
		{"an empty name", framed(t, "a10160"), credential.ErrInvalid},
		{"upper case", framed(t, "a10163576562"), credential.ErrInvalid},
		{"a slash", framed(t, "a1016361"+"2f62"), credential.ErrInvalid},
		{"a name of 64", framed(t, "a1017840"+strings.Repeat("61", 64)), credential.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readRequest(bytes.NewReader(tt.in))
			if got != (request{}) || !errors.Is(err, tt.want) {
				t.Errorf("readRequest(%x) = %v, %v, want nothing and %v", tt.in, got, err, tt.want)
			}
		})
	}
}

// A frame that is too long is refused before any of it is read.
func TestReadMessageRefusesTooLong(t *testing.T) {
	for _, read := range []struct {
		name string
		call func(io.Reader) error
	}{
		{"readRequest", func(r io.Reader) error { _, err := readRequest(r); return err }},
		{"readStatus", readStatus},
	} {
		t.Run(read.name, func(t *testing.T) {
			long := bytes.NewReader(append([]byte{maxHeader >> 8, maxHeader&0xff + 1}, make([]byte, 1000)...))
			err := read.call(long)
			if !errors.Is(err, wire.ErrTooLarge) || long.Len() != 1000 {
				t.Errorf("%s = %v with %d bytes left, want %v with 1000 left", read.name, err, long.Len(), wire.ErrTooLarge)
			}
		})
	}
}

func TestStatusRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name         string
		refusal, say error // what the member decided, and what the dialer hears
	}{
		{"yes", nil, nil},
		{"no such service", ErrNoService, ErrNoService},
		{"not permitted", ErrNotPermitted, ErrNotPermitted},
		{"busy", ErrBusy, ErrBusy},
		{"another kind", ErrKind, ErrKind},
		{"a refusal with details", fmt.Errorf("4096 streams wait: %w", ErrBusy), ErrBusy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeMessage(&b, statusOf(tt.refusal)); err != nil {
				t.Fatal(err)
			}
			if got := readStatus(&b); got != tt.say {
				t.Errorf("readStatus = %v, want %v", got, tt.say)
			}
		})
	}
}

// What refuses a stream must never reach the dialer as a yes.
func TestStatusOfUnknownRefusal(t *testing.T) {
	var b bytes.Buffer
	if err := writeMessage(&b, statusOf(errors.New("the moon is wrong"))); err != nil {
		t.Fatal(err)
	}
	if err := readStatus(&b); err != ErrNotPermitted {
		t.Errorf("readStatus after a refusal for a reason that has no code = %v, want %v", err, ErrNotPermitted)
	}
}

func TestReadStatusRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		want error // nil: any
		says string
	}{
		{"an unknown code", framed(t, "a10106"), nil, "does not know: 6"},
		{"the largest code", framed(t, "a10118ff"), nil, "does not know: 255"},
		{"a code too large", framed(t, "a101190100"), wire.ErrMalformed, ""},
		{"a code below zero", framed(t, "a10120"), wire.ErrMalformed, ""},
		{"no code", framed(t, "a0"), wire.ErrMalformed, ""},
		{"a key more", framed(t, "a201000200"), wire.ErrMalformed, ""},
		{"nothing", nil, io.EOF, ""},
		{"cut off", framed(t, "a10101")[:4], io.ErrUnexpectedEOF, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := readStatus(bytes.NewReader(tt.in))
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("readStatus(%x) = %v, want %v, saying %q", tt.in, err, tt.want, tt.says)
			}
		})
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(framed(f, "a10163776562"))
	f.Add(framed(f, "a10160"))
	f.Add(framed(f, "a201637765620201"))
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		req, err := readRequest(bytes.NewReader(in))
		if err != nil {
			if req != (request{}) {
				t.Errorf("readRequest(%x) = %v, %v, want no request beside the error", in, req, err)
			}
			return
		}
		var b bytes.Buffer
		if err := writeMessage(&b, req); err != nil || !bytes.HasPrefix(in, b.Bytes()) {
			t.Errorf("readRequest(%x) = %v, which is written as %x, %v", in, req, b.Bytes(), err)
		}
	})
}

func FuzzReadStatus(f *testing.F) {
	for code := range refusals {
		f.Add(framed(f, fmt.Sprintf("a101%02x", code)))
	}
	f.Add(framed(f, "a10118ff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		err := readStatus(bytes.NewReader(in))
		for code, reason := range refusals {
			told := bytes.HasPrefix(in, framed(t, fmt.Sprintf("a101%02x", code)))
			if told != (err == reason) {
				t.Errorf("readStatus(%x) = %v, want %v only for code %d", in, err, reason, code)
			}
		}
	})
}
