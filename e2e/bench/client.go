package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	tripBytes = 64 // what goes there and back in a round trip
	warmTrips = 20 // round trips that aren't counted

	// A way that moves nothing for so long is taken to hang.
	stall = 10 * time.Second
)

// A request asks the client for one measurement.
type request struct {
	Op     string        // bulk, trips or conns
	Bytes  int64         // bulk ends after so many,
	Trips  int           // trips after so many,
	Conns  int           // conns after so many,
	Time   time.Duration // and all after so long
	AtOnce int           // connections at once
}

// A reply has what was measured, or the error for which it was not.
type reply struct {
	Err   string
	Bytes int64         // bulk: sent and counted
	Conns int64         // conns: made
	Took  time.Duration // bulk and conns
	P50   time.Duration // trips
	P99   time.Duration // trips
}

// clientRole is what lies at the near end of each way: it answers the requests
// that come in, one after the other. Its argument is the address to dial.
func clientRole(args []string, in io.Reader, out io.Writer) error {
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q request
		if err := requests.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, err := q.measure(args[0])
		if err != nil {
			r.Err = err.Error()
		}
		if err := replies.Encode(r); err != nil {
			return err
		}
	}
}

func (q request) measure(addr string) (reply, error) {
	switch q.Op {
	case "bulk":
		return bulk(addr, q.Bytes, q.Time)
	case "trips":
		return trips(addr, q.Trips, q.Time)
	case "conns":
		return conns(addr, q.AtOnce, q.Conns, q.Time)
	}
	return reply{}, fmt.Errorf("no measurement %q", q.Op)
}

// bulk sends until limit bytes are sent or the time is over, and then waits for
// the server's count.
func bulk(addr string, limit int64, d time.Duration) (reply, error) {
	conn, err := dialTCP(addr)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	begin := time.Now()
	conn.SetDeadline(begin.Add(d + stall))
	sent, err := pump(conn, limit, begin.Add(d))
	if err != nil {
		return reply{}, err
	}
	if err := conn.CloseWrite(); err != nil {
		return reply{}, err
	}
	var counted uint64
	if err := binary.Read(conn, binary.BigEndian, &counted); err != nil {
		return reply{}, fmt.Errorf("read the server's count: %w", err)
	}
	if int64(counted) != sent {
		return reply{}, fmt.Errorf("the server got %d bytes of %d", counted, sent)
	}
	return reply{Bytes: sent, Took: time.Since(begin)}, nil
}

func pump(w io.Writer, limit int64, end time.Time) (sent int64, err error) {
	buf := bytes.Repeat([]byte{bulkMark}, bulkBuffer)
	for sent < limit && time.Now().Before(end) {
		n, err := w.Write(buf[:min(limit-sent, bulkBuffer)])
		sent += int64(n)
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// trips measures round trips on one connection.
func trips(addr string, limit int, d time.Duration) (reply, error) {
	conn, err := dialTCP(addr)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(d + stall))
	var took []time.Duration
	for n := range warmTrips {
		if _, err := trip(conn, uint64(n)); err != nil {
			return reply{}, err
		}
	}
	end := time.Now().Add(d)
	for len(took) == 0 || len(took) < limit && time.Now().Before(end) {
		t, err := trip(conn, uint64(warmTrips+len(took)))
		if err != nil {
			return reply{}, err
		}
		took = append(took, t)
	}
	return reply{P50: percentile(took, 50), P99: percentile(took, 99)}, nil
}

// trip sends bytes that name the trip and checks that they come back.
func trip(conn io.ReadWriter, n uint64) (time.Duration, error) {
	var there, back [tripBytes]byte
	there[0] = echoMark
	binary.BigEndian.PutUint64(there[8:], n)
	begin := time.Now()
	if _, err := conn.Write(there[:]); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, back[:]); err != nil {
		return 0, fmt.Errorf("read what was sent: %w", err)
	}
	took := time.Since(begin)
	if there != back {
		return 0, fmt.Errorf("sent %x, got back %x", there, back)
	}
	return took, nil
}

// conns makes connections, so many at once, until limit are made or the time is
// over.
func conns(addr string, atOnce, limit int, d time.Duration) (reply, error) {
	var (
		begun, made atomic.Int64
		begin       = time.Now()
		group       errgroup.Group
	)
	for range atOnce {
		group.Go(func() error {
			for begun.Add(1) <= int64(limit) && time.Since(begin) < d {
				if err := connect(addr); err != nil {
					return err
				}
				made.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return reply{Conns: made.Load(), Took: time.Since(begin)}, err
}

// connect makes a connection, sends a byte there and back, and closes it.
func connect(addr string) error {
	conn, err := dialTCP(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(stall))
	b := []byte{echoMark}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		return fmt.Errorf("read the byte sent: %w", err)
	}
	return nil
}
