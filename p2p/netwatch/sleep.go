package netwatch

import "time"

// asleep is how far the clock on the wall runs ahead of another before that
// counts as sleep. It is more than what a clock that is set right is wrong by.
const asleep = 10 * time.Second

// A moment is when two clocks were read: the one on the wall, which runs on
// while the machine sleeps, and the one that only ever counts.
type moment struct {
	wall, steady time.Duration
}

var start = time.Now()

func now() moment {
	t := time.Now()
	return moment{wall: time.Duration(t.UnixNano()), steady: t.Sub(start)}
}

// sleptSince tells whether the machine slept, as far as the steady clock stands
// still meanwhile. It does on Linux and macOS.
func (m moment) sleptSince(before moment) bool {
	return (m.wall-before.wall)-(m.steady-before.steady) > asleep
}

// lateBy tells whether the machine slept by how much later it is than expected,
// which holds whatever the steady clock does.
func (m moment) lateBy(before moment, expected time.Duration) bool {
	return m.wall-before.wall-expected > asleep
}
