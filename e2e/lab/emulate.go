package lab

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// A pipe is one direction of a link: it decides of each packet whether and when
// it arrives. It does no I/O and keeps no clock.
type pipe struct {
	link Link
	rand *rand.Rand

	bad   bool      // a row of losses is on
	free  time.Time // when all that was sent before is on the wire
	last  time.Time // when the last packet in order arrives
	count uint64
	queue arrivals
}

// An arrival is a packet on its way.
type arrival struct {
	at    time.Time
	order uint64 // among those of one time
	frame []byte
}

// send takes in a frame, that carries so many bytes of a packet. The frame is
// kept if anything is still to arrive.
func (p *pipe) send(frame []byte, size int, now time.Time) {
	if p.loses(size) {
		return
	}
	at := now
	if p.link.Rate > 0 {
		wire := func(bytes int) time.Duration {
			return time.Duration(float64(bytes) * 8 / float64(p.link.Rate) * float64(time.Second))
		}
		// What was not sent for a while may be sent at once, but not too much.
		if least := now.Add(-wire(burstBytes)); p.free.Before(least) {
			p.free = least
		}
		if p.free.Sub(now) > wire(p.link.queue()) {
			return // the queue is full
		}
		p.free = p.free.Add(wire(len(frame)))
		if p.free.After(at) {
			at = p.free
		}
	}
	if p.chance(p.link.Reorder) {
		p.arrive(frame, at)
		return
	}
	at = at.Add(p.link.Delay)
	if p.link.Jitter > 0 {
		at = at.Add(time.Duration(p.rand.Int64N(int64(p.link.Jitter))))
	}
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at
	p.arrive(frame, at)
	if p.chance(p.link.Duplicate) {
		p.arrive(frame, at)
	}
}

// loses decides whether a packet of a size is lost.
func (p *pipe) loses(size int) bool {
	if p.bad {
		p.bad = !p.chance(p.link.Burst.Leave)
	} else {
		p.bad = p.chance(p.link.Burst.Enter)
	}
	return p.bad || p.chance(p.link.Loss) || p.link.MTU > 0 && size > p.link.MTU
}

func (p *pipe) chance(share float64) bool { return share > 0 && p.rand.Float64() < share }

func (p *pipe) arrive(frame []byte, at time.Time) {
	p.count++
	heap.Push(&p.queue, arrival{at, p.count, frame})
}

// due takes out a frame that has arrived by now, nil if there is none.
func (p *pipe) due(now time.Time) []byte {
	if len(p.queue) == 0 || p.queue[0].at.After(now) {
		return nil
	}
	return heap.Pop(&p.queue).(arrival).frame
}

// next returns when the next frame arrives, if one is on its way.
func (p *pipe) next() (time.Time, bool) {
	if len(p.queue) == 0 {
		return time.Time{}, false
	}
	return p.queue[0].at, true
}

// arrivals is a heap, earliest first.
type arrivals []arrival

func (a arrivals) Len() int      { return len(a) }
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a arrivals) Less(i, j int) bool {
	if a[i].at.Equal(a[j].at) {
		return a[i].order < a[j].order
	}
	return a[i].at.Before(a[j].at)
}
func (a *arrivals) Push(x any) { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = arrival{}
	*a = (*a)[:len(*a)-1]
	return last
}

// An emulator carries frames between two devices, as a link says.
type emulator struct {
	out, in *direction
	wg      sync.WaitGroup
}

// emulate starts to carry frames; out is from near to far. It owns the files.
func emulate(near, far *os.File, out, in Link) (*emulator, error) {
	e := &emulator{}
	var err error
	if e.out, err = newDirection(near, far, out); err == nil {
		e.in, err = newDirection(far, near, in)
	}
	if err != nil {
		if e.out != nil {
			e.out.alarm.close()
		}
		return nil, errors.Join(err, near.Close(), far.Close())
	}
	for _, d := range []*direction{e.out, e.in} {
		e.wg.Go(d.runSource)
		e.wg.Go(d.runSink)
	}
	return e, nil
}

func (e *emulator) set(out, in Link) {
	e.out.set(out)
	e.in.set(in)
}

func (e *emulator) close() {
	for _, d := range []*direction{e.out, e.in} {
		d.source.Close()
		d.alarm.close()
	}
	e.wg.Wait()
}

// A direction moves frames from one device to another.
type direction struct {
	source, sink *os.File
	alarm        *alarm

	mu   sync.Mutex // guards the pipe
	pipe pipe
}

func newDirection(source, sink *os.File, l Link) (*direction, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, err
	}
	return &direction{
		source: source, sink: sink, alarm: a,
		pipe: pipe{link: l, rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))},
	}, nil
}

func (d *direction) set(l Link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pipe.link = l
	d.pipe.bad = false
}

// runSource reads frames until the device is closed.
func (d *direction) runSource() {
	buf := make([]byte, 64<<10)
	for {
		n, err := d.source.Read(buf)
		if err != nil {
			return
		}
		size, ok := packetSize(buf[:n])
		if !ok {
			d.write(buf[:n])
			continue
		}
		d.mu.Lock()
		was, waiting := d.pipe.next()
		d.pipe.send(append([]byte(nil), buf[:n]...), size, time.Now())
		if at, ok := d.pipe.next(); ok && (!waiting || at.Before(was)) {
			d.ring(at)
		}
		d.mu.Unlock()
	}
}

// runSink writes frames as they arrive.
func (d *direction) runSink() {
	for d.alarm.wait() == nil {
		for {
			d.mu.Lock()
			frame := d.pipe.due(time.Now())
			if frame == nil {
				if at, ok := d.pipe.next(); ok {
					d.ring(at)
				}
				d.mu.Unlock()
				break
			}
			d.mu.Unlock()
			d.write(frame)
		}
	}
}

// write passes a frame on. A device that is down or full loses it, as it does
// those that come by themselves.
func (d *direction) write(frame []byte) { _, _ = d.sink.Write(frame) }

// ring wakes runSink at a time. It fails only when the emulator was closed.
func (d *direction) ring(at time.Time) { _ = d.alarm.set(time.Until(at)) }

// packetSize returns the length of the packet in a frame, and not ok if it is
// one that finds neighbours or no packet of IP.
func packetSize(frame []byte) (int, bool) {
	const header = 14
	if len(frame) < header+1 {
		return 0, false
	}
	switch kind := int(frame[12])<<8 | int(frame[13]); kind {
	case 0x0800:
		return len(frame) - header, true
	case 0x86dd:
		const next, icmp = header + 6, header + 40
		if len(frame) > icmp && frame[next] == 58 && frame[icmp] >= 133 && frame[icmp] <= 137 {
			return 0, false
		}
		return len(frame) - header, true
	}
	return 0, false
}
