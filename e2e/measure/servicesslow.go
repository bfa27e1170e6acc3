package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	slowReaders = 16 // so that one shows in what two processes hold
	slowPace    = time.Second
	slowSpan    = 2 * time.Second // over which the fast one is measured
)

// measureServicesSlow has a connection read as fast as it can, alone and beside others
// that take a byte a second of what comes as fast as they take it, in turns.
func measureServicesSlow(rounds int) measurement {
	return overServicePaths(func(ctx context.Context, path string, p servicePair) ([]figure, error) {
		forward, err := p.forward(ctx, "bulk", "pourer")
		if err != nil {
			return nil, err
		}
		name := "path " + path + ": "
		alone := figure{Name: name + "a fast reader alone", Unit: "Mbit/s"}
		beside := figure{Name: fmt.Sprintf("%sbeside %d at 1 B/s", name, slowReaders), Unit: "Mbit/s"}
		ratio := figure{Name: name + "the latter to the former"}
		memory := figure{Name: name + "resident memory of both nodes for a slow one", Unit: "kB"}
		if _, err := readFast(ctx, forward); err != nil { // what is kept for later is had now
			return nil, err
		}
		for range rounds {
			a, err := readFast(ctx, forward)
			if err != nil {
				return nil, err
			}
			before, err := p.resident()
			if err != nil {
				return nil, err
			}
			b, held, err := p.besideSlow(ctx, forward)
			if err != nil {
				return nil, err
			}
			alone.Values, beside.Values = append(alone.Values, a), append(beside.Values, b)
			ratio.Values = append(ratio.Values, b/a)
			memory.Values = append(memory.Values, (held-before)/slowReaders)
		}
		return []figure{alone, beside, ratio, memory}, nil
	})
}

// besideSlow returns what a fast reader gets while there are slow ones, and what both
// nodes have in memory meanwhile, once the slow ones have what they are given.
func (p servicePair) besideSlow(ctx context.Context, forward string) (fast, held float64, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for range slowReaders {
		c, err := openOne(ctx, forward)
		if err != nil {
			return 0, 0, err
		}
		defer c.Close()
		go readSlowly(ctx, c)
	}
	if err := wait(ctx, slowSpan); err != nil {
		return 0, 0, err
	}
	if held, err = p.resident(); err != nil {
		return 0, 0, err
	}
	fast, err = readFast(ctx, forward)
	return fast, held, err
}

// readSlowly ends with ctx, or with the connection.
func readSlowly(ctx context.Context, c net.Conn) {
	_ = c.SetReadDeadline(time.Time{})
	for b := make([]byte, 1); wait(ctx, slowPace) == nil; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// readFast returns what a connection gets over a time, in Mbit/s.
func readFast(ctx context.Context, forward string) (float64, error) {
	c, err := openOne(ctx, forward)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begin, read, buf := time.Now(), 0, make([]byte, 256<<10)
	_ = c.SetReadDeadline(begin.Add(slowSpan))
	for {
		n, err := c.Read(buf)
		read += n
		if late := (net.Error)(nil); errors.As(err, &late) && late.Timeout() {
			return float64(read) * 8 / 1e6 / time.Since(begin).Seconds(), nil
		}
		if err != nil {
			return 0, fmt.Errorf("after %d bytes: %w", read, err)
		}
	}
}
