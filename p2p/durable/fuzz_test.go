package durable

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"
)

// refused fails unless err is one that a parser may have.
func refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrProtocol) && err != io.EOF && err != io.ErrUnexpectedEOF {
		t.Errorf("error = %v, want ErrProtocol, io.EOF, or io.ErrUnexpectedEOF", err)
	}
}

func FuzzReadHello(f *testing.F) {
	f.Add(Hello{Protocol: "/echo/1"}.Append(nil))
	f.Add(Hello{Resume: true, Epoch: 300, Got: 1 << 40}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := ReadHello(r)
		if err != nil {
			refused(t, err)
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("ReadHello(%x) = %+v, which is %x", b, h, again)
		}
		if len(h.Protocol) > MaxProtocol || h.Got > maxOffset || h.Resume == (h.Epoch == 0) {
			t.Errorf("ReadHello(%x) = %+v, out of bounds", b, h)
		}
	})
}

func FuzzReadNext(f *testing.F) {
	f.Add(AppendAll(nil))
	f.Add(Hello{Protocol: "/echo/1"}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, all, err := ReadNext(r)
		if err != nil {
			refused(t, err)
			return
		}
		again := h.Append(nil)
		if all {
			again = AppendAll(nil)
		}
		if !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("ReadNext(%x) = %+v, %v, which is %x", b, h, all, again)
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(Answer{Got: 300, From: 1 << 40}.Append(nil))
	f.Add(Answer{Gone: true, Code: CodeTimeLimit}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := ReadAnswer(r)
		if err != nil {
			refused(t, err)
			return
		}
		if again := a.Append(nil); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("ReadAnswer(%x) = %+v, which is %x", b, a, again)
		}
		if a.Got > maxOffset || a.From > maxOffset {
			t.Errorf("ReadAnswer(%x) = %+v, out of bounds", b, a)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	for kind := byte(MessageAck); kind <= MessageGone; kind++ {
		f.Add(Message{Kind: kind, Value: 300}.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, err := ParseMessage(b)
		if err != nil {
			refused(t, err)
			if n != 0 {
				t.Errorf("ParseMessage(%x) = %d, %v, want 0", b, n, err)
			}
			return
		}
		if n == 0 {
			if len(b) >= MaxMessage {
				t.Errorf("ParseMessage(%x) wants more than %d bytes", b, MaxMessage)
			}
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, b[:n]) {
			t.Errorf("ParseMessage(%x) = %+v, which is %x", b, m, again)
		}
		for k := range n {
			if _, n, err := ParseMessage(b[:k]); n != 0 || err != nil {
				t.Errorf("ParseMessage(%x) = %d, %v, want 0", b[:k], n, err)
			}
		}
	})
}

// FuzzTake has one end take what came all at once and another byte by byte, after
// they have gone on with another carrier, by which some bytes come again.
func FuzzTake(f *testing.F) {
	f.Add([]byte(frames{}.data("abc").data("d").header(kindFin, 2)), uint8(0), false)
	f.Add([]byte(frames{}.data("abc").header(kindAsk, 1))[:6], uint8(2), false)
	f.Add([]byte(frames{}.data("abcde").header(kindFin, 0)), uint8(6), true)
	f.Add([]byte(frames{}.data("abc").header(kindReset, CodeNoListener)), uint8(1), false)
	f.Fuzz(func(t *testing.T, wire []byte, again uint8, finished bool) {
		var ends [2]*End
		for i := range ends {
			e := Open(ID{1}, Config{})
			e.Append([]byte("xyz"), start)
			flush(e)
			h := e.Hello()
			if n := int(again); n > 1 {
				take(t, e, frames{}.data(string(make([]byte, n-1))))
			}
			if finished && again > 0 {
				take(t, e, frames{}.header(kindFin, 0))
			}
			if ok, err := e.Resumed(h.Epoch, Answer{}, start); err != nil || !ok {
				t.Fatal(err)
			}
			ends[i] = e
		}
		had := ends[0].got
		p := make([]byte, len(wire))
		used, n, err := ends[0].Take(wire, p)
		if err != nil {
			refused(t, err)
		}
		if used > len(wire) || n > used || ends[0].got > had+uint64(used) {
			t.Errorf("Take(%x) = %d, %d", wire, used, n)
		}
		var slowly []byte
		var slow error
		for at, to := 0, 1; to <= len(wire) && slow == nil; to++ {
			q := make([]byte, 1)
			used, n, err := ends[1].Take(wire[at:to], q)
			at, slowly, slow = at+used, append(slowly, q[:n]...), err
		}
		if !bytes.Equal(slowly, p[:n]) || (slow == nil) != (err == nil) || ends[0].got != ends[1].got || ends[0].Finished() != ends[1].Finished() {
			t.Errorf("Take(%x) = %x, %v, and byte by byte %x, %v", wire, p[:n], err, slowly, slow)
		}
	})
}

// FuzzEnd has all sorts of things happen to an end, each of which a byte stands for and
// the next for how much. Nothing of that breaks it, or has it hold more than it may.
func FuzzEnd(f *testing.F) {
	f.Add([]byte{0, 9, 1, 0, 2, 9, 3, 9, 4, 0, 5, 0}, true)
	f.Add([]byte{8, 200, 9, 100, 1, 0, 2, 50, 6, 3, 1, 0, 4, 0, 1, 0}, false)
	f.Add([]byte{0, 9, 1, 0, 2, 9, 7, 9, 6, 2, 5, 0, 1, 0, 2, 1, 10, 0}, true)
	f.Fuzz(func(t *testing.T, program []byte, opener bool) {
		budget := NewBudget(64<<10, nil)
		e := newEnd(ID{1}, opener, Config{Limit: time.Minute, Budget: budget})
		var reserved int
		var lent []byte
		for ; len(program) >= 2; program = program[2:] {
			k := int(program[1])
			var err error
			switch program[0] % 16 {
			case 0:
				e.Append(make([]byte, 100*k), start)
				reserved = 0
			case 1:
				lent = e.Next(start)
			case 2:
				e.Sent(e.Epoch(), min(k, len(lent)))
				lent = nil
			case 3:
				err = e.Acked(uint64(k), start)
			case 4:
				e.CloseWrite()
			case 5:
				e.Lost(e.Epoch(), start)
				lent = nil
			case 6:
				_, _, err = e.Resume(Hello{Resume: true, Epoch: e.Epoch() + uint64(k%3), Got: uint64(k)}, start)
				lent = nil
			case 7:
				_, _, err = e.Take(program[2:], make([]byte, k))
			case 8:
				reserved = len(e.Reserve(100*k, start))
			case 9:
				e.Commit(min(k, reserved))
				reserved = 0
			case 10:
				h := e.Hello()
				_, err = e.Resumed(h.Epoch, Answer{Got: uint64(k), From: e.got}, start)
				lent = nil
			case 11:
				e.Drained()
			case 12:
				if n := e.Direct(k); n > 0 {
					e.Took(n)
				}
			case 13:
				e.Expire(start.Add(time.Duration(k) * time.Second))
			case 14:
				if k == 0 {
					e.PeerReset(CodeReset)
				}
			case 15:
				if k == 0 {
					e.Gone(CodeUnknown)
				}
			}
			if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, e.Err()) {
				t.Errorf("error = %v, want ErrProtocol or %v", err, e.Err())
			}
			if e.Held() > firstLimit || e.Held() > int(budget.Used())+own {
				t.Fatalf("held %d, of the budget %d", e.Held(), budget.Used())
			}
		}
		e.Reset(nil)
		if e.Held() != 0 || budget.Used() != 0 {
			t.Errorf("it is over, held %d, of the budget %d", e.Held(), budget.Used())
		}
	})
}
