package durable

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// frames makes the bytes of frames, each of a kind with data, or with a number.
type frames []byte

func (f frames) data(s string) frames { return append(appendHeader(f, kindData, uint64(len(s))), s...) }

func (f frames) header(kind int, value uint64) frames { return appendHeader(f, kind, value) }

// What a peer may not send is refused, and nothing of it is read.
func TestTakeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		wire frames
		data string
	}{
		{"a frame without data", frames{}.header(kindData, 0), ""},
		{"a frame without data that asks", frames{}.header(kindAsk, 0), ""},
		{"a frame that is too long by one", frames{}.header(kindData, MaxFrame+1), ""},
		{"a frame of 2^62-1 bytes", frames{}.header(kindData, 1<<62-1), ""},
		{"a header of 2^63", binary.AppendUvarint(nil, 1<<63), ""},
		{"a header of 65 bits", frames("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), ""},
		{"a header without end", frames("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ""},
		{"a header with a byte too many", frames("\x84\x00"), ""},
		{"data after the end", frames{}.data("ab").header(kindFin, 0).data("c"), "ab"},
		{"a second end", frames{}.header(kindFin, 0).header(kindFin, 0), ""},
		{"a reset after the end", frames{}.header(kindFin, 0).header(kindReset, 0), ""},
		{"an end that acknowledges what was not sent", frames{}.data("ab").header(kindFin, 4), "ab"},
		{"an end that acknowledges 2^62-1", frames{}.header(kindFin, 1<<62-1), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := Accept(ID{1}, Config{})
			e.Append([]byte("xyz"), start)
			flush(e)
			p := make([]byte, 100)
			_, n, err := e.Take(tt.wire, p)
			if !errors.Is(err, ErrProtocol) || string(p[:n]) != tt.data {
				t.Errorf("Take(%x) = %q, %v, want %q, ErrProtocol", []byte(tt.wire), p[:n], err, tt.data)
			}
		})
	}
}

// Where bytes come again, they have to be the same as before as far as this can be
// seen: the end is where it was.
func TestTakeRefusesAnotherPast(t *testing.T) {
	for _, tt := range []struct {
		name        string
		first, then frames
	}{
		{"longer, with the end seen", frames{}.data("abc").header(kindFin, 0), frames{}.data("abcde")},
		{"longer by one, with the end seen", frames{}.data("abc").header(kindFin, 0), frames{}.data("abcd")},
		{"the end too early, with the end seen", frames{}.data("abc").header(kindFin, 0), frames{}.data("a").header(kindFin, 0)},
		{"the end where there was data", frames{}.data("abc"), frames{}.data("a").header(kindFin, 0)},
		{"more behind the end", frames{}.data("abc").header(kindFin, 0), frames{}.data("abc").header(kindFin, 0).data("d")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := Open(ID{1}, Config{})
			h := e.Hello()
			take(t, e, tt.first)
			if ok, err := e.Resumed(h.Epoch, Answer{}, start); !ok || err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 100)
			if _, n, err := e.Take(tt.then, p); !errors.Is(err, ErrProtocol) || n > 0 {
				t.Errorf("Take(%x) = %q, %v, want ErrProtocol", []byte(tt.then), p[:n], err)
			}
		})
	}
}

// Offsets that can't be are refused, whatever they come with, and change nothing.
func TestOffsetsAreChecked(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(opener, other *End) error
		ok   bool
	}{
		{"an acknowledgement of what was sent", func(a, b *End) error { return a.Acked(5, start) }, true},
		{"an acknowledgement of less than before", func(a, b *End) error { return a.Acked(1, start) }, true},
		{"an acknowledgement of one byte more", func(a, b *End) error { return a.Acked(6, start) }, false},
		{"an acknowledgement of 2^63", func(a, b *End) error { return a.Acked(1<<63, start) }, false},
		{"an acknowledgement of what waits for a carrier", func(a, b *End) error {
			a.Append([]byte("x"), start)
			return a.Acked(6, start)
		}, false},
		{"resumed where the opener is", func(a, b *End) error { _, err := a.Resumed(a.Hello().Epoch, Answer{Got: 5}, start); return err }, true},
		{"resumed behind what was acknowledged", func(a, b *End) error { _, err := a.Resumed(a.Hello().Epoch, Answer{Got: 1}, start); return err }, false},
		{"resumed ahead of what was sent", func(a, b *End) error { _, err := a.Resumed(a.Hello().Epoch, Answer{Got: 6}, start); return err }, false},
		{"resumed at 2^63", func(a, b *End) error { _, err := a.Resumed(a.Hello().Epoch, Answer{Got: 1 << 63}, start); return err }, false},
		{"resumed from what was not read", func(a, b *End) error {
			_, err := a.Resumed(a.Hello().Epoch, Answer{Got: 5, From: 1}, start)
			return err
		}, false},
		{"a Hello ahead of what was sent", func(a, b *End) error {
			_, _, err := b.Resume(Hello{Resume: true, Epoch: 1, Got: 6}, start)
			return err
		}, false},
		{"a Hello at 2^63", func(a, b *End) error {
			_, _, err := b.Resume(Hello{Resume: true, Epoch: 1, Got: 1 << 63}, start)
			return err
		}, false},
		{"a Hello with the largest number", func(a, b *End) error {
			_, _, err := b.Resume(Hello{Resume: true, Epoch: 1<<64 - 1, Got: 5}, start)
			return err
		}, true},
		{"a Hello to the opener", func(a, b *End) error {
			_, _, err := a.Resume(Hello{Resume: true, Epoch: 1, Got: 5}, start)
			return err
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := Open(ID{1}, Config{}), Accept(ID{1}, Config{})
			for _, e := range []*End{a, b} {
				e.Append([]byte("hello"), start)
				flush(e)
				if err := e.Acked(2, start); err != nil {
					t.Fatal(err)
				}
			}
			err := tt.do(a, b)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrProtocol) {
				t.Fatalf("error = %v, want ErrProtocol: %v", err, !tt.ok)
			}
			for _, e := range []*End{a, b} {
				if !tt.ok && (e.Epoch() != 0 || !e.Outstanding()) {
					t.Errorf("epoch %d, Outstanding = %v, want 0, true", e.Epoch(), e.Outstanding())
				}
			}
		})
	}
}

// A carrier that came before the one that there is changes nothing.
func TestResumeBackwards(t *testing.T) {
	b := Accept(ID{1}, Config{})
	for _, tt := range []struct {
		name  string
		epoch uint64
		ok    bool
	}{
		{"the second", 2, true},
		{"the first, late", 1, false},
		{"the second again", 2, false},
		{"the third", 3, true},
	} {
		if _, ok, err := b.Resume(Hello{Resume: true, Epoch: tt.epoch}, start); ok != tt.ok || err != nil {
			t.Errorf("%s: Resume(epoch %d) = %v, %v, want %v", tt.name, tt.epoch, ok, err, tt.ok)
		}
	}
	if b.Epoch() != 3 {
		t.Errorf("Epoch = %d, want 3", b.Epoch())
	}
}

// What names a stream, or is said about one, has bounds.
func TestParsersRefuse(t *testing.T) {
	id := strings.Repeat("i", len(ID{}))
	number := func(v uint64) string { return string(binary.AppendUvarint(nil, v)) }
	hello := func(b string) error { _, err := ReadHello(strings.NewReader(b)); return err }
	next := func(b string) error { _, _, err := ReadNext(strings.NewReader(b)); return err }
	answer := func(b string) error { _, err := ReadAnswer(strings.NewReader(b)); return err }
	message := func(b string) error { _, _, err := ParseMessage([]byte(b)); return err }
	for _, tt := range []struct {
		name  string
		parse func(string) error
		in    string
	}{
		{"a carrier of no kind", hello, "\x00" + id},
		{"a carrier that begins with an answer", hello, "\x03" + id},
		{"that the opener has all where nothing was", hello, "\x06"},
		{"a carrier that goes on with an answer", next, "\x03" + id},
		{"a protocol without a name", hello, "\x01" + id + number(0)},
		{"a protocol's name that is too long", hello, "\x01" + id + number(MaxProtocol+1)},
		{"a protocol's name of 2^63 bytes", hello, "\x01" + id + number(1<<63)},
		{"a resumption on the first carrier", hello, "\x02" + id + number(0) + number(0)},
		{"a resumption beyond all bounds", hello, "\x02" + id + number(1) + number(maxOffset+1)},
		{"a number with a byte too many", hello, "\x02" + id + "\x81\x00"},
		{"an answer of no kind", answer, "\x01" + number(1)},
		{"an answer beyond all bounds", answer, "\x03" + number(maxOffset+1)},
		{"an answer from beyond all bounds", answer, "\x03" + number(1) + number(maxOffset+1)},
		{"an answer with a code beyond all bounds", answer, "\x04" + number(maxCode+1)},
		{"a message of no kind", message, "\x00" + id + number(1)},
		{"a message of a kind that is not known", message, "\x05"},
		{"an acknowledgement beyond all bounds", message, "\x01" + id + number(maxOffset+1)},
		{"a reset with a code beyond all bounds", message, "\x02" + id + number(maxCode+1)},
		{"an end with a code beyond all bounds", message, "\x04" + id + number(maxCode+1)},
		{"a message with a number without end", message, "\x01" + id + strings.Repeat("\xff", 10)},
	} {
		if err := tt.parse(tt.in); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: error = %v, want ErrProtocol", tt.name, err)
		}
	}
}
