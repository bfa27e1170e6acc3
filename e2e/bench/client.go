package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
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
	Op     string        // bulk, trips, conns or path
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
	P50   time.Duration // trips, and conns: until the byte was back
	P99   time.Duration // trips
	Path  string        // path: how the library says that a stream goes
}

// clientRole is what lies at the near end of each way: it answers the requests
// that come in, one after the other. Its arguments are the name of the way's ends
// and the address to dial.
func clientRole(s self, args []string) error {
	e, err := endsNamed(args[0])
	if err != nil {
		return err
	}
	dial, end, err := e.open(context.Background(), args[1])
	if err != nil {
		return err
	}
	defer end()
	requests, replies := json.NewDecoder(s.in), json.NewEncoder(s.out)
	for {
		var q request
		if err := requests.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, err := q.measure(dial)
		if err != nil {
			r.Err = err.Error()
		}
		if err := replies.Encode(r); err != nil {
			return err
		}
	}
}

func (q request) measure(dial dialer) (reply, error) {
	switch q.Op {
	case "bulk":
		return bulk(dial, q.Bytes, q.Time)
	case "trips":
		return trips(dial, q.Trips, q.Time)
	case "conns":
		return conns(dial, q.AtOnce, q.Conns, q.Time)
	case "path":
		return path(dial)
	}
	return reply{}, fmt.Errorf("no measurement %q", q.Op)
}

// bulk sends until limit bytes are sent or the time is over, and then waits for
// the server's count.
func bulk(dial dialer, limit int64, d time.Duration) (reply, error) {
	conn, err := dial()
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
func trips(dial dialer, limit int, d time.Duration) (reply, error) {
	conn, err := dial()
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
func conns(dial dialer, atOnce, limit int, d time.Duration) (reply, error) {
	var (
		begun atomic.Int64
		took  = make([][]time.Duration, atOnce)
		begin = time.Now()
		group errgroup.Group
	)
	for i := range atOnce {
		group.Go(func() error {
			for begun.Add(1) <= int64(limit) && time.Since(begin) < d {
				t, err := connect(dial)
				if err != nil {
					return err
				}
				took[i] = append(took[i], t)
			}
			return nil
		})
	}
	err := group.Wait()
	r := reply{Took: time.Since(begin)}
	if all := slices.Concat(took...); len(all) > 0 {
		r.Conns, r.P50 = int64(len(all)), percentile(all, 50)
	}
	return r, err
}

// connect makes a connection, sends a byte there and back, and closes it. It
// returns how long it took until the byte was back.
func connect(dial dialer) (time.Duration, error) {
	begin := time.Now()
	conn, err := dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(stall))
	b := []byte{echoMark}
	if _, err := conn.Write(b); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		return 0, fmt.Errorf("read the byte sent: %w", err)
	}
	return time.Since(begin), nil
}

// path tells by which path a stream goes, if the library made it.
func path(dial dialer) (reply, error) {
	c, err := dial()
	if err != nil {
		return reply{}, err
	}
	defer c.Close()
	stream, ok := c.(*overlay.Conn)
	if !ok {
		return reply{}, fmt.Errorf("a %T has no path", c)
	}
	return reply{Path: stream.Path().String()}, nil
}
