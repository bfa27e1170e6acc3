// Command measure takes the figures of docs/performance.md that are not of a
// forward's speed: how long a start takes, what a node holds in memory, how many
// streams two nodes carry, and what admission adds to a connection.
//
//	go run ./e2e/measure start
//	go run ./e2e/measure memory
//	go run ./e2e/measure streams
//	go run ./e2e/measure admission
//
// Admission is measured as a connection with it less one without: the round
// trips, of the times to connect over a proxy that holds all bytes up for 20 ms,
// and the CPU time that two processes have used at their end, for each of 500
// connections.
//
// The nodes are processes of their own. Everything is gone at the end. A figure
// is printed with its median, its 95th percentile and its maximum, as JSON with
// --json. Nothing is judged: a slow machine gives large figures, not a failure.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

func main() {
	if role := roleOf(os.Args); role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	asJSON := pflag.Bool("json", false, "print a JSON object a line")
	rounds := pflag.Int("rounds", 20, "how often a start or a connection is measured")
	pflag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: measure [--json] [--rounds N] start|memory|streams|admission")
		pflag.PrintDefaults()
	}
	pflag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	measures := map[string]func(context.Context, *site) ([]figure, error){
		"start": measureStart(*rounds), "memory": measureMemory, "streams": measureStreams,
		"admission": measureAdmission(*rounds, admissions),
	}
	measure := measures[pflag.Arg(0)]
	if measure == nil || pflag.NArg() != 1 {
		pflag.Usage()
		os.Exit(2)
	}
	if err := run(ctx, measure, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

// roleOf returns what this program is to do as another process of a measurement,
// or nil.
func roleOf(args []string) func() error {
	switch {
	case len(args) > 1 && args[1] == serveRole:
		return serveStreams
	case len(args) > 2 && args[1] == admissionRole:
		return func() error { return admissionEnd(args[2:]) }
	}
	return nil
}

func run(ctx context.Context, measure func(context.Context, *site) ([]figure, error), asJSON bool) error {
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	figures, err := measure(ctx, s)
	for _, f := range figures {
		f.print(asJSON)
	}
	return err
}

// A figure is something measured several times.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
}

func (f *figure) addTime(d time.Duration) {
	f.Values = append(f.Values, float64(d.Microseconds())/1000)
}

func (f figure) print(asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(f)
		return
	}
	fmt.Printf("%-62s p50 %8.2f  p95 %8.2f  max %8.2f %s  (n=%d)\n",
		f.Name, f.percentile(50), f.percentile(95), f.percentile(100), f.Unit, len(f.Values))
}

// percentile returns the smallest value that p in a hundred do not exceed.
func (f figure) percentile(p int) float64 {
	if len(f.Values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(f.Values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
