package control

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// A fake stands in the place of a node: it does with each request what the test
// says, down to the bytes.
type fake struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// serveFake answers each request with answer, which gets the connection after
// the request has been read. It is closed after.
func serveFake(t testing.TB, answer func(net.Conn)) (dir string) {
	t.Helper()
	dir = shortDir(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: l}
	f.wg.Go(func() { f.run(answer) })
	t.Cleanup(f.close)
	return dir
}

func (f *fake) run(answer func(net.Conn)) {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, c)
		f.mu.Unlock()
		f.wg.Go(func() {
			defer c.Close()
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return // Open, which only looks who is there
			}
			_, _ = io.Copy(io.Discard, req.Body)
			answer(c)
		})
	}
}

func (f *fake) close() {
	f.listener.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// openFake returns a client of a fake.
func openFake(t testing.TB, answer func(net.Conn)) *Client {
	t.Helper()
	c, err := Open(serveFake(t, answer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// say answers with a text.
func say(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// flood answers with a beginning and then with the same over and over, until
// the client has had enough. It reports how many bytes the client took.
func flood(start, again string, taken chan<- int) func(net.Conn) {
	return func(c net.Conn) {
		n, err := io.WriteString(c, start)
		for more := 0; err == nil; n += more {
			more, err = io.WriteString(c, again)
		}
		taken <- n
	}
}

// silent says nothing for as long as the client is there.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
