package durable

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := time.Unix(0, 0)
		id := ID{1}
		a, b := Open(id, Config{}), Accept(id, Config{})
		ends := [2]*End{a, b}
		var wire [2][]byte // to end i
		var want, got [2][]byte
		var cut [2][]byte
		_ = cut
		total := r.IntN(3000)
		for i := range want {
			want[i] = make([]byte, total)
			for k := range want[i] {
				want[i][k] = byte(r.Uint32())
			}
		}
		wrote := [2]int{}
		for step := 0; step < 100000 && !(a.Done() && b.Done()); step++ {
			i := r.IntN(2)
			e := ends[i]
			switch r.IntN(8) {
			case 0:
				if wrote[i] < total {
					n := r.IntN(min(total-wrote[i], 200)) + 1
					wrote[i] += e.Append(want[i][wrote[i]:wrote[i]+n], now)
				} else {
					e.CloseWrite()
				}
			case 1:
				if bb := e.Next(now); bb != nil {
					n := r.IntN(len(bb)) + 1
					wire[1-i] = append(wire[1-i], bb[:n]...)
					e.Sent(e.Epoch(), n)
				}
			case 2, 3:
				p := make([]byte, r.IntN(100)+1)
				k := r.IntN(len(wire[i]) + 1)
				used, n, err := e.Take(wire[i][:k], p)
				if err != nil {
					t.Fatal(seed, err)
				}
				wire[i] = wire[i][used:]
				got[i] = append(got[i], p[:n]...)
				if d := e.Direct(r.IntN(50)); d > 0 && len(wire[i]) >= d {
					p := wire[i][:d]
					wire[i] = wire[i][d:]
					k := e.Took(d)
					got[i] = append(got[i], p[:k]...)
				}
			case 4:
				if due, _ := e.AckDue(); due {
					if err := ends[1-i].Acked(e.Ack(), now); err != nil {
						t.Fatal(seed, err)
					}
				}
			case 5:
				if r.IntN(4) == 0 {
					// migrate
					if r.IntN(2) == 0 {
						a.Lost(a.Epoch(), now)
					}
					h := a.Hello()
					// a goes on reading the old
					if a.Attached() {
						p := make([]byte, 1000)
						used, n, err := a.Take(wire[0], p)
						if err != nil {
							t.Fatal(seed, err)
						}
						wire[0] = wire[0][used:]
						got[0] = append(got[0], p[:n]...)
					}
					ans, ok, err := b.Resume(h, now)
					if err != nil || !ok {
						t.Fatal(seed, err, ok)
					}
					if _, err := a.Resumed(h.Epoch, ans, now); err != nil {
						t.Fatal(seed, err)
					}
					wire = [2][]byte{}
				}
			}
		}
		if !a.Done() || !b.Done() {
			t.Fatalf("seed %d not done: %d/%d %d/%d %v %v", seed, len(got[0]), total, len(got[1]), total, a.Err(), b.Err())
		}
		if !bytes.Equal(got[0], want[1]) || !bytes.Equal(got[1], want[0]) {
			t.Fatal(seed, "bytes differ")
		}
		if a.Held() != 0 || b.Held() != 0 {
			t.Fatal("held", a.Held(), b.Held())
		}
	}
}
