// Command measure takes the figures of docs/performance.md that are not of a
// forward's speed: how long a start takes, what a node holds in memory, and how
// many streams two nodes carry.
//
//	go run ./e2e/measure start
//	go run ./e2e/measure memory
//	go run ./e2e/measure streams
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
	if len(os.Args) > 1 && os.Args[1] == serveRole {
		if err := serveStreams(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	asJSON := pflag.Bool("json", false, "print a JSON object a line")
	rounds := pflag.Int("rounds", 20, "how often a start is measured")
	pflag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: measure [--json] [--rounds N] start|memory|streams")
		pflag.PrintDefaults()
	}
	pflag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	measures := map[string]func(context.Context, *site) ([]figure, error){
		"start": measureStart(*rounds), "memory": measureMemory, "streams": measureStreams,
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
	fmt.Printf("%-62s p50 %8.1f  p95 %8.1f  max %8.1f %s  (n=%d)\n",
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
