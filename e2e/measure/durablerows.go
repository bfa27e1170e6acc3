package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A durableRow is how streams come through one thing.
type durableRow struct {
	name    string
	measure func(context.Context, *network, int) ([]figure, error)
}

var durableRows = []durableRow{
	{"relay to direct", relayToDirect},
	{"link down", linkDownRow},
	changeRow("own address change", func(d *durableLab) { d.ends[0].host.ChangeAddress() }),
	changeRow("public address change", func(d *durableLab) { d.home(0).ChangeAddress() }),
	changeRow("NAT reboot", func(d *durableLab) { d.home(0).Reboot() }),
	changeRow("uplink moved", func(d *durableLab) { d.move(0) }),
	{"relay restarted", relayRestarted},
	{"many at once", manyMoved},
	{"peer killed", peerKilled},
	{"memory", durableMemory},
	{"stalled", durableStalled},
}

// measureDurableRows measures the rows whose name has filter in it, each so many times.
// What does not happen is noted.
func measureDurableRows(rounds int, filter string) measurement {
	return inNetwork(func(ctx context.Context, n *network) (all []figure, err error) {
		for _, row := range durableRows {
			if !strings.Contains(row.name, filter) {
				continue
			}
			figures, err := row.measure(ctx, n, rounds)
			if err != nil && len(figures) > 0 && ctx.Err() == nil {
				figures[0].Note += " " + err.Error()
				fmt.Fprintf(os.Stderr, "%s: %v\n", row.name, err)
				err = nil
			}
			all = append(all, figures...)
			if err != nil {
				return all, fmt.Errorf("%s: %w", row.name, err)
			}
		}
		return all, n.lab.Err()
	})
}

const (
	rowRate    = 2 << 20 // bytes a second that each end sends
	rowLinger  = time.Second
	rowOutage  = 5 * time.Second
	manyHeld   = 1000
	fewRounds  = 5
	rowLimit   = 10 * time.Second
	rowTrips   = 200
	errAwaited = 60 // seconds that an error is waited for
)

// openRow opens a laboratory in which the ends are connected by a path.
func (n *network) openRow(ctx context.Context, relays int, path string) (*durableLab, error) {
	d, err := n.openDurableLab(ctx, homeKinds, relays)
	if err != nil {
		return nil, err
	}
	d.setDelay(networkDelay)
	d.apart(path == "relay")
	if err := d.become(path); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// flowBy has streams flow by a path.
func (d *durableLab) flowBy(path string) error {
	if err := d.flow(1, rowRate); err != nil {
		return err
	}
	if _, err := d.both("go-by", path); err != nil {
		return err
	}
	_, err := d.both("arrive")
	return err
}

// become waits until the ends are connected by a path.
func (d *durableLab) become(path string) error {
	a, b := d.ends[1], d.ends[0] // which can be reached through a relay in any case
	if _, err := a.ask("hold", b.id(), 1, "plain", echoProtocol); err != nil {
		return err
	}
	if _, err := a.ask("echo"); err != nil {
		return err
	}
	if err := d.upgrade(); err != nil {
		return err
	}
	if _, err := a.ask("path", b.id(), path); err != nil {
		return err
	}
	_, err := a.ask("release")
	return err
}

// upgrade has both ends look for a better path to the other.
func (d *durableLab) upgrade() error {
	for i, e := range d.ends {
		if _, err := e.ask("upgrade", d.ends[1-i].id()); err != nil {
			return err
		}
	}
	return nil
}

// stalls has something happen while streams flow, and adds for how long nothing came on
// one of them.
func (d *durableLab) stalls(ctx context.Context, f *figure, happen func() error) error {
	if _, err := d.both("mark"); err != nil {
		return err
	}
	if err := happen(); err != nil {
		return err
	}
	if err := wait(ctx, rowLinger); err != nil { // what was under way has come by then
		return err
	}
	if _, err := d.both("arrive"); err != nil {
		return err
	}
	if err := wait(ctx, rowLinger); err != nil { // or it stalls once more
		return err
	}
	texts, err := d.both("stall")
	if err != nil {
		return err
	}
	var most float64
	for _, text := range texts {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		most = max(most, ms)
	}
	f.Values = append(f.Values, most)
	return nil
}

// rowsAtOnce is how many laboratories wait at once for packetsAgain.
const (
	rowsAtOnce   = 5
	packetsAgain = 61 * time.Second
)

// relayToDirect has streams begin through a relay while there is no direct path. What was
// tried then counts as packets to an address of which nothing came, so that nodes do not
// try again before a minute has passed.
func relayToDirect(ctx context.Context, n *network, rounds int) ([]figure, error) {
	stall := figure{Name: "relay to direct under load: longest stall", Unit: "ms"}
	move := figure{Name: "relay to direct under load: from when there can be a direct path until all streams go by it", Unit: "ms"}
	for left := rounds; left > 0; left -= rowsAtOnce {
		if err := n.becomeDirect(ctx, min(left, rowsAtOnce), &stall, &move); err != nil {
			return []figure{stall, move}, err
		}
	}
	return []figure{stall, move}, nil
}

func (n *network) becomeDirect(ctx context.Context, count int, stall, move *figure) error {
	var labs []*durableLab
	defer func() {
		for _, d := range labs {
			d.close()
		}
	}()
	for range count {
		d, err := n.openRow(ctx, 2, "relay")
		if err != nil {
			return err
		}
		labs = append(labs, d)
	}
	if err := wait(ctx, packetsAgain); err != nil {
		return err
	}
	for _, d := range labs {
		if err := d.flowBy("relay"); err != nil {
			return err
		}
		err := d.stalls(ctx, stall, func() error {
			d.apart(false)
			began := time.Now()
			if err := d.upgrade(); err != nil {
				return err
			}
			_, err := d.both("go-by", "direct")
			if err == nil {
				move.addTime(time.Since(began))
			}
			return err
		})
		d.close()
		if err != nil {
			return err
		}
	}
	return n.lab.Err()
}

// withRow calls f in a laboratory in which streams flow by a path.
func (n *network) withRow(ctx context.Context, relays int, path string, f func(*durableLab) error) error {
	d, err := n.openRow(ctx, relays, path)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.flowBy(path); err != nil {
		return err
	}
	return errors.Join(f(d), n.lab.Err())
}

func linkDownRow(ctx context.Context, n *network, rounds int) ([]figure, error) {
	up := figure{Name: fmt.Sprintf("link down %v: from up until data on all streams, both ways", rowOutage), Unit: "ms"}
	err := n.withRow(ctx, 2, "direct", func(d *durableLab) error {
		for range rounds {
			if err := d.outage(ctx, &up); err != nil {
				return err
			}
		}
		return nil
	})
	return []figure{up}, err
}

func (d *durableLab) outage(ctx context.Context, f *figure) error {
	d.ends[0].host.Down()
	err := wait(ctx, rowOutage)
	done := make(chan error, 1)
	go func() {
		_, err := d.both("arrive")
		done <- err
	}()
	d.ends[0].host.Up()
	began := time.Now()
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	f.addTime(time.Since(began))
	return wait(ctx, 2*rowLinger)
}

// changeRow is how streams come through something that happens at once while they flow.
func changeRow(name string, happen func(*durableLab)) durableRow {
	return durableRow{name, func(ctx context.Context, n *network, rounds int) ([]figure, error) {
		stall := figure{Name: name + " while sending: longest stall", Unit: "ms"}
		err := n.withRow(ctx, 2, "direct", func(d *durableLab) error {
			for range rounds {
				if err := d.stalls(ctx, &stall, func() error { happen(d); return nil }); err != nil {
					return err
				}
			}
			return nil
		})
		return []figure{stall}, err
	}}
}

func relayRestarted(ctx context.Context, n *network, rounds int) ([]figure, error) {
	stall := figure{Name: "the only relay restarted while it carries: longest stall", Unit: "ms"}
	err := n.withRow(ctx, 1, "relay", func(d *durableLab) error {
		for range rounds {
			if err := d.stalls(ctx, &stall, func() error {
				d.relays[0].kill()
				return d.relays[0].start(ctx)
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return []figure{stall}, err
}

// manyMoved is measured by QUIC, which is what goes through holes in NATs, and by TCP.
func manyMoved(ctx context.Context, n *network, rounds int) ([]figure, error) {
	var all []figure
	var errs []error
	for _, by := range []struct {
		name  string
		homes [2][]lab.Kind
	}{{"TCP", onInternet}, {"QUIC", homeKinds}} {
		name := fmt.Sprintf("%d streams moved at once from a relay to %s: ", manyHeld, by.name)
		m := manyMove{
			first: figure{Name: name + "from when there can be a direct path until the first goes by it", Unit: "ms"},
			all:   figure{Name: name + "from the first until the last", Unit: "ms"},
			conns: figure{Name: name + "connections of one end, at most"},
			cpu:   figure{Name: name + "CPU of both ends", Unit: "ms"},
			again: figure{Name: name + "a byte there and back on each, afterwards", Unit: "ms"},
		}
		for range min(rounds, fewRounds) {
			d, err := n.openDurableLab(ctx, by.homes, 2)
			if err == nil {
				err = m.measure(d)
				d.close()
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("by %s: %w", by.name, err))
				break
			}
		}
		all = append(all, m.first, m.all, m.conns, m.cpu, m.again)
	}
	return all, errors.Join(errs...)
}

// A manyMove is what comes of moving many streams at once.
type manyMove struct{ first, all, conns, cpu, again figure }

func (m *manyMove) measure(d *durableLab) error {
	d.setDelay(networkDelay)
	d.apart(true)
	a, b := d.ends[1], d.ends[0]
	if _, err := a.ask("hold", b.id(), manyHeld, "durable", echoProtocol); err != nil {
		return err
	}
	if _, err := a.ask("echo"); err != nil {
		return err
	}
	before, err := d.cpu()
	if err != nil {
		return err
	}
	d.apart(false)
	if err := d.upgrade(); err != nil {
		return err
	}
	text, err := a.ask("moved", "direct")
	if err != nil {
		return err
	}
	var at [3]float64
	if _, err := fmt.Sscan(text, &at[0], &at[1], &at[2]); err != nil {
		return err
	}
	after, err := d.cpu()
	if err != nil {
		return err
	}
	text, err = a.ask("echo")
	if err != nil {
		return err
	}
	echo, err := strconv.ParseFloat(text, 64)
	m.first.Values = append(m.first.Values, at[0])
	m.all.Values = append(m.all.Values, at[1]-at[0])
	m.conns.Values = append(m.conns.Values, at[2])
	m.cpu.addTime(after - before)
	m.again.Values = append(m.again.Values, echo)
	return err
}

// cpu returns the CPU time of both ends.
func (d *durableLab) cpu() (sum time.Duration, err error) {
	for _, e := range d.ends {
		used, err := cpuOf(e.pid())
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}
