package kernel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// listen listens until the test is over. A unix socket needs no address.
func listen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	if network == "unix" {
		dir, err := os.MkdirTemp("", "k")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		addr = filepath.Join(dir, "s")
	}
	ln, err := net.Listen(network, addr)
	if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Skipf("this machine has no %v", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func accept(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return keep(t, c)
}

// keep closes a connection when the test is over, and lets nothing wait for longer
// than patience.
func keep(t *testing.T, c net.Conn) net.Conn {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// connected returns the two ends of a connection.
func connected(t *testing.T, network string) (dialed, accepted net.Conn) {
	t.Helper()
	ln := listen(t, network, "127.0.0.1:0")
	c, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return keep(t, c), accept(t, ln)
}

func rawOf(t *testing.T, c any) syscall.RawConn {
	t.Helper()
	raw := Socket(c)
	if raw == nil {
		t.Fatalf("%T has no socket", c)
	}
	return raw
}

func TestSplice(t *testing.T) {
	for _, v := range []struct{ from, to string }{{"tcp", "unix"}, {"unix", "unix"}, {"unix", "tcp"}, {"tcp", "tcp"}} {
		t.Run(v.from+" to "+v.to, func(t *testing.T) {
			source, from := connected(t, v.from)
			to, sink := connected(t, v.to)
			want := make([]byte, 4*pipeSize+1)
			for i := range want {
				want[i] = byte(i * i >> 7)
			}
			var moved atomic.Uint64
			spliced, sent := make(chan error, 1), make(chan error, 1)
			go func() {
				spliced <- Splice(rawOf(t, to), rawOf(t, from), &moved)
				_ = to.Close()
			}()
			go func() {
				_, err := source.Write(want)
				_ = source.Close()
				sent <- err
			}()
			got, err := io.ReadAll(sink)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived, %v; want %d, the same", len(got), err, len(want))
			}
			if err := errors.Join(<-sent, <-spliced); err != nil {
				t.Error(err)
			}
			if moved.Load() != uint64(len(want)) {
				t.Errorf("counted %d bytes, want %d", moved.Load(), len(want))
			}
		})
	}
}

// What has arrived is counted while more is to come.
func TestSpliceCountsAsItGoes(t *testing.T) {
	source, from := connected(t, "tcp")
	to, sink := connected(t, "unix")
	var moved atomic.Uint64
	spliced := make(chan error, 1)
	go func() { spliced <- Splice(rawOf(t, to), rawOf(t, from), &moved) }()
	for i := range 3 {
		if _, err := source.Write([]byte("four")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(sink, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if i > 0 && moved.Load() < uint64(4*i) {
			t.Errorf("counted %d bytes after %d", moved.Load(), 4*i)
		}
	}
	_ = source.Close()
	if err := <-spliced; err != nil || moved.Load() != 12 {
		t.Errorf("%v, counted %d bytes, want 12", err, moved.Load())
	}
}

func TestSpliceFails(t *testing.T) {
	for _, v := range []struct {
		name string
		do   func(from, to, sink net.Conn)
		want error
	}{
		{"nobody is there to read", func(_, _, sink net.Conn) { _ = sink.Close() }, syscall.EPIPE},
		{"the source is closed here", func(from, _, _ net.Conn) { _ = from.Close() }, net.ErrClosed},
		{"the target is closed here", func(_, to, _ net.Conn) { _ = to.Close() }, net.ErrClosed},
		{"the deadline has passed", func(from, _, _ net.Conn) { _ = from.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(v.name, func(t *testing.T) {
			source, from := connected(t, "unix")
			to, sink := connected(t, "unix")
			if _, err := source.Write([]byte("bytes")); err != nil {
				t.Fatal(err)
			}
			toRaw, fromRaw := rawOf(t, to), rawOf(t, from)
			v.do(from, to, sink)
			var moved atomic.Uint64
			if err := Splice(toRaw, fromRaw, &moved); !errors.Is(err, v.want) || moved.Load() != 0 {
				t.Errorf("%v, moved %d bytes; want %v and none", err, moved.Load(), v.want)
			}
		})
	}
}

// A descriptor of another process, here another one of this, keeps a connection from
// ending by Close.
func TestAbort(t *testing.T) {
	for _, v := range []struct {
		network string
		want    error
	}{{"tcp", syscall.ECONNRESET}, {"unix", io.EOF}} {
		t.Run(v.network, func(t *testing.T) {
			a, b := connected(t, v.network)
			other, err := a.(interface{ File() (*os.File, error) }).File() // another descriptor
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			Abort(rawOf(t, a))
			if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, v.want) {
				t.Errorf("the other end reads %d bytes, %v; want %v", n, err, v.want)
			}
			if _, err := a.Write([]byte("x")); err == nil {
				t.Error("this end still writes")
			}
		})
	}
}

func TestConnect(t *testing.T) {
	for _, v := range []struct{ name, network, addr string }{
		{"IPv4", "tcp", "127.0.0.1:0"},
		{"IPv6", "tcp", "[::1]:0"},
		{"unix", "unix", ""},
	} {
		t.Run(v.name, func(t *testing.T) {
			ln := listen(t, v.network, v.addr)
			h, _, err := Connect(target(ln.Addr()))
			if err != nil {
				t.Fatal(err)
			}
			accepted := accept(t, ln)
			c, err := h.Conn(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			keep(t, c)
			if got := c.RemoteAddr().Network(); got != v.network {
				t.Errorf("connected by %v, want %v", got, v.network)
			}
			for _, way := range []struct{ from, to net.Conn }{{c, accepted}, {accepted, c}} {
				got := make([]byte, 4)
				if _, err := way.from.Write([]byte("ping")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(way.to, got); err != nil || string(got) != "ping" {
					t.Errorf("%q, %v", got, err)
				}
			}
			if err := h.Control(func(uintptr) {}); !errors.Is(err, os.ErrClosed) {
				t.Errorf("after Conn, Control gives %v, want %v", err, os.ErrClosed)
			}
			if _, err := h.Conn(testContext(t)); !errors.Is(err, os.ErrClosed) {
				t.Errorf("after Conn, Conn gives %v, want %v", err, os.ErrClosed)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// target returns what Connect is to be given.
func target(addr net.Addr) (path string, port netip.AddrPort) {
	if a, ok := addr.(*net.TCPAddr); ok {
		return "", a.AddrPort()
	}
	return addr.String(), netip.AddrPort{}
}

func TestConnectRefused(t *testing.T) {
	for _, v := range []struct{ name, network, addr string }{
		{"IPv4", "tcp", "127.0.0.1:0"},
		{"IPv6", "tcp", "[::1]:0"},
		{"unix", "unix", ""},
	} {
		t.Run(v.name, func(t *testing.T) {
			ln := listen(t, v.network, v.addr)
			if ln, ok := ln.(*net.UnixListener); ok {
				ln.SetUnlinkOnClose(false)
			}
			_ = ln.Close()
			h, connected, err := Connect(target(ln.Addr()))
			if h != nil || connected || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v, %v, %v; want %v", h, connected, err, syscall.ECONNREFUSED)
			}
		})
	}
}

func TestConnectToNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if h, _, err := Connect(path, netip.AddrPort{}); h != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, %v; want %v", h, err, os.ErrNotExist)
	}
}

// Nobody accepts, and the queue is full sometime.
func TestConnectToFullQueue(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	path := filepath.Join(t.TempDir(), "s")
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		h, _, err := Connect(path, netip.AddrPort{})
		if errors.Is(err, ErrNotNow) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
	}
	t.Error("10 connections are in a queue for 1")
}

func TestHandleClose(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	h, _, err := Connect(target(ln.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	if got := Socket(ln); got == nil {
		t.Error("a listener's socket is a stream socket as well")
	}
	if err := h.Control(func(fd uintptr) {
		if _, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Error(err)
	}
	c := accept(t, ln)
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v; want the end", n, err)
	}
	if h.Read(nil) == nil || h.Write(nil) == nil {
		t.Error("a Handle is read or written")
	}
}

// The first byte of each way is the SYN's where it is counted, and so is the FIN.
func TestMoved(t *testing.T) {
	const sent, received = 5000, 3
	a, b := connected(t, "tcp")
	if _, err := a.Write(make([]byte, sent)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b, make([]byte, sent)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(make([]byte, received)); err != nil { // it carries the acknowledgement
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, received)); err != nil {
		t.Fatal(err)
	}
	s, r := Moved(rawOf(t, a))
	if s < sent || s > sent+1 || r != received {
		t.Errorf("dialer: %d sent and %d received, want %d (one more for the SYN) and %d", s, r, sent, received)
	}
	if _, r := Moved(rawOf(t, b)); r != sent {
		t.Errorf("listener: %d received, want %d", r, sent)
	}
}

func TestMovedOfUnix(t *testing.T) {
	a, _ := connected(t, "unix")
	if _, err := a.Write([]byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if s, r := Moved(rawOf(t, a)); s != 0 || r != 0 {
		t.Errorf("%d sent and %d received of a unix socket", s, r)
	}
}

// streamer says itself whether it is a stream socket.
type streamer struct {
	*net.UnixConn
	is bool
}

func (s streamer) IsStreamSocket() bool { return s.is }

func TestSocket(t *testing.T) {
	tcp, _ := connected(t, "tcp")
	unixConn, _ := connected(t, "unix")
	closed, _ := connected(t, "unix")
	_ = closed.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	regular, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer regular.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	p, q := net.Pipe()
	defer p.Close()
	defer q.Close()
	file, err := unixConn.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, v := range []struct {
		name string
		c    any
		want bool
	}{
		{"TCP", tcp, true},
		{"unix", unixConn, true},
		{"file of a socket", file, true},
		{"one that looked before", streamer{unixConn.(*net.UnixConn), true}, true},
		{"one that looks like another", streamer{unixConn.(*net.UnixConn), false}, true},
		{"UDP", udp, false},
		{"closed", closed, false},
		{"regular file", regular, false},
		{"pipe", r, false},
		{"pipe of package net", p, false},
		{"TLS above TCP", tls.Client(tcp, &tls.Config{MinVersion: tls.VersionTLS13}), false},
		{"embedded in something else", struct{ net.Conn }{tcp}, false},
		{"nothing", nil, false},
	} {
		if got := Socket(v.c); (got != nil) != v.want {
			t.Errorf("%s: %v, want one: %v", v.name, got, v.want)
		}
	}
}
