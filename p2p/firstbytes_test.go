package p2p

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// An ungatedListener fails a few times, and then accepts TCP connections.
type ungatedListener struct {
	manet.Listener
	fails []error
}

func (l *ungatedListener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	if len(l.fails) > 0 {
		err := l.fails[0]
		l.fails = l.fails[1:]
		return nil, nil, err
	}
	c, err := l.Listener.Accept()
	return c, &network.NullScope{}, err
}

func newTestFirstBytes(t *testing.T, timeout time.Duration, fails ...error) *firstBytes {
	t.Helper()
	l, err := manet.Listen(multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFirstBytes(&ungatedListener{l, fails}, timeout)
	t.Cleanup(func() { f.Close() })
	return f
}

func dialTCP(t *testing.T, at net.Addr, say string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, say); err != nil {
		t.Fatal(err)
	}
	return c
}

// hungUp waits until the other end of a connection hangs up.
func hungUp(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v, want that the other end hangs up", err)
	}
}

func TestFirstBytesAreReplayed(t *testing.T) {
	f := newTestFirstBytes(t, patience)
	for _, read := range map[string]func(manet.Conn) (string, error){
		"by Read": func(c manet.Conn) (string, error) {
			got, err := io.ReadAll(struct{ io.Reader }{c})
			return string(got), err
		},
		"by WriteTo": func(c manet.Conn) (string, error) {
			var got strings.Builder
			_, err := c.(io.WriterTo).WriteTo(&got)
			return got.String(), err
		},
	} {
		silent := dialTCP(t, f.Addr(), "he") // keeps nobody back
		c := dialTCP(t, f.Addr(), "hello")
		c.(*net.TCPConn).CloseWrite()
		accepted, _, err := f.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(accepted); got != "hello" || err != nil {
			t.Errorf("what was accepted reads %q, %v, want hello", got, err)
		}
		accepted.Close()
		silent.Close() // before the third byte, and is not accepted
	}
}

func TestFirstBytesDoNotCome(t *testing.T) {
	f := newTestFirstBytes(t, 20*time.Millisecond)
	hungUp(t, dialTCP(t, f.Addr(), ""))
	hungUp(t, dialTCP(t, f.Addr(), "he"))
	until(t, "no turn is taken", func() bool { return f.turns.count() == 0 })
}

func TestFirstBytesOfTooMany(t *testing.T) {
	f := newTestFirstBytes(t, 10*patience)
	oldest := dialTCP(t, f.Addr(), "")
	for range maxAddressHandshakes - 1 {
		dialTCP(t, f.Addr(), "")
	}
	until(t, "one address has all it may have", func() bool { return f.turns.count() == maxAddressHandshakes })
	dialTCP(t, f.Addr(), "hello")
	c, _, err := f.Accept()
	if err != nil {
		t.Fatalf("Accept beside too many that say nothing = %v, want nil", err)
	}
	c.Close()
	hungUp(t, oldest)
}

func TestFirstBytesAfterAcceptFails(t *testing.T) {
	t.Run("for a while", func(t *testing.T) {
		f := newTestFirstBytes(t, patience, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)})
		dialTCP(t, f.Addr(), "hello")
		c, _, err := f.Accept()
		if err != nil {
			t.Fatalf("Accept after there was no file left = %v, want nil", err)
		}
		c.Close()
	})
	t.Run("for good", func(t *testing.T) {
		f := newTestFirstBytes(t, patience, errBroken)
		for range 2 {
			_, _, err := f.Accept()
			checkIs(t, "Accept", err, errBroken)
		}
	})
	t.Run("by Close", func(t *testing.T) {
		f := newTestFirstBytes(t, 10*patience)
		silent := dialTCP(t, f.Addr(), "")
		until(t, "a connection waits", func() bool { return f.turns.count() > 0 })
		f.Close()
		f.Close()
		hungUp(t, silent)
		_, _, err := f.Accept()
		checkIs(t, "Accept", err, net.ErrClosed)
	})
}

// Connections on which nothing is said keep no peer out.
func TestSilentConnectionsBlockNobody(t *testing.T) {
	n := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0")})
	at, err := net.ResolveTCPAddr("tcp", fmt.Sprintf("127.0.0.1:%d", n.Port()))
	if err != nil {
		t.Fatal(err)
	}
	var silent []net.Conn
	for i := range 100 {
		silent = append(silent, dialTCP(t, at, "he"[:i%3]))
	}
	if err := newTestNode(t, Config{}).Connect(testContext(t), n.ID(), n.Addrs()...); err != nil {
		t.Fatalf("Connect beside silent connections = %v, want nil", err)
	}
	silent[0].SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := silent[0].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent connection ended with %v before a peer was let in, want it to be open still", err)
	}
}
