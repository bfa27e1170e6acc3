package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A soak has two nodes and two relays go through faults while blocks go both ways on
// eight streams that the one has dialed and eight that the other has.
type soak struct {
	long  time.Duration
	seed  uint64
	pace  pace
	rate  int           // bytes a second of what one end sends on the streams that it dialed
	delay time.Duration // of each end's link
	tags  string        // that the nodes are built with
	log   io.Writer     // gets what happens
}

const (
	soakStreams = 8
	soakRelays  = 2

	// soakEnd bounds the wait for all that was written, once nothing is wrong any more:
	// a minute until all is connected again, and as much to carry what was held up.
	soakEnd = 2 * time.Minute

	soakDelay = 5 * time.Millisecond // which makes 20 ms of a round trip

	soakLook = 2 * time.Second // how often it looks whether a stream is dead or wrong
)

// errSpoilt ends a soak early, as what it was to show is not so.
var errSpoilt = errors.New("a stream is dead or wrong")

// A soakResult is what came of a soak.
type soakResult struct {
	streams    int        // that each end has dialed
	again      [2]float64 // after the last fault, until a new stream works from each end, in milliseconds
	faults     [faultKinds]int
	bytes      int64
	verdict    verdict
	dead       []string // the ends of streams that did not get to the end
	stall      time.Duration
	ends       [2]streamCount
	spoilt     bool           // it ended early, and streams were not closed
	paths      map[string]int // how often ends were seen to have one
	took, over time.Duration  // until faults ended, and from then on until streams had
}

// measure runs the soak in a laboratory of its own, and returns an error if streams have
// not brought what was written.
func (k soak) measure(ctx context.Context, s *site) ([]figure, error) {
	if err := s.build(ctx, k.tags); err != nil {
		return nil, err
	}
	var r soakResult
	_, err := inNetwork(func(ctx context.Context, n *network) (_ []figure, err error) {
		r, err = k.run(ctx, n)
		return nil, err
	})(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, dead := range r.dead {
		fmt.Fprintln(k.log, "durable-soak: dead:", dead)
	}
	return r.figures(), r.err()
}

func (k soak) run(ctx context.Context, n *network) (r soakResult, err error) {
	fmt.Fprintf(k.log, "durable-soak: %v, seed %d\n", k.long, k.seed)
	d, err := n.openDurableLab(ctx, homeKinds, soakRelays)
	if err != nil {
		return r, err
	}
	defer d.close()
	d.setDelay(k.delay)
	if k.rate > 0 {
		r.streams = soakStreams
		if err := d.flow(k.seed, k.rate); err != nil {
			return r, err
		}
	}
	began := time.Now()
	r.faults, err = k.trouble(ctx, d)
	r.took, r.spoilt = time.Since(began), errors.Is(err, errSpoilt)
	if r.spoilt {
		return r, r.judge(d, began)
	}
	if err != nil {
		return r, err
	}
	fmt.Fprintf(k.log, "durable-soak: %v: no more faults; streams are closed half by half\n", r.took.Round(time.Second))
	if r.again, err = d.reach(); err != nil {
		return r, err
	}
	for _, side := range []string{"dialed", "accepted"} {
		if _, err := d.both("halt", side); err != nil {
			return r, err
		}
		if err := d.awaitEnd(ctx, side == "dialed"); err != nil {
			return r, err
		}
	}
	r.over = time.Since(began) - r.took
	return r, errors.Join(r.judge(d, began), n.lab.Err())
}

// flow opens the streams of blocks, from each end to the other.
func (d *durableLab) flow(seed uint64, bytesASecond int) error {
	for i, e := range d.ends {
		if _, err := e.ask("flows", d.ends[1-i].id(), i*soakStreams, soakStreams, seed, bytesASecond); err != nil {
			return err
		}
	}
	return nil
}

// reach returns how long it takes until new streams work, from each end, in milliseconds.
func (d *durableLab) reach() (again [2]float64, err error) {
	for i, e := range d.ends {
		text, err := e.ask("reach", d.ends[1-i].id())
		if err != nil {
			return again, err
		}
		if again[i], err = strconv.ParseFloat(text, 64); err != nil {
			return again, err
		}
	}
	return again, nil
}

// trouble has all faults of the plan happen, and waits until the last is over. It tells
// how many there were.
func (k soak) trouble(ctx context.Context, d *durableLab) (count [faultKinds]int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	things := map[[2]int]*sync.Mutex{} // held while something happens to one
	var wg sync.WaitGroup
	wg.Go(func() { cancel(d.watch(ctx)) })
	began := time.Now()
	for _, f := range k.pace.plan(k.seed, k.long, soakRelays) {
		if wait(ctx, time.Until(began.Add(f.at))) != nil {
			break
		}
		fmt.Fprintf(k.log, "durable-soak: %v: %v\n", time.Since(began).Round(time.Millisecond), f)
		count[f.kind]++
		m := things[f.thing()]
		if m == nil {
			m = &sync.Mutex{}
			things[f.thing()] = m
		}
		wg.Go(func() {
			m.Lock()
			defer m.Unlock()
			if err := d.happen(ctx, f); err != nil {
				cancel(fmt.Errorf("%v: %w", f.kind, err))
			}
		})
	}
	if wait(ctx, time.Until(began.Add(k.long))) == nil {
		cancel(errOver)
	}
	wg.Wait()
	if err := context.Cause(ctx); err != errOver {
		return count, err
	}
	return count, nil
}

// errOver ends the faults of a soak.
var errOver = errors.New("there are no more faults")

// watch looks at the streams until one is dead or wrong.
func (d *durableLab) watch(ctx context.Context) error {
	for {
		if err := wait(ctx, soakLook); err != nil {
			return err
		}
		for _, e := range d.ends {
			var s durableStatus
			if err := e.askFor(&s, "status"); err != nil {
				return err
			}
			for _, f := range s.Flows {
				d.note(f.Path)
				if f.Err != "" || f.Done || f.Verdict.bad() > 0 {
					return errSpoilt
				}
			}
		}
	}
}

// note counts that an end of a stream was seen to have a path.
func (d *durableLab) note(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paths[path]++
}

// happen has a fault happen, and returns when it is over.
func (d *durableLab) happen(ctx context.Context, f soakFault) error {
	if f.kind == relayKilled {
		r := d.relays[f.target]
		r.kill()
		_ = wait(ctx, f.length) // it is started in any case
		return r.start(ctx)
	}
	e := d.ends[f.target]
	switch f.kind {
	case linkDown:
		e.host.Down()
		_ = wait(ctx, f.length) // all that lasts is undone in any case
		e.host.Up()
	case lossyLink:
		e.host.SetLink(lab.Link{Loss: f.loss})
		_ = wait(ctx, f.length)
		e.host.SetLink(lab.Link{})
	case stopped:
		err := pause(e.cmd.Process, true)
		_ = wait(ctx, f.length)
		return errors.Join(err, pause(e.cmd.Process, false))
	case natReboot:
		d.home(f.target).Reboot()
	case publicAddress:
		d.home(f.target).ChangeAddress()
	case ownAddress:
		e.host.ChangeAddress()
	case moved:
		d.move(f.target)
	}
	return d.network.lab.Err()
}

// move has an end move to its other home.
func (d *durableLab) move(end int) {
	d.mu.Lock()
	d.at[end] = 1 - d.at[end]
	d.mu.Unlock()
	d.ends[end].host.MoveTo(d.home(end))
}

// awaitEnd waits until what was sent on the streams has been read to its end, by those
// who have accepted them or those who have dialed them. It gives up without an error.
func (d *durableLab) awaitEnd(ctx context.Context, accepted bool) error {
	for began := time.Now(); time.Since(began) < soakEnd; {
		open := 0
		for _, e := range d.ends {
			var s durableStatus
			if err := e.askFor(&s, "status"); err != nil {
				return err
			}
			for _, f := range s.Flows {
				if f.Dialed != accepted && !f.Done && f.Err == "" {
					open++
				}
			}
		}
		if open == 0 {
			return nil
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// judge compares what was read at each end with what was written at the other.
func (r *soakResult) judge(d *durableLab, began time.Time) error {
	r.paths = d.paths
	var flows [2]map[uint64]flowStatus
	for i, e := range d.ends {
		var s durableStatus
		if err := errors.Join(e.askFor(&s, "status"), e.askFor(&r.ends[i], "streams")); err != nil {
			return err
		}
		flows[i] = map[uint64]flowStatus{}
		for _, f := range s.Flows {
			flows[i][f.Number] = f
		}
		for _, lost := range s.Lost {
			r.dead = append(r.dead, fmt.Sprintf("end %d: before its first bytes: %s", i, lost))
		}
	}
	for i := range flows {
		for number := range uint64(2 * r.streams) {
			r.add(i, number, flows[i][number], flows[1-i][number], began)
		}
	}
	return nil
}

// add takes in one end of a stream.
func (r *soakResult) add(end int, number uint64, f, other flowStatus, began time.Time) {
	r.bytes += int64(f.Verdict.Blocks) * blockSize
	r.stall = max(r.stall, f.Stall)
	v := f.Verdict
	switch {
	case f.Err != "":
		r.dead = append(r.dead, fmt.Sprintf("end %d, stream %d, after %v and %d blocks, by %s: %s",
			end, number, f.Ended.Sub(began).Round(time.Millisecond), f.Awaited, f.Path, f.Err))
	case r.spoilt && f.Done:
		r.dead = append(r.dead, fmt.Sprintf("end %d, stream %d, after %d blocks, by %s: it ended as if that were all", end, number, f.Awaited, f.Path))
	case r.spoilt: // it goes on
	case !f.Done:
		r.dead = append(r.dead, fmt.Sprintf("end %d, stream %d, after %d of %d blocks, by %s: it waits for more",
			end, number, f.Awaited, other.Sent, f.Path))
	default:
		v = v.end(other.Sent, f.Awaited, f.Torn)
	}
	r.verdict.Gaps += v.Gaps
	r.verdict.Repeats += v.Repeats
	r.verdict.Wrong += v.Wrong
	r.verdict.Bytes += v.Bytes
}

// errUnsound says that streams did not bring what was written.
var errUnsound = errors.New("streams are unsound")

// err tells that streams did not bring what was written.
func (r *soakResult) err() error {
	if r.verdict.bad() == 0 && len(r.dead) == 0 && !r.spoilt {
		return nil
	}
	return fmt.Errorf("durable-soak: %w: %d gaps, %d repeats, %d wrong, %d dead streams", errUnsound, r.verdict.Gaps, r.verdict.Repeats, r.verdict.Wrong, len(r.dead))
}

// total counts all faults.
func (r *soakResult) total() (sum int) {
	for _, n := range r.faults {
		sum += n
	}
	return sum
}

func (r *soakResult) figures() []figure {
	one := func(name, unit string, value float64, note string) figure {
		return figure{Name: "durable-soak: " + name, Unit: unit, Values: []float64{value}, Note: note}
	}
	kinds := ""
	for k, n := range r.faults {
		kinds += fmt.Sprintf("%v %d; ", faultKind(k), n)
	}
	out := []figure{
		one("faults", "", float64(r.total()), kinds),
		one("time with faults", "s", r.took.Seconds(), ""),
		one("time from then on until all was read", "s", r.over.Seconds(), ""),
		one("bytes read", "MB", float64(r.bytes)/1e6, fmt.Sprintf("on %d streams, both ways; paths of ends seen: %v", 2*r.streams, r.paths)),
		one("longest stall", "s", r.stall.Seconds(), "the faults themselves included"),
		one("gaps", "", float64(r.verdict.Gaps), ""),
		one("repeats", "", float64(r.verdict.Repeats), ""),
		one("wrong bytes", "", float64(r.verdict.Wrong), ""),
		one("dead streams", "", float64(len(r.dead)), "of both ends"),
	}
	for i, ms := range r.again {
		out = append(out, one(fmt.Sprint("after the last fault, until a new stream works, end ", i), "ms", ms, ""))
	}
	for i, c := range r.ends {
		out = append(out, one(fmt.Sprint("moves at end ", i), "", float64(c.Moves),
			fmt.Sprintf("resumes %d, stalls %d, replayed %d bytes, streams %d", c.Resumes, c.Stalls, c.Replayed, c.Streams)))
	}
	return out
}
