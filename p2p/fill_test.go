package p2p

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); a.Close() })
	return c.(*net.TCPConn), a.(*net.TCPConn)
}

// What comes out of a socket, in pieces of all sizes, arrives as it is, is counted, and
// survives that the connection is cut meanwhile.
func TestReadFromASocket(t *testing.T) {
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i * 31 >> 5)
	}
	for name, open := range map[string]func(testing.TB, *Node, *Node) (*Stream, *Stream){"durable": openStream, "plain": openPlainStream} {
		t.Run(name, func(t *testing.T) {
			dialer, listener := newTestPair(t, transports[0].listen)
			near, far := open(t, dialer, listener)
			client, socket := tcpPair(t)
			go func() {
				defer client.Close()
				for rest, size := data, 1; len(rest) > 0; size = size*7%500_009 + 1 {
					n, err := client.Write(rest[:min(size, len(rest))])
					if err != nil {
						return // the test says so
					}
					rest = rest[n:]
				}
			}()
			before := dialer.bytesOut.Load()
			copied := make(chan error, 1)
			go func() {
				n, err := near.ReadFrom(socket)
				if err == nil && n != int64(len(data)) {
					err = io.ErrShortWrite
				}
				copied <- errors.Join(err, near.CloseWrite())
			}()
			got := make([]byte, len(data)/2)
			if _, err := io.ReadFull(far, got); err != nil {
				t.Fatal(err)
			}
			if name == "durable" {
				cutConns(dialer, listener)
			}
			rest, err := io.ReadAll(far)
			if err != nil || !bytes.Equal(append(got, rest...), data) {
				t.Fatalf("read %d bytes, %v, want the %d that were sent", len(got)+len(rest), err, len(data))
			}
			if err := <-copied; err != nil {
				t.Errorf("ReadFrom = %v", err)
			}
			if n := dialer.bytesOut.Load() - before; n != uint64(len(data)) {
				t.Errorf("bytes counted = %d, want %d", n, len(data))
			}
		})
	}
}

func TestFill(t *testing.T) {
	dialer, listener := newTestPair(t, transports[0].listen)
	plain, _ := openPlainStream(t, dialer, listener)
	if n, err := plain.Fill(bytes.NewReader([]byte("word")), 4); n != 0 || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Fill of a plain stream = %d, %v, want %v", n, err, errors.ErrUnsupported)
	}
	near, far := openStream(t, dialer, listener)
	r := bytes.NewReader([]byte("a word"))
	if n, err := near.Fill(r, 2); n != 2 || err != nil {
		t.Errorf("Fill of 2 bytes = %d, %v", n, err)
	}
	if n, err := near.Fill(r, 100); n != 4 || err != nil {
		t.Errorf("Fill with 4 bytes left = %d, %v", n, err)
	}
	if n, err := near.Fill(r, 100); n != 0 || err != io.EOF {
		t.Errorf("Fill at the end = %d, %v, want %v", n, err, io.EOF)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "a word" {
		t.Errorf("read %q, %v, want a word", got, err)
	}
	near.Reset()
	_, err := near.Fill(r, 1)
	checkIs(t, "Fill after Reset", err, net.ErrClosed)
}
