package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
	"golang.org/x/sync/errgroup"
)

// Orders about streams that a node holds without sending much on them, and about bulk.

// echoStream sends back what comes.
func echoStream(s *p2p.Stream) {
	defer s.Close()
	_, _ = io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, make([]byte, 16))
}

// ignore reads nothing until the node ends.
func (d *durableNode) ignore(s *p2p.Stream) {
	<-d.ctx.Done()
	s.Close()
}

// pourStream sends without end.
func pourStream(s *p2p.Stream) {
	defer s.Close()
	b := make([]byte, 256<<10)
	for {
		if _, err := s.Write(b); err != nil {
			return
		}
	}
}

// hold opens streams: peer, count, durable or plain, protocol.
func (d *durableNode) hold(args []string) (string, error) {
	id, err := peer.Decode(args[0])
	if err != nil {
		return "", err
	}
	return "", withCount(args[1:], func(ctx context.Context, count int, args []string) error {
		ctx = kindOf(ctx, args[0] == "durable")
		var g errgroup.Group
		g.SetLimit(atOnce)
		for range count {
			g.Go(func() error {
				s, err := d.node.Dial(ctx, id, args[1])
				if err != nil {
					return err
				}
				d.mu.Lock()
				defer d.mu.Unlock()
				d.held = append(d.held, s)
				return nil
			})
		}
		return g.Wait()
	})
}

func (d *durableNode) holds() []*p2p.Stream {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held
}

// release closes the streams that are held.
func (d *durableNode) release() {
	d.mu.Lock()
	held := d.held
	d.held = nil
	d.mu.Unlock()
	for _, s := range held {
		s.Close()
	}
}

// echo sends a byte there and back on each stream that is held, and returns how long it
// took for all of them, in milliseconds.
func (d *durableNode) echo() (string, error) {
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, s := range d.holds() {
		g.Go(func() error { return echoByte(s) })
	}
	err := g.Wait()
	return milliseconds(time.Since(began)), err
}

func milliseconds(d time.Duration) string { return fmt.Sprint(float64(d.Microseconds()) / 1000) }

func echoByte(s *p2p.Stream) error {
	_ = s.SetDeadline(time.Now().Add(durablePatience)) // a closed one says so below
	b := []byte{1}
	if _, err := s.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(s, b)
	return err
}

// moved waits until all streams that are held have a path, and returns when the first
// and the last of them had it, in milliseconds from now, and how many connections there
// were at most meanwhile.
func (d *durableNode) moved(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, durablePatience)
	defer cancel()
	began, conns := time.Now(), 0
	var first time.Duration
	for held := d.holds(); ; {
		count := 0
		for _, s := range held {
			if s.Path().String() == args[0] {
				count++
			}
		}
		if count > 0 && first == 0 {
			first = time.Since(began)
		}
		conns = max(conns, len(d.node.Connections()))
		if count == len(held) {
			return fmt.Sprintf("%s %s %d", milliseconds(first), milliseconds(time.Since(began)), conns), nil
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return "", fmt.Errorf("%d of %d streams moved: %w", count, len(held), err)
		}
	}
}

// stuffTime is after how long a Write that does not end is taken for stalled.
const stuffTime = 2 * time.Second

// stuff writes on each stream that is held until no more is taken, and returns how many
// bytes were.
func (d *durableNode) stuff() (string, error) {
	held := d.holds()
	total := make([]int64, len(held))
	var g errgroup.Group
	until := time.Now().Add(stuffTime)
	for i, s := range held {
		g.Go(func() error {
			_ = s.SetWriteDeadline(until) // a closed one says so below
			for b := make([]byte, 16<<10); time.Now().Before(until); {
				n, err := s.Write(b)
				total[i] += int64(n)
				if err != nil {
					break
				}
			}
			return s.SetWriteDeadline(time.Time{})
		})
	}
	err := g.Wait()
	var sum int64
	for _, n := range total {
		sum += n
	}
	return fmt.Sprint(sum), err
}

// watch begins to wait until the first stream that is held ends.
func (d *durableNode) watch() {
	s := d.holds()[0]
	began := time.Now()
	d.work.Go(func() {
		_, err := s.Read(make([]byte, 1))
		d.ending <- fmt.Sprintf("%s %v", milliseconds(time.Since(began)), plainError(err))
	})
}

// ended returns how long after watch the stream ended, in milliseconds, and why. It is
// told for how many seconds to wait.
func (d *durableNode) ended(args []string) (string, error) {
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	select {
	case text := <-d.ending:
		return text, nil
	case <-time.After(time.Duration(seconds) * time.Second):
		return "", fmt.Errorf("the stream has not ended after %d s", seconds)
	}
}

// open opens a stream to a peer, alone: durable or plain, protocol.
func (d *durableNode) open(args []string) (*p2p.Stream, error) {
	id, err := peer.Decode(args[0])
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, durablePatience)
	defer cancel()
	return d.node.Dial(kindOf(ctx, args[1] == "durable"), id, args[2])
}

// bulk opens a stream on which a peer pours, and lets its windows grow.
func (d *durableNode) bulk(args []string) (string, error) {
	s, err := d.open(append(args, bulkProtocol))
	if err != nil {
		return "", err
	}
	if d.poured != nil {
		d.poured.Reset()
	}
	d.poured = s
	if _, err := s.Write([]byte{1}); err != nil {
		return "", err
	}
	_, err = drain(s, bulkWarmUp)
	return s.Path().String(), err
}

// drained reads bulk for a while, and returns how many bytes came in how many seconds.
func (d *durableNode) drained() (string, error) {
	began := time.Now()
	bytes, err := drain(d.poured, bulkTime)
	return fmt.Sprint(bytes, " ", time.Since(began).Seconds()), err
}

// roundTrip sends bytes there and back, one at a time, and returns the median in
// milliseconds: peer, durable or plain, count.
func (d *durableNode) roundTrip(args []string) (text string, err error) {
	s, err := d.open(append(args[:2:2], echoProtocol))
	if err != nil {
		return "", err
	}
	defer s.Close()
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return "", err
	}
	var f figure
	for i := range count + roundTripsFirst {
		began := time.Now()
		if err := echoByte(s); err != nil {
			return "", err
		}
		if i >= roundTripsFirst {
			f.Values = append(f.Values, float64(time.Since(began).Nanoseconds())/1e6)
		}
	}
	return fmt.Sprint(f.percentile(50)), nil
}

// roundTripsFirst are made before those that are measured.
const roundTripsFirst = 100
