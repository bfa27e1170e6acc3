package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/p2p"
	"golang.org/x/time/rate"
)

// A flow is one end of a stream on which both ends send blocks.
type flow struct {
	stream *p2p.Stream
	number uint64
	dialed bool
	pace   *rate.Limiter // in bytes
	piece  int           // the most that is written at once
	halt   context.CancelFunc
	halted context.Context // once it is to end what it sends

	mu   sync.Mutex // guards the fields below
	out  blocks
	in   *checker
	last time.Time     // when bytes came, or when that was asked for first
	most time.Duration // that none came
	came chan struct{} // closed and replaced when bytes come
	done bool          // the other end has sent all
	err  error         // what ended the stream before,
	end  time.Time     // and when
}

// A flowStatus is how an end of a stream is.
type flowStatus struct {
	Number  uint64
	Dialed  bool
	Sent    uint64 // blocks
	Verdict verdict
	Awaited uint64    // the block that comes next
	Torn    bool      // what came last is no whole block
	Done    bool      // the other end has sent all
	Err     string    `json:",omitempty"`
	Ended   time.Time // when that was
	Path    string
	Stall   time.Duration // the longest time in which nothing came
}

// dialFlow opens a stream of blocks that follow from the seed and its number.
func dialFlow(ctx context.Context, s *p2p.Stream, seed, number uint64, bytesASecond int) (*flow, error) {
	f := newFlow(ctx, s, seed, number, bytesASecond, true)
	head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, seed), number)
	_, err := s.Write(binary.BigEndian.AppendUint32(head, uint32(bytesASecond)))
	return f, err
}

// acceptFlow is the other end of dialFlow.
func acceptFlow(ctx context.Context, s *p2p.Stream) (*flow, error) {
	var head [20]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return nil, err
	}
	return newFlow(ctx, s, binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint64(head[8:]), int(binary.BigEndian.Uint32(head[16:])), false), nil
}

func newFlow(ctx context.Context, s *p2p.Stream, seed, number uint64, bytesASecond int, dialed bool) *flow {
	there, back := seed+2*number, seed+2*number+1
	if !dialed {
		there, back = back, there
	}
	piece := min(longestPiece, bytesASecond/8) // so that something comes eight times a second
	f := &flow{
		stream: s, number: number, dialed: dialed, piece: piece,
		pace: rate.NewLimiter(rate.Limit(bytesASecond), max(bytesASecond/4, piece)),
		out:  blocks{seed: there}, in: newChecker(back), last: time.Now(), came: make(chan struct{}),
	}
	f.halted, f.halt = context.WithCancel(ctx)
	return f
}

// longestPiece is the most that a flow writes at once.
const longestPiece = 16 << 10

// send writes blocks in pieces of any length, until it is to end.
func (f *flow) send() {
	r := rand.New(rand.NewPCG(f.out.seed, 0))
	var rest []byte
	for f.halted.Err() == nil {
		n := 1 + r.IntN(f.piece)
		for len(rest) < n {
			f.mu.Lock()
			rest = f.out.write(rest)
			f.mu.Unlock()
		}
		if f.pace.WaitN(f.halted, n) != nil {
			break
		}
		if _, err := f.stream.Write(rest[:n]); err != nil {
			f.fail(err)
			return
		}
		rest = append([]byte(nil), rest[n:]...)
	}
	_, err := f.stream.Write(rest)
	f.fail(errors.Join(err, f.stream.CloseWrite()))
}

// receive reads until the other end has sent all.
func (f *flow) receive() {
	b := make([]byte, 32<<10)
	for {
		n, err := f.stream.Read(b)
		f.took(b[:n], err == io.EOF)
		if err != nil {
			if err != io.EOF {
				f.fail(err)
			}
			return
		}
	}
}

// took takes in what came.
func (f *flow) took(b []byte, done bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = f.in.Write(b) // never fails
	now := time.Now()
	f.most = max(f.most, now.Sub(f.last))
	f.last, f.done = now, done
	close(f.came)
	f.came = make(chan struct{})
}

func (f *flow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && err != nil {
		f.err, f.end = plainError(err), time.Now()
	}
}

// plainError takes off between which ends it was.
func plainError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

// mark forgets how long nothing came until now.
func (f *flow) mark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.most = time.Now(), 0
}

// next waits until bytes come.
func (f *flow) next(ctx context.Context) error {
	f.mu.Lock()
	came := f.came
	f.mu.Unlock()
	select {
	case <-came:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *flow) status() flowStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := flowStatus{
		Number: f.number, Dialed: f.dialed, Sent: f.out.next,
		Verdict: f.in.verdict, Awaited: f.in.want.next, Torn: f.in.torn(), Done: f.done, Path: f.stream.Path().String(), Stall: f.most,
	}
	if !f.done {
		s.Stall = max(s.Stall, time.Since(f.last))
	}
	if f.err != nil {
		s.Err, s.Ended = f.err.Error(), f.end
	}
	return s
}
