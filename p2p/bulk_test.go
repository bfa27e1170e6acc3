package p2p

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// A countedConn counts what goes out, and can be broken.
type countedConn struct {
	net.Conn
	writes atomic.Int64
	broken atomic.Bool
}

var errBroken = errors.New("the wire is cut")

func (c *countedConn) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, errBroken
	}
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// newBulkPair returns both ends of a secured connection, and what is under the
// first.
func newBulkPair(t *testing.T) (a, b sec.SecureConn, under *countedConn) {
	t.Helper()
	near, far := net.Pipe()
	under = &countedConn{Conn: near}
	ours, _ := newBulkTLS(t)
	theirs, id := newBulkTLS(t)
	accepted := make(chan error, 1)
	go func() {
		var err error
		b, err = theirs.SecureInbound(testContext(t), far, "")
		accepted <- err
	}()
	a, err := ours.SecureOutbound(testContext(t), under, id)
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return a, b, under
}

func newBulkTLS(t *testing.T) (bulkTLS, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	security, err := libp2ptls.New(libp2ptls.ID, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return bulkTLS{Transport: security}, id
}

func TestBulkWritesTheRecordsOfAFrameAtOnce(t *testing.T) {
	a, b, under := newBulkPair(t)
	for _, tt := range []struct {
		size   int
		writes int64
	}{
		{maxFrame, 1}, // from here on records are as large as they may be
		{1, 1}, {oneRecord, 1}, {oneRecord + 1, 1}, {maxFrame + 100, 1}, {3 * maxFrame, 3},
	} {
		want := make([]byte, tt.size)
		rand.Read(want)
		got := make([]byte, tt.size)
		read := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(b, got)
			read <- err
		}()
		before := under.writes.Load()
		if n, err := a.Write(want); n != tt.size || err != nil {
			t.Fatalf("Write of %d bytes = %d, %v", tt.size, n, err)
		}
		if err := <-read; err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came out as others, %v", tt.size, err)
		}
		if writes := under.writes.Load() - before; writes != tt.writes {
			t.Errorf("Write of %d bytes took %d writes below, want %d", tt.size, writes, tt.writes)
		}
	}
}

func TestBulkWriteSaysThatTheWireIsCut(t *testing.T) {
	a, _, under := newBulkPair(t)
	under.broken.Store(true)
	_, err := a.Write(make([]byte, maxFrame))
	checkIs(t, "Write", err, errBroken)
}

// Whatever the sizes in which bytes come and are asked for, they are the same.
func TestBulkReads(t *testing.T) {
	want := make([]byte, 4<<20)
	rand.Read(want)
	for _, ask := range []int{1 << 10, 5, smallRead + 5, 100 << 10} {
		near, far := net.Pipe()
		c := &bulkConn{Conn: near}
		left := want[:min(len(want), ask<<10)]
		go func() {
			defer far.Close()
			for rest, size := left, 1; len(rest) > 0; size = size*3%(300<<10) + 1 {
				k, err := far.Write(rest[:min(size, len(rest))])
				if err != nil {
					return
				}
				rest = rest[k:]
			}
		}()
		got, err := io.ReadAll(readerOf(c, ask))
		if err != nil || !bytes.Equal(got, left) {
			t.Errorf("asking for %d bytes at once: read %d bytes, %v, want the %d that were written", ask, len(got), err, len(left))
		}
		if c.in != nil {
			t.Errorf("asking for %d bytes at once: a buffer is held with nothing in it", ask)
		}
		near.Close()
	}
}

type chunkReader struct {
	r    io.Reader
	size int
}

func readerOf(r io.Reader, size int) io.Reader { return chunkReader{r, size} }

func (c chunkReader) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.size)]) }
