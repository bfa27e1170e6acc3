package forward

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestJoinUntilIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, accepted := net.Pipe()
		dialled, server := net.Pipe()
		var m meter
		over := make(chan error, 1)
		go func() { over <- joinUntilIdle(t.Context(), accepted, dialled, &m, time.Minute) }()
		go io.Copy(io.Discard, server)
		began := time.Now()
		for range 5 { // either direction keeps it
			time.Sleep(50 * time.Second) //nolint:forbidigo // it is synctest's time
			client.Write([]byte("x"))
		}
		err := <-over
		if !errors.Is(err, errIdle) {
			t.Errorf("joinUntilIdle() = %v, want %v", err, errIdle)
		}
		if got := time.Since(began); got < 310*time.Second || got > 325*time.Second {
			t.Errorf("it ended after %v, want a minute to a quarter more after the last byte, at 250 s", got)
		}
		if got := m.stats(); got.Sent != 5 {
			t.Errorf("stats() = %+v, want 5 bytes sent", got)
		}
		server.Close()
	})
}
