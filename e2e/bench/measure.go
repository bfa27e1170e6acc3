package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const gib = 1 << 30

// measureAll carries out the plan with CUBIC, where that may be set. It logs its
// progress.
func measureAll(ctx context.Context, p plan, log io.Writer) (_ *report, err error) {
	c, restore := useCubic(congestionFile)
	defer func() { err = errors.Join(err, restore()) }()
	return measureWays(ctx, p, thisMachine(c), log)
}

// measureWays brings up the ways of the plan, measures them round by round, and
// takes them down again, also when ctx ends.
func measureWays(ctx context.Context, p plan, m machine, log io.Writer) (*report, error) {
	r := &report{Version: reportVersion, Date: time.Now(), Machine: m, Plan: p}
	at, gone, err := openPlaces(ctx, p.Apart)
	if err != nil {
		return nil, err
	}
	defer gone()
	sites := make(map[*result]*site)
	defer func() {
		for _, s := range sites {
			s.stop()
		}
	}()
	for _, name := range p.Only {
		fmt.Fprintf(log, "bring up %s\n", name)
		w, _ := wayNamed(name)
		res, s := open(ctx, w, at)
		if s != nil {
			sites[res] = s
		}
		r.Ways = append(r.Ways, res)
	}
	for n := range p.Rounds {
		fmt.Fprintf(log, "round %d of %d\n", n+1, p.Rounds)
		r.round(ctx, sites)
	}
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	r.summarize()
	return r, nil
}

// open brings up a way. The site is nil if that can't be done.
func open(ctx context.Context, w way, at places) (*result, *site) {
	res := &result{Name: w.name()}
	s, err := openSite(ctx, w, at)
	var why skip
	switch {
	case errors.As(err, &why):
		res.Skipped = string(why)
	case err != nil:
		res.Err = err.Error()
	}
	return res, s
}

// round measures each way that is up once. A way with a fault is taken down.
func (r *report) round(ctx context.Context, sites map[*result]*site) {
	for _, w := range r.Ways {
		s := sites[w]
		if s == nil {
			continue
		}
		f, err := s.measure(ctx, r.Plan)
		if err != nil {
			w.Err = err.Error()
			s.stop()
			delete(sites, w)
			continue
		}
		w.Rounds = append(w.Rounds, f)
		w.notePath(ctx, s)
	}
}

// notePath takes down by which path the round went.
func (w *result) notePath(ctx context.Context, s *site) {
	if s.path == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	p, err := s.path(ctx)
	if err != nil || p == "" {
		p = "unknown" // which is no reason to lose the figures
	}
	if !slices.Contains(w.Paths, p) {
		w.Paths = append(w.Paths, p)
	}
}

// measure takes all figures once.
func (s *site) measure(ctx context.Context, p plan) (figures, error) {
	f := make(figures)
	if err := s.measureBulk(ctx, p, f); err != nil {
		return nil, fmt.Errorf("bulk: %w", err)
	}
	r, err := s.ask(ctx, request{Op: "trips", Trips: p.Trips, Time: p.Time})
	if err != nil {
		return nil, fmt.Errorf("round trips: %w", err)
	}
	f["rtt_p50_us"], f["rtt_p99_us"] = micros(r.P50), micros(r.P99)
	one, err := s.connect(ctx, p, 1)
	if err != nil {
		return nil, err
	}
	many, err := s.connect(ctx, p, 64)
	if err != nil {
		return nil, err
	}
	f["open_p50_us"] = micros(one.P50)
	f["conns_s"], f["conns_s_64"] = one.rate(), many.rate()
	return f, nil
}

// measureBulk puts speed and cost of one transfer into f.
func (s *site) measureBulk(ctx context.Context, p plan, f figures) error {
	before, _ := s.cpu()
	r, err := s.ask(ctx, request{Op: "bulk", Bytes: p.BulkBytes, Time: p.BulkTime})
	if err != nil {
		return err
	}
	if after, err := s.cpu(); err == nil {
		f["cpu_s_per_gib"] = (after - before) / (float64(r.Bytes) / gib)
	}
	f["gbit_s"] = float64(r.Bytes) * 8 / 1e9 / r.Took.Seconds()
	return nil
}

// connect has the client make connections.
func (s *site) connect(ctx context.Context, p plan, atOnce int) (reply, error) {
	r, err := s.ask(ctx, request{Op: "conns", AtOnce: atOnce, Conns: p.Conns, Time: p.Time})
	if err != nil {
		return reply{}, fmt.Errorf("connections, %d at once: %w", atOnce, err)
	}
	return r, nil
}

// rate returns how many connections were made in a second.
func (r reply) rate() float64 { return float64(r.Conns) / r.Took.Seconds() }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
