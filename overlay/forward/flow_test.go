package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// startFlow carries a flow whose far end is returned, and whose sent datagrams go
// to a channel.
func startFlow(t *testing.T, m *meter, limit time.Duration) (f *flow, far net.Conn, sent chan string, over chan error) {
	t.Helper()
	near, far := net.Pipe()
	sent, over = make(chan string, 8), make(chan error, 1)
	f = newFlow(t.Context(), func(b []byte) error { sent <- string(b); return nil }, m)
	f.toStream, f.fromStream = &m.toDialled, &m.toAccepted
	go func() { over <- f.carry(near, limit) }()
	return f, far, sent, over
}

func TestFlowEndsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, far, sent, over := startFlow(t, new(meter), time.Minute)
		began := time.Now()
		time.Sleep(50 * time.Second) //nolint:forbidigo // it is synctest's time
		f.put([]byte("out"))
		if b, err := newDatagramReader(far).next(); err != nil || string(b.payload()) != "out" {
			t.Errorf("the far end reads %v, %v, want out", b, err)
		}
		time.Sleep(50 * time.Second) //nolint:forbidigo // it is synctest's time
		far.Write(appendDatagram(nil, []byte("in")))
		if got := <-sent; got != "in" {
			t.Errorf("sent %q, want in", got)
		}
		if err := <-over; err != nil {
			t.Errorf("carry() = %v, want <nil>", err)
		}
		if got, want := time.Since(began), 160*time.Second; got != want {
			t.Errorf("the flow ended after %v, want %v", got, want)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read at the far end = %v, want %v", err, io.EOF)
		}
	})
}

func TestFlowOverStreamThatEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		sent []byte
		want error
	}{
		{"between datagrams", []byte{0, 1, 'a'}, nil},
		{"within one", []byte{0, 2, 'a'}, io.ErrUnexpectedEOF},
		{"with one that is too long", []byte{0xff, 0xff}, errDatagramTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, far, _, over := startFlow(t, new(meter), time.Minute)
				far.Write(tt.sent)
				far.Close()
				if err := <-over; !errors.Is(err, tt.want) {
					t.Errorf("carry() = %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// A stream that takes nothing costs datagrams, which are counted, and no more
// memory than the queue may have.
func TestFlowDropsWhatIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		f, far, _, over := startFlow(t, &m, time.Minute)
		payload := make([]byte, 1000)
		put := func(n int) {
			for range n {
				f.put(payload)
			}
			synctest.Wait()
		}
		put(1) // which is being written
		fits := maxQueued / (datagramHeader + len(payload))
		put(fits + 10)
		if got := m.dropped.Load(); got != 10 {
			t.Errorf("dropped = %d, want 10", got)
		}
		far.Close()
		<-over
		if got, want := m.dropped.Load(), uint64(fits+10); got != want {
			t.Errorf("dropped after the end = %d, want %d", got, want)
		}
	})
}

// newIdleFlows returns the flows of a Forward whose socket nothing is read from.
func newIdleFlows(t *testing.T, dial dialling, c Config) *flows {
	t.Helper()
	c, err := c.withDefaults(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s := &flows{dial: dial, open: map[netip.AddrPort]*flow{}}
	s.begin(c)
	return s
}

func clientAt(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// What has been idle makes room, and what is in use does not.
func TestFlowsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIdleFlows(t, dialUntilEnd, Config{MaxOpen: 2, DialTimeout: time.Hour})
		s.take(clientAt(1), nil)
		s.take(clientAt(2), nil)
		s.take(clientAt(3), nil)
		if got := s.stats(); got.Open != 2 || got.Dropped != 1 {
			t.Errorf("stats() with all in use = %+v, want 2 open and 1 dropped", got)
		}
		time.Sleep(time.Second) //nolint:forbidigo // it is synctest's time
		s.take(clientAt(1), nil)
		s.take(clientAt(3), nil)
		synctest.Wait()
		if s.open[clientAt(1)] == nil || s.open[clientAt(2)] != nil || s.open[clientAt(3)] == nil || s.stats().Open != 2 {
			t.Errorf("open flows are %v, want those of 1 and 3", s.open)
		}
		s.stop()
		s.wg.Wait()
	})
}

// A member that is away is not dialled for each datagram.
func TestFlowWaitsAfterFailedDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		s := newIdleFlows(t, func(context.Context) (net.Conn, error) {
			dials++
			return nil, errors.New("away")
		}, Config{})
		for range 100 {
			s.take(clientAt(1), []byte("x"))
			synctest.Wait()
		}
		if dials != 1 {
			t.Errorf("100 datagrams made %d dials, want 1", dials)
		}
		time.Sleep(time.Second) //nolint:forbidigo // it is synctest's time
		synctest.Wait()
		s.take(clientAt(1), []byte("x"))
		synctest.Wait()
		if got := s.stats(); dials != 2 || got.Failed != 2 || got.Dropped != 100 {
			t.Errorf("a second later there were %d dials and %+v, want 2 dials and 100 dropped", dials, got)
		}
		s.stop()
		s.wg.Wait()
	})
}
