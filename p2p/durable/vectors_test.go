package durable

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The bytes in docs/protocol.md are those of this package.
func TestVectors(t *testing.T) {
	id := ID{1, 2, 3, 4, 5, 6, 7, 8}
	var lines []string
	add := func(name string, b []byte) { lines = append(lines, name+": "+hex.EncodeToString(b)) }

	add("hello, a new stream for /echo/1", Hello{ID: id, Protocol: "/echo/1"}.Append(nil))
	add("hello, epoch 1, got 300", Hello{ID: id, Resume: true, Epoch: 1, Got: 300}.Append(nil))
	add("hello, epoch 1, of a stream for /echo/1 that is 300 ms old", Hello{ID: id, Resume: true, Epoch: 1, Protocol: "/echo/1", Age: 300 * time.Millisecond}.Append(nil))
	add("answer, got 70000, from 301", Answer{Got: 70000, From: 301}.Append(nil))
	add("answer, no such stream", Answer{Gone: true, Code: CodeUnknown}.Append(nil))
	add("the opener has all", AppendAll(nil))
	add("data hello", frames{}.data("hello"))
	add("header of 70000 bytes of data, to be acknowledged at once", frames{}.header(kindAsk, 70000))
	add("end, got 300", frames{}.header(kindFin, 300))
	add("reset, nobody listens", AppendReset(nil, CodeNoListener))
	add("message, acknowledgement of 300", Message{MessageAck, id, 300}.Append(nil))
	add("message, reset", Message{MessageReset, id, CodeReset}.Append(nil))
	add("message, epoch 2 lost", Message{MessageLost, id, 2}.Append(nil))
	add("message, gone, not known", Message{MessageGone, id, CodeUnknown}.Append(nil))

	// Hello, world is cut after hello, and goes on with another carrier.
	a, b := Open(id, Config{}), Accept(id, Config{})
	a.Append([]byte("hello, world"), start)
	a.CloseWrite()
	first := flush(a)
	add("first carrier, hello, world and the end", first)
	take(t, b, first[:6])
	h := a.Hello()
	answer, _, err := b.Resume(h, start)
	if err == nil {
		_, err = a.Resumed(h.Epoch, answer, start)
	}
	if err != nil {
		t.Fatal(err)
	}
	add("after 6 bytes of it, hello", h.Append(nil))
	add("answer", answer.Append(nil))
	again := flush(a)
	add("second carrier", again)
	if got := string(take(t, b, again)); got != ", world" {
		t.Errorf("read %q, want %q", got, ", world")
	}

	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	const fence = "```"
	_, rest, found := strings.Cut(string(doc), "\n"+fence+"vectors durable\n")
	if !found {
		t.Fatal("docs/protocol.md has no block of vectors named durable")
	}
	got, _, _ := strings.Cut(rest, fence)
	if want := strings.Join(lines, "\n") + "\n"; got != want {
		t.Errorf("vectors durable in docs/protocol.md =\n%s\nwant\n%s", got, want)
	}
}
