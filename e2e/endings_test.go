package e2e

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

var seed = flag.Uint64("seed", 0, "seed of TestRandomEndings; 0 takes one from the clock")

// Both ends of a connection through a forward send at random and end it at random, at
// the same time. What comes out is what went in, an end is seen as an end, and only
// after all of it, and a break as a break.
func TestRandomEndings(t *testing.T) {
	cases := 1000
	if testing.Short() {
		cases = 100
	}
	s := cmp.Or(*seed, uint64(time.Now().UnixNano()))
	t.Logf("-seed %d", s)
	for i, args := range [][]string{nil, {"--no-local"}} {
		t.Run(fmt.Sprint("up ", args), func(t *testing.T) {
			alice := newNode(t, "alice").up(args...)
			bob := newNode(t, "bob").join(alice.invite(), args...)
			const lines = 4
			var g errgroup.Group
			for line := range lines {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				service := fmt.Sprint("service", line)
				alice.run("expose", service, l.Addr().String())
				forward := bob.forward("alice/" + service)
				g.Go(func() error {
					for n := line; n < cases; n += lines {
						if err := endAtRandom(l, forward, rand.New(rand.NewPCG(s, uint64(2*n+i)))); err != nil {
							return fmt.Errorf("case %d: %w", n, err)
						}
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func endAtRandom(l net.Listener, forward string, r *rand.Rand) error {
	c, err := net.DialTimeout("tcp", forward, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	s, err := l.Accept()
	if err != nil {
		return err
	}
	defer s.Close()
	parts := [2]part{randomPart(r), randomPart(r)}
	parts[0].after, parts[1].after = r.Int64N(parts[1].size+1), r.Int64N(parts[0].size+1)
	switch r.IntN(4) {
	case 0:
		parts[0].after, parts[1].after = 0, 0
	case 1: // nothing is in flight when one of them ends
		one := r.IntN(2)
		parts[one].after, parts[one].last = parts[1-one].size, r.IntN(2) == 0
	}
	client, server := newPlayer(c, parts[0], parts[1]), newPlayer(s, parts[1], parts[0])
	var g errgroup.Group
	g.Go(client.read)
	g.Go(server.read)
	g.Go(client.write)
	g.Go(server.write)
	err = g.Wait()
	err = errors.Join(err, name("client", client.check()), name("server", server.check()))
	if err != nil {
		return fmt.Errorf("client %v, server %v: %w", parts[0], parts[1], err)
	}
	return nil
}

func name(who string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	return nil
}

// A parting is how one end lets go of a connection.
type parting int

const (
	fin         parting = iota // and reads to the end of the other
	finAndClose                // which breaks what the other still sends
	rst
	finAndRST
	partings
)

// A part is what one end of a connection does.
type part struct {
	seed    uint64 // of what it sends
	size    int64
	chunk   int   // bytes a write
	after   int64 // bytes to have been received before its end
	last    bool  // it waits for the end of the other
	parting parting
}

func (p part) String() string {
	return fmt.Sprintf("sends %d bytes by %d, ends after %d (last: %v) by %v",
		p.size, p.chunk, p.after, p.last, [...]string{"FIN", "FIN and close", "RST", "FIN and RST"}[p.parting])
}

// randomPart sends 1 byte to 64 MiB: mostly little, for the number of cases.
func randomPart(r *rand.Rand) part {
	p := part{seed: r.Uint64(), parting: fin}
	most := 21
	switch r.IntN(100) {
	case 0:
		most = 27
	case 1, 2, 3:
		most = 25
	}
	p.size = 1 + r.Int64N(1<<r.IntN(most))
	if r.IntN(200) == 0 {
		p.size = 64 << 20
	}
	p.chunk = min(1+int(p.size)/(1+r.IntN(20)), 1<<20)
	if r.IntN(3) == 0 {
		p.parting = parting(r.IntN(int(partings)))
	}
	return p
}

// A player plays a part at one end of a connection, and looks at what comes in.
type player struct {
	conn       *net.TCPConn
	own, other part

	mu       sync.Mutex
	cond     *sync.Cond // got has grown, or reading is over
	got      int64
	over     bool
	readErr  error // nil if reading came to a clean end
	writeErr error
	let      bool // it has let go of the connection, so that its own reading says nothing
}

func newPlayer(c net.Conn, own, other part) *player {
	p := &player{conn: c.(*net.TCPConn), own: own, other: other}
	p.cond = sync.NewCond(&p.mu)
	_ = c.SetDeadline(time.Now().Add(patience))
	return p
}

// contents are the bytes that a part sends.
func (p part) contents() io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], p.seed)
	return io.LimitReader(rand.NewChaCha8(key), p.size)
}

// read takes in all that comes. It returns an error if that is not what was sent.
func (p *player) read() error {
	defer p.note(func() { p.over = true })
	want := p.other.contents()
	got, expected := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		n, err := p.conn.Read(got)
		if m, _ := io.ReadFull(want, expected[:n]); m < n || !bytes.Equal(got[:n], expected[:n]) {
			p.conn.Close()
			return fmt.Errorf("what came in after %d bytes is not what was sent", p.got)
		}
		p.note(func() { p.got += int64(n) })
		if err != nil {
			if err != io.EOF {
				p.note(func() { p.readErr = err })
			}
			return nil
		}
	}
}

func (p *player) note(what func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what()
	p.cond.Broadcast()
}

// write sends what is to be sent, as far as the other end lets it, and ends.
func (p *player) write() error {
	data, chunk := p.own.contents(), make([]byte, p.own.chunk)
	for {
		n, err := io.ReadFull(data, chunk)
		if n > 0 {
			if _, err := p.conn.Write(chunk[:n]); err != nil {
				p.note(func() { p.writeErr = err })
				break
			}
		}
		if err != nil {
			break
		}
	}
	p.mu.Lock()
	for !p.over && (p.got < p.own.after || p.own.last) {
		p.cond.Wait()
	}
	p.mu.Unlock()
	if p.own.parting != rst {
		_ = p.conn.CloseWrite() // fails if the other end has broken it, which check finds out
	}
	if p.own.parting != fin {
		p.note(func() { p.let = true })
	}
	switch p.own.parting {
	case rst, finAndRST:
		_ = p.conn.SetLinger(0)
		fallthrough
	case finAndClose:
		_ = p.conn.Close()
	}
	return nil
}

// check returns what is wrong with how the connection ended here, for what the other
// end did.
func (p *player) check() error {
	if p.let {
		return nil
	}
	// The kernel reports a reset once. If it did so to a write, a read meets what
	// looks like an end.
	err := cmp.Or(p.readErr, p.writeErr)
	broken := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case err != nil && !broken:
		return fmt.Errorf("after %d bytes: %w", p.got, err)
	case broken && p.other.parting == fin:
		return fmt.Errorf("after %d bytes: %w, want an end after %d", p.got, err, p.other.size)
	case !broken && p.other.parting == rst:
		return fmt.Errorf("an end after %d bytes, want a reset", p.got)
	case !broken && p.got != p.other.size:
		return fmt.Errorf("an end after %d bytes, want %d before it", p.got, p.other.size)
	}
	return nil
}
