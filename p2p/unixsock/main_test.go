package unixsock_test

import (
	"context"
	"crypto/rand"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // the fuzzer has goroutines of its own
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// shortDir returns a directory whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "us")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

type testTransport struct {
	*unixsock.Transport
	id peer.ID
}

func newTransport(t testing.TB) testTransport {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := unixsock.New(key, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return testTransport{tr, id}
}

// pair returns the two ends of a connection, the one that dialed first.
func pair(t testing.TB) (dialer, listener *unixsock.Conn) {
	t.Helper()
	a, b := newTransport(t), newTransport(t)
	addr := testAddr(t)
	ln, err := b.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan *unixsock.Conn, 1)
	go func() {
		if c, err := ln.Accept(); err == nil {
			accepted <- c.(*unixsock.Conn)
		}
		close(accepted)
	}()
	c, err := a.Dial(testContext(t), addr, b.id)
	if err != nil {
		t.Fatal(err)
	}
	dialer, listener = c.(*unixsock.Conn), <-accepted
	t.Cleanup(func() {
		dialer.Close()
		listener.Close()
	})
	return dialer, listener
}

func testAddr(t testing.TB) multiaddr.Multiaddr {
	t.Helper()
	return multiaddr.StringCast("/unix" + filepath.Join(shortDir(t), "s"))
}
