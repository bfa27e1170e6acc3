package unixsock_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// serve returns the streams that come to a connection under a name.
func serve(c *unixsock.Conn) <-chan *unixsock.Stream {
	streams := make(chan *unixsock.Stream, 16)
	c.Serve(func(s *unixsock.Stream) { streams <- s })
	return streams
}

func wantBytes(t *testing.T, r io.Reader, want string) {
	t.Helper()
	if got, err := io.ReadAll(r); err != nil || string(got) != want {
		t.Errorf("ReadAll = %q, %v, want %q", got, err, want)
	}
}

// say writes a word to a stream and ends it.
func say(t *testing.T, s network.MuxedStream, word string) {
	t.Helper()
	if _, err := io.WriteString(s, word); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// A stream with a name waits for Serve, and goes both ways, each of which ends by
// itself.
func TestNamedStream(t *testing.T) {
	dialer, listener := pair(t)
	near, err := dialer.OpenNamed(testContext(t), "/a/1")
	if err != nil {
		t.Fatal(err)
	}
	say(t, near, "to")
	far := <-serve(listener)
	if far.Name() != "/a/1" {
		t.Errorf("Name() = %q", far.Name())
	}
	wantBytes(t, far, "to")
	say(t, far, "back")
	wantBytes(t, near, "back")
}

func TestNamesAreBounded(t *testing.T) {
	dialer, _ := pair(t)
	for _, name := range []string{"", strings.Repeat("n", unixsock.MaxName+1)} {
		if _, err := dialer.OpenNamed(testContext(t), name); err == nil {
			t.Errorf("OpenNamed with a name of %d bytes = nil", len(name))
		}
		if _, _, err := dialer.Ask(testContext(t), name, nil); err == nil {
			t.Errorf("Ask with a name of %d bytes = nil", len(name))
		}
	}
	if _, _, err := dialer.Ask(testContext(t), "n", make([]byte, unixsock.MaxQuestion+1)); err == nil {
		t.Error("Ask with too long a question = nil")
	}
}

func TestAsk(t *testing.T) {
	dialer, listener := pair(t)
	streams := serve(listener)
	var answering sync.WaitGroup
	defer answering.Wait()
	ask := func(answer func(*unixsock.Stream)) (*unixsock.Stream, string, error) {
		answering.Go(func() {
			s := <-streams
			if q, asked := s.Question(); !asked || string(q) != "question" {
				t.Errorf("Question() = %q, %v", q, asked)
			}
			answer(s)
		})
		s, got, err := dialer.Ask(testContext(t), "/a/1", []byte("question"))
		return s, string(got), err
	}

	t.Run("answered", func(t *testing.T) {
		s, answer, err := ask(func(s *unixsock.Stream) {
			if err := s.Answer([]byte("answer")); err != nil {
				t.Error(err)
			}
			say(t, s, "back")
		})
		if err != nil || answer != "answer" {
			t.Fatalf("Ask = %q, %v", answer, err)
		}
		wantBytes(t, s, "back")
		answering.Wait()
	})
	t.Run("refused", func(t *testing.T) {
		s, answer, err := ask(func(s *unixsock.Stream) { _ = s.Refuse([]byte("no")) })
		if !errors.Is(err, unixsock.ErrRefused) || answer != "no" {
			t.Fatalf("Ask = %q, %v, want no, %v", answer, err, unixsock.ErrRefused)
		}
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("Read of a refused stream = nil")
		}
	})
	t.Run("reset", func(t *testing.T) {
		_, _, err := ask(func(s *unixsock.Stream) { _ = s.ResetWithError(7) })
		var code *network.StreamError
		if !errors.As(err, &code) || code.ErrorCode != 7 || !code.Remote {
			t.Errorf("Ask = %v, want the code of the other end", err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-streams
			cancel()
		}()
		if _, _, err := dialer.Ask(ctx, "/a/1", []byte("question")); !errors.Is(err, context.Canceled) {
			t.Errorf("Ask = %v, want %v", err, context.Canceled)
		}
	})
}

// A socket that was handed over is the other end's, until it says that it is done.
func TestHandOver(t *testing.T) {
	for name, end := range map[string]func(s *unixsock.Stream) (broken bool){
		"closed": func(s *unixsock.Stream) bool { s.Close(); return false },
		"reset":  func(s *unixsock.Stream) bool { _ = s.Reset(); return true },
	} {
		t.Run(name, func(t *testing.T) {
			dialer, listener := pair(t)
			streams := serve(listener)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			target, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer target.Close()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			ended := make(chan error, 1)
			go func() {
				s := <-streams
				raw, err := target.(*net.TCPConn).SyscallConn()
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.HandOver(nil, raw); err != nil {
					t.Error(err)
				}
				s.OnEnd(func(err error) { ended <- err })
			}()
			s, _, err := dialer.Ask(testContext(t), "/a/1", nil)
			if err != nil {
				t.Fatal(err)
			}
			say(t, s, "to")
			wantBytes(t, server, "to")
			if _, err := io.WriteString(server, "back"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			broken := end(s)
			if err := <-ended; (err != nil) != broken {
				t.Errorf("it ended with %v, want an error: %v", err, broken)
			}
		})
	}
}

func TestResetHasItsCode(t *testing.T) {
	dialer, listener := pair(t)
	near, err := dialer.OpenNamed(testContext(t), "/a/1")
	if err != nil {
		t.Fatal(err)
	}
	far := <-serve(listener)
	_ = near.ResetWithError(42)
	_, err = far.Read(make([]byte, 1))
	var code *network.StreamError
	if !errors.As(err, &code) || code.ErrorCode != 42 || !code.Remote {
		t.Errorf("Read = %v, want code 42 of the other end", err)
	}
	if _, err := near.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read here = %v, want an error", err)
	}
}

// When a connection closes, what the other end had said to its end is still read,
// and all else breaks with the connection's code.
func TestCloseWithError(t *testing.T) {
	dialer, listener := pair(t)
	streams := serve(listener)
	whole, err := dialer.OpenNamed(testContext(t), "/whole")
	if err != nil {
		t.Fatal(err)
	}
	say(t, whole, "all of it")
	wholeFar := <-streams
	cut, err := dialer.OpenNamed(testContext(t), "/cut")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(cut, "a part"); err != nil {
		t.Fatal(err)
	}
	cutFar := <-streams
	_ = dialer.CloseWithError(9)
	<-listener.Done()
	wantBytes(t, wholeFar, "all of it")
	_, err = io.ReadAll(cutFar)
	var code *network.ConnError
	if !errors.As(err, &code) || code.ErrorCode != 9 || !code.Remote {
		t.Errorf("ReadAll of what was cut = %v, want code 9 of the other end", err)
	}
	if _, err := listener.OpenNamed(testContext(t), "/a/1"); err == nil {
		t.Error("OpenNamed on a closed connection = nil")
	}
}

// A writer whose reader does not read waits, and can be told to stop. So can a
// reader, which goes on afterwards.
func TestDeadlines(t *testing.T) {
	dialer, listener := pair(t)
	near, err := dialer.OpenNamed(testContext(t), "/a/1")
	if err != nil {
		t.Fatal(err)
	}
	far := <-serve(listener)
	_ = near.SetDeadline(time.Now().Add(10 * time.Millisecond))
	n, err := near.Write(make([]byte, 64<<20))
	if n == 64<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write = %d, %v, want %v", n, err, os.ErrDeadlineExceeded)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v, want %v", err, os.ErrDeadlineExceeded)
	}
	_ = near.SetDeadline(time.Time{})
	say(t, far, "back")
	wantBytes(t, near, "back")
}

// Who stands between two processes, or holds another key, is found out.
func TestAnotherPeer(t *testing.T) {
	a, b := newTransport(t), newTransport(t)
	addr := testAddr(t)
	ln, err := b.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := a.Dial(testContext(t), addr, newTransport(t).id); err == nil || !strings.Contains(err.Error(), "another peer is there: "+b.id.String()) {
		t.Errorf("Dial = %v, want another peer", err)
	}
}

// An answer that is too long is an error here, and costs no more than its stream.
func TestAnswersAreBounded(t *testing.T) {
	dialer, listener := pair(t)
	streams := serve(listener)
	answered := make(chan error, 1)
	go func() {
		s := <-streams
		answered <- s.Answer(make([]byte, unixsock.MaxQuestion+1))
	}()
	if _, _, err := dialer.Ask(testContext(t), "/a/1", nil); err == nil {
		t.Error("Ask = nil, want an error")
	}
	if err := <-answered; err == nil {
		t.Error("Answer with too long an answer = nil")
	}
	if dialer.IsClosed() || listener.IsClosed() {
		t.Error("the connection is closed")
	}
}
