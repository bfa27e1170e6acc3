package durable

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// What is said, to the byte, and what comes of it.
func TestGolden(t *testing.T) {
	for name, do := range map[string]func(k *talk){
		"short": func(k *talk) {
			k.open(true)
			k.write(0, "hello")
			k.read(1, -1)
			k.write(1, "hello to you")
			k.read(0, -1)
			k.close(0)
			k.read(1, -1)
			k.close(1)
			k.read(0, -1)
			k.drained(0)
			k.drained(1)
		},
		"halfclose": func(k *talk) {
			k.open(true)
			k.write(0, "question")
			k.close(0)
			k.read(1, -1)
			k.ack(1)
			k.write(1, "first")
			k.read(0, -1)
			k.ack(0)
			k.write(1, "second")
			k.read(0, -1)
			k.close(1)
			k.read(0, -1)
			k.ack(0)
		},
		"halfclose-other": func(k *talk) {
			k.open(true)
			k.write(1, "greeting")
			k.close(1)
			k.read(0, -1)
			k.write(0, "more")
			k.read(1, -1)
			k.close(0)
			k.read(1, -1)
			k.drained(0)
			k.drained(1)
		},
		"cut": func(k *talk) {
			k.open(true)
			k.write(0, "abcdef")
			k.write(1, "uvwxyz")
			k.read(1, 4)
			k.read(0, 2)
			k.lost()
			k.write(0, "ghi")
			k.say(1, Message{MessageLost, k.ends[1].ID(), k.ends[1].Epoch()})
			k.answer(k.hello())
			k.send(0)
			k.send(1)
			k.read(1, -1)
			k.read(0, -1)
		},
		"move": func(k *talk) {
			k.open(true)
			k.write(1, "abc")
			k.read(0, 2)
			h := k.hello()
			k.write(1, "def")
			k.read(0, 5)
			k.ack(0)
			k.write(0, "xyz")
			k.answer(h)
			k.send(0)
			k.send(1)
			k.read(1, -1)
			k.read(0, -1)
			k.ack(0)
			k.ack(1)
		},
		"moves": func(k *talk) {
			k.open(true)
			k.write(0, "abc")
			first := k.hello()
			second := k.hello()
			k.answer(second)
			if _, ok, err := k.ends[1].Resume(first, k.now); ok || err != nil {
				k.t.Fatalf("Resume(%+v) = %v, %v, want false", first, ok, err)
			}
			k.line("other > %d: closes the carrier, which is late", first.Epoch)
			k.send(0)
			k.read(1, -1)
		},
		"reset": func(k *talk) {
			k.open(true)
			k.write(0, "abc")
			k.ends[1].Reset(errors.New("given up"))
			k.over(1)
			k.say(1, Message{MessageReset, k.ends[1].ID(), CodeReset})
		},
		"reset-lost": func(k *talk) {
			k.open(true)
			k.write(0, "abc")
			k.lost()
			k.ends[1].Reset(errors.New("given up"))
			k.over(1)
			k.answer(k.hello())
		},
		"refused": func(k *talk) {
			k.open(false)
			k.write(0, "abc")
			k.read(0, -1)
		},
		"restart": func(k *talk) {
			k.open(true)
			k.write(0, "abc")
			k.read(1, -1)
			k.lost()
			k.line("other: is started anew")
			k.ends[1] = nil
			k.answer(k.hello())
		},
		"restart-opener": func(k *talk) {
			k.open(true)
			k.write(0, "abc")
			k.read(1, -1)
			k.lost()
			k.line("opener: is started anew")
			k.ends[0] = nil
			id := k.ends[1].ID()
			k.say(1, Message{MessageLost, id, k.ends[1].Epoch()})
			k.say(0, Message{MessageGone, id, CodeUnknown})
		},
		"limit": func(k *talk) {
			k.open(true)
			k.write(0, "abc")
			k.lost()
			for i, e := range k.ends {
				k.line("%s: has until %v", names[i], e.Deadline().Sub(k.now))
				e.Expire(e.Deadline().Add(-1))
				k.over(i)
			}
			k.now = k.now.Add(5 * time.Minute)
			for i, e := range k.ends {
				e.Expire(k.now)
				k.over(i)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := &talk{t: t, now: start}
			do(k)
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(k.log.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := k.log.String(); got != string(want) {
				t.Errorf("%s =\n%s\nwant\n%s", file, got, want)
			}
		})
	}
}
