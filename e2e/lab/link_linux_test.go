package lab

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen opens a UDP socket of a machine, that is closed with the test.
func listen(t testing.TB, m Machine, addr netip.Addr) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	if err := m.machine().Do(func() (err error) {
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))); err != nil {
			return err
		}
		// Its reader may have to wait for a processor, and is to lose nothing.
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		})
		return errors.Join(err, failed)
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// echo answers each packet until the test ends.
func echo(t testing.TB, m Machine, addr netip.Addr) netip.AddrPort {
	t.Helper()
	conn := listen(t, m, addr)
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
			}
		}
	}()
	return addrOf(conn)
}

// roundTrip sends a packet with a payload of so many bytes and returns how long
// its echo took, not ok if none came within patience.
func roundTrip(t testing.TB, conn *net.UDPConn, to netip.AddrPort, size int, patience time.Duration) (time.Duration, bool) {
	t.Helper()
	buf := make([]byte, max(size, 8))
	start := time.Now()
	binary.BigEndian.PutUint64(buf, uint64(start.UnixNano()))
	if _, err := conn.WriteToUDPAddrPort(buf, to); err != nil {
		return 0, false // a network that is gone is told here
	}
	conn.SetReadDeadline(start.Add(patience))
	got := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFromUDPAddrPort(got)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, false
		}
		if err == nil && n == len(buf) && string(got[:8]) == string(buf[:8]) {
			return time.Since(start), true
		}
	}
}

// reaches tells whether an echo comes back, if need be after tries for 5 s.
func reaches(t testing.TB, conn *net.UDPConn, to netip.AddrPort) bool {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if _, ok := roundTrip(t, conn, to, 8, 500*time.Millisecond); ok {
			return true
		}
	}
	return false
}

// silent tells whether no echo comes back of three.
func silent(t testing.TB, conn *net.UDPConn, to netip.AddrPort) bool {
	t.Helper()
	for range 3 {
		if _, ok := roundTrip(t, conn, to, 8, 100*time.Millisecond); ok {
			return false
		}
	}
	return true
}

// pair returns two hosts on the Internet.
func pair(t testing.TB) (l *Lab, a, b *Host) {
	t.Helper()
	l = New(t)
	return l, l.Host("a"), l.Host("b")
}

// The error that is allowed for is what a busy machine adds: a link is never
// faster than it says, and its median not slower by more than this.
func TestRoundTripIsTwiceTheDelay(t *testing.T) {
	const slack = 2 * time.Millisecond
	_, a, b := pair(t)
	server, conn := echo(t, b, b.Addr()), listen(t, a, a.Addr())
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			b.SetLink(Link{Delay: rtt / 2})
			if !reaches(t, conn, server) {
				t.Fatal("nothing comes back")
			}
			var took []time.Duration
			for range 3 { // the machine may be busy with something else
				took = nil
				for range 15 {
					d, ok := roundTrip(t, conn, server, 100, 2*time.Second)
					if !ok {
						t.Fatal("a packet was lost")
					}
					took = append(took, d)
				}
				slices.Sort(took)
				t.Logf("min %v, median %v, max %v", took[0], took[7], took[14])
				if took[0] < rtt {
					t.Fatalf("a round trip took %v, want at least %v", took[0], rtt)
				}
				if took[7] <= rtt+slack {
					return
				}
			}
			t.Errorf("round trips took %v in the median, want at most %v more than %v", took[7], slack, rtt)
		})
	}
}

// flood sends packets that are numbered, a few at a time, and returns how many
// arrived, counted with those that arrived twice.
func flood(t testing.TB, from, to *net.UDPConn, count int) int {
	t.Helper()
	arrived := make(chan int)
	go func() {
		n := 0
		buf := make([]byte, 64)
		for {
			size, _, err := to.ReadFromUDPAddrPort(buf)
			if err != nil || size == 1 {
				arrived <- n
				return
			}
			n++
		}
	}()
	at := addrOf(to)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range count {
		if i%20 == 0 {
			<-tick.C
		}
		if _, err := from.WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, uint64(i)), at); err != nil {
			t.Fatal(err)
		}
	}
	for { // the end may be lost too
		select {
		case n := <-arrived:
			return n
		case <-tick.C:
			if _, err := from.WriteToUDPAddrPort([]byte{0}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLinkLosesItsShare(t *testing.T) {
	const count = 4000
	for _, tt := range []struct {
		name     string
		out, in  Link
		there    float64 // share that arrives, of what the host sends
		back     float64 // and of what it is sent
		variance float64 // of the loss, times that of independent losses
	}{
		{"both ways, in the kernel", Link{Loss: 0.2}, Link{Loss: 0.2}, 0.8, 0.8, 1},
		{"out only, in the kernel", Link{Loss: 0.1}, Link{}, 0.9, 1, 1},
		{"in only, in the kernel", Link{}, Link{Loss: 0.3}, 1, 0.7, 1},
		{"both ways, emulated", Link{Loss: 0.2, Delay: time.Millisecond}, Link{Loss: 0.1}, 0.8, 0.9, 1},
		{"in rows", Link{Burst: Burst{Enter: 0.02, Leave: 0.2}}, Link{}, 1 - 0.02/0.22, 1, 12},
		{"duplicated", Link{Duplicate: 0.1}, Link{}, 1.1, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, a, b := pair(t)
			a.SetLinks(tt.out, tt.in)
			from, to := listen(t, a, a.Addr()), listen(t, b, b.Addr())
			for _, way := range []struct {
				name string
				got  int
				want float64
			}{{"out", flood(t, from, to, count), tt.there}, {"in", flood(t, to, from, count), tt.back}} {
				got := float64(way.got) / count
				// Five standard deviations: once in some million runs by chance.
				bound := 5 * math.Sqrt(math.Abs(way.want*(1-way.want))*tt.variance/count)
				if math.Abs(got-way.want) > bound {
					t.Errorf("%s: %.4f of the packets arrived, want %.4f ± %.4f", way.name, got, way.want, bound)
				}
			}
		})
	}
}

// transfer sends bytes by TCP and returns the bits per second that arrived.
func transfer(t testing.TB, from, to *Host, size int64) float64 {
	t.Helper()
	var ln net.Listener
	if err := to.Do(func() (err error) { ln, err = net.Listen("tcp", net.JoinHostPort(to.Addr().String(), "0")); return err }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sent := make(chan error, 1)
	go func() {
		sent <- from.Do(func() error {
			conn, err := net.DialTimeout("tcp", ln.Addr().String(), 5*time.Second)
			if err != nil {
				ln.Close()
				return err
			}
			defer conn.Close()
			_, err = io.CopyN(conn, zeros{}, size)
			return err
		})
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err, <-sent)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	start := time.Now()
	if n, err := io.Copy(io.Discard, conn); err != nil || n != size {
		t.Fatalf("%d of %d bytes arrived: %v", n, size, err)
	}
	took := time.Since(start)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	return float64(size*8) / took.Seconds()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestLinkHasARate(t *testing.T) {
	const rate = 16_000_000
	for _, tt := range []struct {
		name    string
		out, in Link
	}{
		{"out, in the kernel", Link{Rate: rate}, Link{}},
		{"in, in the kernel", Link{}, Link{Rate: rate}},
		{"out, emulated", Link{Rate: rate, Delay: 5 * time.Millisecond}, Link{Delay: 5 * time.Millisecond}},
		{"in, emulated", Link{Delay: 5 * time.Millisecond}, Link{Rate: rate, Delay: 5 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, a, b := pair(t)
			a.SetLinks(tt.out, tt.in)
			if tt.out.Rate == 0 {
				a, b = b, a
			}
			got := transfer(t, a, b, 3<<20)
			t.Logf("%.2f Mbit/s", got/1e6)
			// Headers are a twentieth of it.
			if got < 0.8*rate || got > 1.02*rate {
				t.Errorf("carried %.0f bit/s of payload, want from 0.8 to 1 of %d", got, rate)
			}
		})
	}
}

func TestLinkLosesWhatIsTooLong(t *testing.T) {
	const udp4, udp6 = 28, 48 // headers
	for _, tt := range []struct {
		name string
		link Link
	}{
		{"in the kernel", Link{MTU: 1280}},
		{"emulated", Link{MTU: 1280, Delay: time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, a, b := pair(t)
			a.SetLink(tt.link)
			for _, f := range []struct {
				name   string
				a, b   netip.Addr
				header int
			}{{"IPv4", a.Addr(), b.Addr(), udp4}, {"IPv6", a.Addr6(), b.Addr6(), udp6}} {
				server, conn := echo(t, b, f.b), listen(t, a, f.a)
				if !reaches(t, conn, server) {
					t.Fatalf("%s: short packets don't pass", f.name)
				}
				if _, ok := roundTrip(t, conn, server, 1280-f.header, time.Second); !ok {
					t.Errorf("%s: a packet of 1280 bytes was lost", f.name)
				}
				if _, ok := roundTrip(t, conn, server, 1281-f.header, 200*time.Millisecond); ok {
					t.Errorf("%s: a packet of 1281 bytes passed", f.name)
				}
			}
		})
	}
}

// The kernel makes long segments of what a connection sends, that no cable would
// carry: a link is to see the packets.
func TestLinkSeesPacketsAndNotSegments(t *testing.T) {
	for _, tt := range []struct {
		name string
		link Link
	}{
		{"in the kernel", Link{MTU: 1500}},
		{"emulated", Link{MTU: 1500, Delay: time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, a, b := pair(t)
			b.SetLink(tt.link)
			if got := transfer(t, a, b, 20<<20); got < 30e6 {
				t.Errorf("carried %.0f bit/s, want as much as with no MTU", got)
			}
		})
	}
}

func TestLinkIsChangedWhileInUse(t *testing.T) {
	_, a, b := pair(t)
	server, conn := echo(t, b, b.Addr()), listen(t, a, a.Addr())
	for _, tt := range []struct {
		link  Link
		least time.Duration
		most  time.Duration
	}{
		{Link{}, 0, 10 * time.Millisecond},
		{Link{Delay: 20 * time.Millisecond}, 40 * time.Millisecond, 80 * time.Millisecond},
		{Link{Delay: 5 * time.Millisecond}, 10 * time.Millisecond, 30 * time.Millisecond},
		{Link{MTU: 1400}, 0, 10 * time.Millisecond},
		{Link{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond}, 40 * time.Millisecond, 80 * time.Millisecond},
		{Link{}, 0, 10 * time.Millisecond},
	} {
		a.SetLink(tt.link)
		if !reaches(t, conn, server) {
			t.Fatalf("%+v: nothing comes back", tt.link)
		}
		best := time.Hour
		for range 5 {
			if took, ok := roundTrip(t, conn, server, 100, time.Second); ok {
				best = min(best, took)
			}
		}
		if best < tt.least || best > tt.most {
			t.Errorf("%+v: a round trip took %v, want from %v to %v", tt.link, best, tt.least, tt.most)
		}
	}
}
