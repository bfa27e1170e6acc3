package lab

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// carry sends packets of a size at a steady pace through a pipe, and returns for
// each that arrived which it was, in order of arrival, and when after the start.
func carry(l Link, count, size int, pace time.Duration) (which []int, at []time.Duration) {
	p := pipe{link: l, rand: rand.New(rand.NewPCG(1, 2))}
	start := time.Unix(0, 0)
	take := func(now time.Time) {
		for {
			when, _ := p.next()
			frame := p.due(now)
			if frame == nil {
				return
			}
			which = append(which, int(frame[0])|int(frame[1])<<8|int(frame[2])<<16)
			at = append(at, when.Sub(start))
		}
	}
	for i := range count {
		now := start.Add(time.Duration(i) * pace)
		take(now)
		frame := make([]byte, size+14)
		frame[0], frame[1], frame[2] = byte(i), byte(i>>8), byte(i>>16)
		p.send(frame, size, now)
	}
	take(start.Add(time.Hour))
	return which, at
}

func TestPipeLosesItsShare(t *testing.T) {
	const count = 100_000
	for _, tt := range []struct {
		name  string
		link  Link
		share float64
		row   float64 // mean packets lost in a row
	}{
		{"nothing", Link{}, 0, 0},
		{"one in a hundred", Link{Loss: 0.01}, 0.01, 1.01},
		{"a third", Link{Loss: 0.3}, 0.3, 1 / 0.7},
		{"in rows", Link{Burst: Burst{Enter: 0.01, Leave: 0.1}}, 0.01 / 0.11, 10},
		{"all", Link{Loss: 1}, 1, count},
	} {
		t.Run(tt.name, func(t *testing.T) {
			which, _ := carry(tt.link, count, 100, time.Millisecond)
			lost, rows, next := count-len(which), 0, 0
			for _, w := range append(which, count) {
				if w > next {
					rows++
				}
				next = w + 1
			}
			if got := float64(lost) / count; math.Abs(got-tt.share) > 0.1*tt.share {
				t.Errorf("lost %.4f of the packets, want %.4f", got, tt.share)
			}
			if rows > 0 {
				if got := float64(lost) / float64(rows); math.Abs(got-tt.row) > 0.1*tt.row {
					t.Errorf("lost %.2f packets in a row, want %.2f", got, tt.row)
				}
			}
		})
	}
}

func TestPipeKeepsOrderUnlessAskedNotTo(t *testing.T) {
	const count = 10_000
	for _, tt := range []struct {
		name string
		link Link
		late float64 // share that arrives after one that was sent later
	}{
		{"delay", Link{Delay: 20 * time.Millisecond}, 0},
		{"jitter", Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}, 0},
		{"rate", Link{Delay: 20 * time.Millisecond, Rate: 10_000_000}, 0},
		// Each that overtakes, does so with the 20 that are on their way.
		{"reorder", Link{Delay: 20 * time.Millisecond, Reorder: 0.01}, 1 - math.Pow(0.99, 20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			which, _ := carry(tt.link, count, 100, time.Millisecond)
			late, last := 0, -1
			for _, w := range which {
				if w < last {
					late++
				}
				last = max(last, w)
			}
			if got := float64(late) / count; math.Abs(got-tt.late) > 0.15*tt.late {
				t.Errorf("%.4f of the packets were overtaken, want %.4f", got, tt.late)
			}
			if len(which) != count {
				t.Errorf("%d packets arrived, want %d", len(which), count)
			}
		})
	}
}

func TestPipeDelaysWithinItsJitter(t *testing.T) {
	const delay, jitter = 20 * time.Millisecond, 10 * time.Millisecond
	which, at := carry(Link{Delay: delay, Jitter: jitter}, 10_000, 100, time.Second)
	var sum time.Duration
	for i, w := range which {
		took := at[i] - time.Duration(w)*time.Second
		if took < delay || took >= delay+jitter {
			t.Fatalf("packet %d took %v, want from %v to %v", w, took, delay, delay+jitter)
		}
		sum += took
	}
	if mean := sum / time.Duration(len(which)); mean < delay+jitter*4/10 || mean > delay+jitter*6/10 {
		t.Errorf("packets took %v in the mean, want about %v", mean, delay+jitter/2)
	}
}

func TestPipeDuplicatesItsShare(t *testing.T) {
	which, _ := carry(Link{Duplicate: 0.1}, 10_000, 100, time.Millisecond)
	if n := len(which); n < 10_800 || n > 11_200 {
		t.Errorf("%d packets arrived of 10000, want about 11000", n)
	}
}

func TestPipeHasARateAndAQueueWithAnEnd(t *testing.T) {
	const rate, size, count = 8_000_000, 986, 4000 // 1000 bytes with the frame's header: 1 ms each
	which, at := carry(Link{Rate: rate, Queue: 100_000}, count, size, time.Millisecond/2)
	took := at[len(at)-1]
	if got := float64(len(which)*(size+14)*8) / took.Seconds(); math.Abs(got-rate) > 0.03*rate {
		t.Errorf("carried %.0f bit/s, want %d", got, rate)
	}
	if len(which) > count*6/10 {
		t.Errorf("%d of %d packets arrived, want that what the queue can't hold is lost", len(which), count)
	}
	for i, w := range which {
		if wait := at[i] - time.Duration(w)*time.Millisecond/2; wait > 105*time.Millisecond {
			t.Fatalf("packet %d waited %v, want at most the 100 ms that the queue holds", w, wait)
		}
	}
}

func TestPipeLosesWhatIsTooLong(t *testing.T) {
	for _, tt := range []struct{ size, want int }{{1279, 10}, {1280, 10}, {1281, 0}} {
		if which, _ := carry(Link{MTU: 1280}, 10, tt.size, time.Millisecond); len(which) != tt.want {
			t.Errorf("%d of 10 packets of %d bytes passed an MTU of 1280, want %d", len(which), tt.size, tt.want)
		}
	}
}

func TestPacketSize(t *testing.T) {
	frame := func(kind uint16, payload ...byte) []byte {
		return append(append(make([]byte, 12), byte(kind>>8), byte(kind)), payload...)
	}
	v6 := func(next, icmp byte) []byte { return append(append([]byte{0x60, 6: next, 39: 0}, icmp), 0, 0, 0) }
	for _, tt := range []struct {
		name  string
		frame []byte
		size  int
		ok    bool
	}{
		{"IPv4", frame(0x0800, make([]byte, 20)...), 20, true},
		{"IPv6", frame(0x86dd, v6(17, 0)...), 44, true},
		{"echo", frame(0x86dd, v6(58, 128)...), 44, true},
		{"neighbour solicitation", frame(0x86dd, v6(58, 135)...), 0, false},
		{"ARP", frame(0x0806, make([]byte, 28)...), 0, false},
		{"short", frame(0x0800), 0, false},
	} {
		if size, ok := packetSize(tt.frame); size != tt.size || ok != tt.ok {
			t.Errorf("packetSize(%s) = %d, %v, want %d, %v", tt.name, size, ok, tt.size, tt.ok)
		}
	}
}
