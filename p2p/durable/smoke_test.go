package durable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// pattern is what all streams carry: a prime number of bytes, so that no two places
// that a stream might take for each other look alike.
var pattern = func() []byte {
	b := make([]byte, 1<<20+7)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// A side is an end with what reads and writes there.
type side struct {
	*End
	total, wrote, read int
	link               *pipe
	reserved           []byte

	lent  []byte // being written to
	onto  *pipe
	epoch uint64
}

// A pipe is a carrier, with the acknowledgements that go the same way.
type pipe struct {
	wire [2][]byte
	acks [2][]uint64
}

// A ride is two ends between which all happens by chance.
type ride struct {
	*rand.Rand
	now   time.Time
	sides [2]*side
	chunk int // bytes written at once, at most
	buf   []byte
}

// smoke has a stream carry so many bytes each way.
func smoke(t *testing.T, seed uint64, totals [2]int, chunk int) *ride {
	t.Helper()
	r := &ride{Rand: rand.New(rand.NewPCG(seed, 2)), now: start, chunk: chunk, buf: make([]byte, chunk)}
	node := NewBudget(int64(r.IntN(4*chunk)), nil)
	first := &pipe{}
	for i, e := range []*End{
		Open(ID{1}, Config{Limit: time.Minute}),
		Accept(ID{1}, Config{Limit: time.Minute, Budget: NewBudget(int64(r.IntN(4*chunk)), node)}),
	} {
		r.sides[i] = &side{End: e, total: totals[i], link: first}
	}
	for n := 0; !r.sides[0].Done() || !r.sides[1].Done(); n++ {
		if n > 1e6 {
			t.Fatalf("seed %d: no end: %+v, %+v", seed, r.sides[0], r.sides[1])
		}
		r.now = r.now.Add(time.Duration(r.IntN(1000)) * time.Microsecond)
		if err := r.step(r.IntN(2)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for i, s := range r.sides {
		if s.read != r.sides[1-i].total || s.Held() != 0 || s.Err() != nil {
			t.Errorf("seed %d: end %d read %d of %d, holds %d, error %v", seed, i, s.read, r.sides[1-i].total, s.Held(), s.Err())
		}
	}
	if node.Used() != 0 {
		t.Errorf("seed %d: %d bytes of the budget are taken", seed, node.Used())
	}
	return r
}

// some returns up to n, often all.
func (r *ride) some(n int) int {
	if r.IntN(2) == 0 {
		return n
	}
	return r.IntN(n + 1)
}

func (r *ride) step(i int) error {
	s, other := r.sides[i], r.sides[1-i]
	switch r.IntN(12) {
	case 0, 1, 2:
		return r.write(s)
	case 3, 4:
		if s.lent != nil { // the carrier took so much
			n := r.some(len(s.lent)-1) + 1
			s.onto.wire[1-i] = append(s.onto.wire[1-i], s.lent[:n]...)
			s.Sent(s.epoch, n)
			s.lent = nil
		} else if b := s.Next(r.now); b != nil {
			s.lent, s.onto, s.epoch = b, s.link, s.Epoch()
		}
	case 5, 6, 7:
		return r.take(s, i)
	case 8:
		due, urgent := s.AckDue()
		if due && s.link != nil && (urgent || r.IntN(4) == 0) {
			s.link.acks[1-i] = append(s.link.acks[1-i], s.Ack())
		}
	case 9:
		if s.link != nil && len(s.link.acks[i]) > 0 {
			offset := s.link.acks[i][0]
			s.link.acks[i] = s.link.acks[i][1:]
			return s.Acked(offset, r.now)
		}
	case 10:
		if r.IntN(20) == 0 && s.link != nil && s.Attached() {
			s.Lost(s.Epoch(), r.now)
			s.link = nil
		}
		s.Expire(r.now)
		if s.Stalled(r.now) && !s.Outstanding() {
			return fmt.Errorf("end %d stalls, and nothing is outstanding", i)
		}
	case 11:
		if r.IntN(20) == 0 || !s.Attached() {
			return r.move()
		}
	}
	if other.Done() && s.Finished() && s.Flushed() && r.IntN(10) == 0 {
		s.Drained() // the other has closed the carrier
	}
	return nil
}

// move has the stream go on with another carrier, while this one is read on.
func (r *ride) move() error {
	a, b := r.sides[0], r.sides[1]
	h := a.Hello()
	for range r.IntN(4) {
		if err := r.take(a, 0); err != nil {
			return err
		}
		if due, _ := a.AckDue(); due && r.IntN(2) == 0 {
			if offset := a.Ack(); r.IntN(2) == 0 { // or it is lost
				if err := b.Acked(offset, r.now); err != nil {
					return err
				}
			}
		}
	}
	answer, ok, err := b.Resume(h, r.now)
	if err != nil || !ok {
		return fmt.Errorf("Resume(%+v) = %v, %w", h, ok, err)
	}
	next := &pipe{}
	b.link = next
	if r.IntN(4) == 0 {
		return nil // the answer does not arrive
	}
	for range r.IntN(4) {
		if err := r.take(a, 0); err != nil {
			return err
		}
	}
	if ok, err := a.Resumed(h.Epoch, answer, r.now); err != nil || !ok {
		return fmt.Errorf("Resumed(%+v) = %v, %w", answer, ok, err)
	}
	a.link = next
	return nil
}

func (r *ride) write(s *side) error {
	if p := s.reserved; p != nil {
		want := pattern[s.wrote%len(pattern):]
		n := r.IntN(min(len(want), s.total-s.wrote, r.chunk, len(p)) + 1)
		copy(p, want[:n])
		s.Commit(n)
		s.wrote += n
		s.reserved = nil
		return nil
	}
	if s.wrote == s.total {
		s.CloseWrite()
		return nil
	}
	want := pattern[s.wrote%len(pattern):]
	n := r.IntN(min(len(want), s.total-s.wrote, r.chunk)) + 1
	if r.IntN(2) == 0 {
		s.wrote += s.Append(want[:n], r.now)
		return nil
	}
	s.reserved = s.Reserve(n, r.now)
	return nil
}

func (r *ride) take(s *side, i int) error {
	if s.link == nil {
		return nil
	}
	wire := s.link.wire[i]
	if n := s.Direct(r.some(r.chunk)); n > 0 && len(wire) > 0 && r.IntN(2) == 0 {
		n = min(n, len(wire))
		s.link.wire[i] = wire[n:]
		return r.got(s, wire[:s.Took(n)])
	}
	p := r.buf[:r.some(r.chunk-1)+1]
	used, n, err := s.Take(wire[:r.some(len(wire))], p)
	if err != nil {
		return err
	}
	s.link.wire[i] = wire[used:]
	return r.got(s, p[:n])
}

func (r *ride) got(s *side, data []byte) error {
	for len(data) > 0 {
		want := pattern[s.read%len(pattern):]
		n := min(len(want), len(data))
		if !bytes.Equal(data[:n], want[:n]) {
			return fmt.Errorf("read the wrong bytes from %d on", s.read)
		}
		s.read += n
		data = data[n:]
	}
	return nil
}

// Whatever happens, by chance, to a stream of some bytes.
func TestSmoke(t *testing.T) {
	moves := 0
	for seed := range uint64(6000) {
		r := rand.New(rand.NewPCG(seed, 1))
		ride := smoke(t, seed, [2]int{r.IntN(3000), r.IntN(3000)}, 200)
		moves += ride.sides[0].Resumes()
	}
	if moves < 6000 {
		t.Errorf("moved %d times, want more", moves)
	}
}

// Whatever happens, by chance, to a stream of many.
func TestSmokeBulk(t *testing.T) {
	limit, replayed := 0, uint64(0)
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 1))
		ride := smoke(t, seed, [2]int{r.IntN(16 << 20), r.IntN(4 << 20)}, 1<<20)
		limit = max(limit, ride.sides[0].limit)
		replayed += ride.sides[0].Replayed()
	}
	t.Logf("limit %d, replayed %d", limit, replayed)
	if limit == firstLimit || replayed == 0 {
		t.Errorf("limit %d, replayed %d, want more", limit, replayed)
	}
}
