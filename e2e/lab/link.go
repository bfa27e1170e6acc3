package lab

import "time"

// Link says what happens to packets on the way between a host or router and
// the network it is in. The zero Link is a wire without faults.
//
// With only Loss, MTU and Rate the kernel does it. The rest is done by the
// process that has the lab, in which a link then costs some CPU time for each
// packet. ARP and neighbour discovery always pass, at once.
type Link struct {
	// Delay is added to each packet. It is one way: a round trip over a link
	// with the same Delay both ways takes twice as long.
	Delay time.Duration

	// Jitter is the most that is added to Delay, at random for each packet.
	// Packets stay in order.
	Jitter time.Duration

	// Reorder is the share of packets, from 0 to 1, that skip Delay and Jitter
	// and so overtake those before them.
	Reorder float64

	// Loss is the share of packets, from 0 to 1, that are lost independently.
	Loss float64

	// Burst loses packets in rows, in addition to Loss.
	Burst Burst

	// Duplicate is the share of packets, from 0 to 1, that arrive twice.
	Duplicate float64

	// Rate is the most bits per second, 0 for no bound. Packets wait for their
	// turn in a queue.
	Rate int64

	// Queue is how many bytes may wait for Rate; what comes then is lost.
	// Zero means what is sent in 100 ms, and at least 32 KiB.
	Queue int

	// MTU is the length in bytes of the longest packet, with its IP header, that
	// passes. Longer ones are lost, and their sender isn't told. Zero means that
	// all pass.
	MTU int
}

// Burst is loss that comes in rows, by the model of Gilbert and Elliott: a good
// state in which nothing is lost and a bad one in which all is. The share lost
// is Enter / (Enter + Leave), and a row has 1 / Leave packets on average.
type Burst struct {
	// Enter is how likely a packet is the first of a row, from 0 to 1.
	Enter float64
	// Leave is how likely a packet is the first after a row, from 0 to 1.
	Leave float64
}

// userspace tells whether the kernel can't do this.
func (l Link) userspace() bool {
	return l.Delay != 0 || l.Jitter != 0 || l.Reorder != 0 || l.Duplicate != 0 || l.Burst != Burst{}
}

// queue returns how many bytes may wait.
func (l Link) queue() int {
	if l.Queue != 0 {
		return l.Queue
	}
	return max(32<<10, int(l.Rate/8/10))
}

// What may be sent at once at any rate: some long packets, so that the pace of
// timers doesn't bound the rate.
const burstBytes = 16 << 10
