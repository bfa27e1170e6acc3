package main

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// serveWith answers each connection until the test ends, and returns what makes
// one.
func serveWith(t *testing.T, answer func(io.ReadWriter)) dialer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	dial, _, err := openTCPEnd(t.Context(), ln.Addr().String())
	checkErr(t, err, "")
	return dial
}

func TestClientAgainstServer(t *testing.T) {
	dial := serveWith(t, func(conn io.ReadWriter) { answer(conn) })

	r, err := request{Op: "bulk", Bytes: bulkBuffer + 1, Time: time.Minute}.measure(dial)
	checkErr(t, err, "")
	if r.Bytes != bulkBuffer+1 || r.Took <= 0 {
		t.Errorf("bulk = %+v, want %d bytes in some time", r, bulkBuffer+1)
	}
	r, err = request{Op: "trips", Trips: 3, Time: time.Minute}.measure(dial)
	checkErr(t, err, "")
	if r.P50 <= 0 || r.P99 < r.P50 {
		t.Errorf("trips = %+v, want times", r)
	}
	r, err = request{Op: "conns", AtOnce: 4, Conns: 10, Time: time.Minute}.measure(dial)
	checkErr(t, err, "")
	if r.Conns != 10 || r.Took <= 0 || r.P50 <= 0 {
		t.Errorf("conns = %+v, want 10 in some time, each in some", r)
	}
	r, err = request{Op: "conns", AtOnce: 4, Conns: 1 << 30, Time: time.Millisecond}.measure(dial)
	checkErr(t, err, "")
	if r.Took < time.Millisecond {
		t.Errorf("conns = %+v, want a millisecond or more", r)
	}
	_, err = request{Op: "juggle"}.measure(dial)
	checkErr(t, err, `no measurement "juggle"`)
	_, err = request{Op: "path"}.measure(dial)
	checkErr(t, err, "*net.TCPConn has no path")
}

func TestClientNoticesWhatIsWrong(t *testing.T) {
	short := func(conn io.ReadWriter) { // loses a byte of a bulk transfer
		io.ReadFull(conn, make([]byte, 1))
		count(conn, 0)
	}
	other := func(conn io.ReadWriter) { // sends back something else
		buf := make([]byte, tripBytes)
		io.ReadFull(conn, buf)
		buf[tripBytes-1]++
		conn.Write(buf)
	}
	mute := func(io.ReadWriter) {}
	for _, tt := range []struct {
		name   string
		answer func(io.ReadWriter)
		q      request
		err    string
	}{
		{"bulk that loses a byte", short, request{Op: "bulk", Bytes: 100, Time: time.Minute}, "the server got 99 bytes of 100"},
		{"trip that changes a byte", other, request{Op: "trips", Trips: 1, Time: time.Minute}, "got back"},
		{"trip without an answer", mute, request{Op: "trips", Trips: 1, Time: time.Minute}, "read"},
		{"connection without an answer", mute, request{Op: "conns", AtOnce: 1, Conns: 1, Time: time.Minute}, "read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.q.measure(serveWith(t, tt.answer))
			checkErr(t, err, tt.err)
		})
	}
}
