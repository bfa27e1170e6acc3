package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// answerAfterEnd serves connections each of which is answered only once the
// client has ended its side.
func answerAfterEnd(t *testing.T) string {
	return serve(t, func(c *net.TCPConn) {
		data, err := io.ReadAll(c)
		if err == nil {
			fmt.Fprintf(c, "got %s", data)
		}
	})
}

func TestClientEndsFirst(t *testing.T) {
	_, forward := startPair(t, answerAfterEnd(t))
	c := dialTCP(t, forward)
	if _, err := io.WriteString(c, "ping"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "got ping" {
		t.Errorf("answer = %q, %v, want %q", got, err, "got ping")
	}
}

func TestNetcatEndsFirst(t *testing.T) {
	needs(t, "nc")
	_, forward := startPair(t, answerAfterEnd(t))
	nc := exec.CommandContext(testContext(t), "nc", "-N", "127.0.0.1", port(forward))
	nc.Stdin = strings.NewReader("ping")
	if out, err := nc.Output(); err != nil || string(out) != "got ping" {
		t.Errorf("printf ping | nc -N = %q, %v, want %q", out, err, "got ping")
	}
}

func TestServerEndsFirst(t *testing.T) {
	received := make(chan string, 1)
	server := serve(t, func(c *net.TCPConn) {
		if c.CloseWrite() == nil {
			data, _ := io.ReadAll(c)
			received <- string(data)
		}
	})
	_, forward := startPair(t, server)
	c := dialTCP(t, forward)
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Fatalf("read of what the server has ended = %q, %v, want an end", got, err)
	}
	if _, err := io.WriteString(c, "still here"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-received:
		if got != "still here" {
			t.Errorf("the server read %q, want %q", got, "still here")
		}
	case <-testContext(t).Done():
		t.Error("the server never saw the client's end")
	}
}

// A connection that is broken off is so at the other end too, however far it was:
// what came until then must not be taken for all.
func TestResetArrivesAsReset(t *testing.T) {
	for _, by := range []string{"server", "client"} {
		for _, tt := range []struct {
			name    string
			breaker func(*net.TCPConn) error // what is done before the connection is broken off
			other   func(*net.TCPConn) error // returns how the connection ended at the other end
			want    error
		}{
			{"amid data", sendUntilAnswered, answerAndRead, syscall.ECONNRESET},
			{"idle after the other end has ended", readToEnd, endAndRead, syscall.ECONNRESET},
			// Who has read an end can only write, and after a reset the kernel
			// says to that what it says to every write with no reader.
			{"idle after its own end", endUntilAnswered, readToEndAndWrite, syscall.EPIPE},
		} {
			t.Run("by the "+by+" "+tt.name, func(t *testing.T) {
				ended := make(chan error, 2)
				breaks := func(c *net.TCPConn) {
					if err := errors.Join(tt.breaker(c), c.SetLinger(0), c.Close()); err != nil {
						ended <- fmt.Errorf("before the reset: %v", err)
					}
				}
				listens := func(c *net.TCPConn) { ended <- tt.other(c) }
				server, client := breaks, listens
				if by == "client" {
					server, client = listens, breaks
				}
				_, forward := startPair(t, serve(t, server))
				client(dialTCP(t, forward))
				select {
				case err := <-ended:
					if !errors.Is(err, tt.want) {
						t.Errorf("the other end found %v, want %v", err, tt.want)
					}
				case <-testContext(t).Done():
					t.Error("the other end never saw the reset")
				}
			})
		}
	}
	t.Run("by a target that is not there", func(t *testing.T) {
		_, forward := startPair(t, freePort(t))
		c, err := net.Dial("tcp", forward)
		if err == nil { // else the reset came before that
			defer c.Close()
			err = readByte(c)
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("dial and read = %v, want %v", err, syscall.ECONNRESET)
		}
	})
}

const someBytes = 64 << 10

func sendUntilAnswered(c *net.TCPConn) error {
	_, err := c.Write(make([]byte, someBytes))
	return errors.Join(err, readByte(c))
}

func answerAndRead(c *net.TCPConn) error {
	if _, err := io.CopyN(io.Discard, c, someBytes); err != nil {
		return fmt.Errorf("before the reset: %v", err)
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return fmt.Errorf("before the reset: %v", err)
	}
	return readToError(c)
}

func readToEnd(c *net.TCPConn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

func endAndRead(c *net.TCPConn) error {
	if err := c.CloseWrite(); err != nil {
		return fmt.Errorf("before the reset: %v", err)
	}
	return readToError(c)
}

func endUntilAnswered(c *net.TCPConn) error { return errors.Join(c.CloseWrite(), readByte(c)) }

func readToEndAndWrite(c *net.TCPConn) error {
	if err := readToEnd(c); err != nil {
		return fmt.Errorf("before the reset: %v", err)
	}
	for {
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
	}
}

func readByte(r io.Reader) error {
	_, err := io.ReadFull(r, make([]byte, 1))
	return err
}

// readToError reads on, and returns io.EOF at an end.
func readToError(c *net.TCPConn) error {
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	return io.EOF
}
