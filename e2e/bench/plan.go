package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/pflag"
)

// A plan says what to measure and for how long.
type plan struct {
	Only      []string      `json:"only"`       // names of ways, in the order in which to measure
	Apart     bool          `json:"apart"`      // client and server are on two machines
	Rounds    int           `json:"rounds"`     // how often each way is measured
	BulkBytes int64         `json:"bulk_bytes"` // a bulk transfer ends here,
	BulkTime  time.Duration `json:"bulk_ns"`    // or then
	Trips     int           `json:"trips"`      // round trips end here, or after Time
	Conns     int           `json:"conns"`      // each count of connections ends here, or after Time
	Time      time.Duration `json:"time_ns"`    // bound of each of the other measurements
}

// With fewer bytes than 2 GiB the steps of the kernel's CPU clock would show in
// the figures of the fastest ways. With more than 4000 connections the ports of
// those just closed, which the kernel keeps for a second, would run short, and
// the search for a free one would slow the fastest ways down to half.
var (
	fullPlan  = plan{Rounds: 5, BulkBytes: 2 << 30, BulkTime: 2 * time.Second, Trips: 5000, Conns: 4000, Time: time.Second}
	quickPlan = plan{Rounds: 2, BulkBytes: 1 << 30, BulkTime: 600 * time.Millisecond, Trips: 2000, Conns: 4000, Time: 300 * time.Millisecond}
)

// parseFlags returns the plan that args ask for and the name of the JSON file,
// empty if none is wanted. Help goes to stderr.
func parseFlags(args []string, stderr io.Writer) (plan, string, error) {
	var (
		p        = fullPlan
		jsonFile string
		quick    bool
	)
	fs := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.SortFlags = false
	fs.StringSliceVar(&p.Only, "only", wayNames(), "ways to measure")
	fs.BoolVar(&p.Apart, "apart", false, "have client and server in network namespaces of their own (Linux, as root)")
	fs.BoolVar(&quick, "quick", false, "lower the bounds below, for a rough look in under 40 seconds")
	fs.StringVar(&jsonFile, "json", "", "file to write all figures to, as JSON")
	fs.IntVar(&p.Rounds, "rounds", p.Rounds, "how often to measure each way")
	fs.Int64Var(&p.BulkBytes, "bulk-bytes", p.BulkBytes, "end a bulk transfer after so many bytes")
	fs.DurationVar(&p.BulkTime, "bulk-time", p.BulkTime, "end a bulk transfer after so long")
	fs.IntVar(&p.Trips, "trips", p.Trips, "end the round trips after so many")
	fs.IntVar(&p.Conns, "conns", p.Conns, "end each count of connections after so many")
	fs.DurationVar(&p.Time, "time", p.Time, "end round trips, and each count of connections, after so long")
	if err := fs.Parse(args); err != nil {
		return plan{}, "", err
	}
	if fs.NArg() > 0 {
		return plan{}, "", fmt.Errorf("arguments %q: want none", fs.Args())
	}
	if quick {
		p = p.lowered(fs.Changed)
	}
	return p, jsonFile, p.check()
}

// lowered returns p with the bounds of quickPlan, save for those that were set.
func (p plan) lowered(set func(flag string) bool) plan {
	q := quickPlan
	q.Only, q.Apart = p.Only, p.Apart
	if set("rounds") {
		q.Rounds = p.Rounds
	}
	if set("bulk-bytes") {
		q.BulkBytes = p.BulkBytes
	}
	if set("bulk-time") {
		q.BulkTime = p.BulkTime
	}
	if set("trips") {
		q.Trips = p.Trips
	}
	if set("conns") {
		q.Conns = p.Conns
	}
	if set("time") {
		q.Time = p.Time
	}
	return q
}

func (p plan) check() error {
	var errs []error
	if p.Rounds < 1 || p.Trips < 1 || p.Conns < 1 || p.BulkBytes < 1 || p.BulkTime <= 0 || p.Time <= 0 {
		errs = append(errs, errors.New("--rounds, --trips, --conns, --bulk-bytes, --bulk-time and --time must be above 0"))
	}
	if len(p.Only) == 0 {
		errs = append(errs, errors.New("--only names no way"))
	}
	for i, name := range p.Only {
		if _, ok := wayNamed(name); !ok {
			errs = append(errs, fmt.Errorf("--only: no way %q; there are %q", name, wayNames()))
		}
		if slices.Contains(p.Only[:i], name) {
			errs = append(errs, fmt.Errorf("--only names %q twice", name))
		}
	}
	return errors.Join(errs...)
}
