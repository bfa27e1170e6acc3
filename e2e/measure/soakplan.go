package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// A soakFault is something that happens to two nodes and their relays while streams go
// on between them.
type soakFault struct {
	at     time.Duration // since the start
	kind   faultKind
	target int           // which end, or which relay
	length time.Duration // zero for what happens at once
	loss   float64
}

// faultKind is what a soakFault is.
type faultKind int

const (
	linkDown       faultKind = iota // of an end
	lossyLink                       // of an end
	stopped                         // an end, by SIGSTOP
	relayKilled                     // and started again
	natReboot                       // in front of an end
	publicAddress                   // of the router in front of an end is another
	ownAddress                      // of an end is another
	moved                           // an end, behind another router
	faultKinds                      // how many there are
	maxLoss        = 0.3
	longestOutside = 5 * time.Second // of a relay
)

var faultNames = [faultKinds]string{
	"link down", "loss", "SIGSTOP", "relay killed", "NAT reboot", "public address change", "own address change", "uplink moved",
}

func (k faultKind) String() string { return faultNames[k] }

func (f soakFault) String() string {
	s := fmt.Sprintf("%v, %d", f.kind, f.target)
	if f.loss > 0 {
		s += fmt.Sprintf(", %.0f %%", 100*f.loss)
	}
	if f.length > 0 {
		s += fmt.Sprintf(", for %v", f.length.Round(time.Millisecond))
	}
	return s
}

// A pace is how often faults come and how long they last.
type pace struct {
	first, last time.Duration // from the start of one to the start of the next
	calm        time.Duration // if not zero, how long every eighth lasts before the next
	down, stop  time.Duration // the longest
}

// usualPace is that of a soak, and briskPace that of a test, which has less time and
// must leave the streams some to go on in.
var (
	usualPace = pace{first: time.Second, last: 20 * time.Second, down: 30 * time.Second, stop: 20 * time.Second}
	briskPace = pace{first: 500 * time.Millisecond, last: 3 * time.Second, calm: 6 * time.Second, down: 4 * time.Second, stop: 3 * time.Second}
)

// shortest is the shortest fault that lasts.
const shortest = 100 * time.Millisecond

// plan returns the faults of a soak that takes so long, which follow from the seed. What
// has happened to one thing ends before something else happens to it.
func (p pace) plan(seed uint64, long time.Duration, relays int) (out []soakFault) {
	r := rand.New(rand.NewPCG(seed, 0))
	busy := map[[2]int]time.Duration{} // until when, by thing and target
	for at := between(r, p.first, p.last); at < long; at += between(r, p.first, p.last) {
		f := soakFault{at: at}
		for {
			f.kind, f.target = faultKind(r.IntN(int(faultKinds))), r.IntN(2)
			if f.kind == relayKilled {
				f.target = r.IntN(relays)
			}
			if busy[f.thing()] <= at {
				break
			}
		}
		switch f.kind {
		case linkDown:
			f.length = between(r, shortest, p.down)
		case stopped:
			f.length = between(r, shortest, p.stop)
		case relayKilled:
			f.length = between(r, shortest, longestOutside)
		case lossyLink:
			f.length, f.loss = between(r, p.first, p.last), maxLoss*(1-r.Float64())
		}
		busy[f.thing()] = at + f.length
		if out = append(out, f); len(out)%8 == 0 {
			at += p.calm
		}
	}
	return out
}

// thing names what a fault happens to.
func (f soakFault) thing() [2]int {
	switch f.kind {
	case linkDown, ownAddress, moved:
		return [2]int{int(linkDown), f.target} // a cable that is out gets no address
	case natReboot, publicAddress:
		return [2]int{int(natReboot), f.target}
	default:
		return [2]int{int(f.kind), f.target}
	}
}

// between returns a time between two, of which there are as many of each order of
// magnitude.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), r.Float64()))
}
