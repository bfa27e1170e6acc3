package control

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + Protocol + "\r\n" + PathHeader + ": lan\r\n\r\n"

// serveHTTP tells of each request what its query says.
func serveHTTP(t *testing.T, got chan<- string) (dir string) {
	t.Helper()
	dir = shortDir(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for key, values := range r.URL.Query() {
			got <- key + "=" + values[0]
		}
		w.WriteHeader(http.StatusTeapot)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return dir
}

// dialFake returns a stream to what serve does with the connection after the
// upgrade.
func dialFake(t *testing.T, serve func(*Conn)) *Conn {
	t.Helper()
	c := openFake(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, upgraded)
		serve(NewConn(conn, bufio.NewReader(conn)))
	})
	stream, err := c.Dial(testContext(t), "alice/web")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	return stream
}

func TestBytesRightBehindTheHeader(t *testing.T) {
	c := openFake(t, say(upgraded+"5\r\nhello\r\n0\r\n"))
	stream, err := c.Dial(testContext(t), "alice/web")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	got, err := io.ReadAll(stream)
	if err != nil || string(got) != "hello" {
		t.Errorf("ReadAll = %q, %v, want hello", got, err)
	}
	if stream.Path != "lan" {
		t.Errorf("Path = %q, want lan", stream.Path)
	}
}

func TestHalfClose(t *testing.T) {
	stream := dialFake(t, func(c *Conn) {
		asked, err := io.ReadAll(c)
		if err != nil {
			return
		}
		_, _ = c.Write(append([]byte("got "), asked...))
		_ = c.CloseWrite()
	})
	if _, err := stream.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(stream)
	if err != nil || string(got) != "got ping" {
		t.Errorf("ReadAll = %q, %v, want got ping", got, err)
	}
}

// A node or a command that goes without a word has not ended the stream.
func TestGoingWithoutAWordBreaksTheStream(t *testing.T) {
	how := make(chan error, 1)
	stream := dialFake(t, func(c *Conn) {
		_, err := io.ReadAll(c)
		how <- err
		_, _ = c.Write([]byte("part"))
		_ = c.Reset()
	})
	other := dialFake(t, func(c *Conn) {
		_, _ = c.Write([]byte("part"))
		_ = c.Reset()
	})
	got, err := io.ReadAll(other)
	if string(got) != "part" || !errors.Is(err, ErrBroken) {
		t.Errorf("ReadAll = %q, %v, want part and %v", got, err, ErrBroken)
	}
	if _, err := stream.Write([]byte("part")); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if err := <-how; !errors.Is(err, ErrBroken) {
		t.Errorf("ReadAll at the node = %v, want %v", err, ErrBroken)
	}
}

// A stream that is given up for a reason breaks with that, after what was sent.
func TestAbortTellsWhy(t *testing.T) {
	for _, text := range []string{"not permitted", "two\r\nlines", strings.Repeat("long", maxReason), strings.Repeat("\x01", 2*maxReason)} {
		stream := dialFake(t, func(c *Conn) {
			_, _ = c.Write([]byte("part"))
			_ = c.Abort(&Error{Version: Version, Code: CodeNotPermitted, Text: text})
		})
		got, err := io.ReadAll(stream)
		var why *Error
		if string(got) != "part" || !errors.Is(err, ErrBroken) || !errors.As(err, &why) {
			t.Fatalf("ReadAll = %q, %v, want part, %v and why", got, err, ErrBroken)
		}
		if want := text[:min(len(text), maxReason)]; why.Code != CodeNotPermitted || why.Text != want {
			t.Errorf("ReadAll = %s, %q, want %s, %q", why.Code, why.Text, CodeNotPermitted, want)
		}
		if _, again := stream.Read(make([]byte, 1)); again != err {
			t.Errorf("Read again = %v, want %v", again, err)
		}
	}
}

// A reason is bounded.
func TestEndlessReason(t *testing.T) {
	c := openFake(t, flood(upgraded+"!\"", strings.Repeat("x", 1<<16), make(chan int, 1)))
	stream, err := c.Dial(testContext(t), "alice/web")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var why *Error
	if _, err := stream.Read(make([]byte, 1)); err == nil || err == io.EOF || errors.As(err, &why) {
		t.Errorf("Read = %v, want an error without a reason", err)
	}
}

func TestChunksThatAreNone(t *testing.T) {
	for _, text := range []string{"hello", "zz\r\nhello\r\n", "-1\r\nx\r\n", "fffffffffffffffff\r\nx", "1\r\nxy\r\n", "0", "0\n", "!{}\r\n", "!\r\n", "+1\r\nx\r\n", "0x1\r\nx\r\n", "5\r\nhel", "\r\n\r\n"} {
		c := openFake(t, say(upgraded+text))
		stream, err := c.Dial(testContext(t), "alice/web")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(stream); err == nil {
			t.Errorf("ReadAll of %q = %q, want an error", text, got)
		}
		stream.Close()
	}
}

// What is written at one end is read at the other, whatever it is and however
// large the pieces are.
func FuzzConn(f *testing.F) {
	f.Add([]byte("hello"), uint16(2))
	f.Add([]byte("0\r\n\r\n"), uint16(1))
	f.Add(bytes.Repeat([]byte{0}, 10000), uint16(5000))
	f.Add([]byte{}, uint16(0))
	f.Add([]byte("!{}\r\n"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		sent := make(chan error, 1)
		go func() {
			c := NewConn(near, bufio.NewReader(near))
			var err error
			for rest := data; len(rest) > 0 && err == nil; {
				n := min(len(rest), int(piece)+1)
				_, err = c.Write(rest[:n])
				rest = rest[n:]
			}
			sent <- errors.Join(err, c.CloseWrite())
		}()
		got, err := io.ReadAll(NewConn(far, bufio.NewReader(far)))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("ReadAll = %d bytes, %v, want the %d that were written", len(got), err, len(data))
		}
		if err := <-sent; err != nil {
			t.Errorf("Write = %v", err)
		}
	})
}
