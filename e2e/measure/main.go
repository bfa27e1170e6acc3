// Command measure takes the figures of docs/performance.md that are not of a
// forward's speed: how long a start takes, what a node holds in memory, how many
// streams two nodes carry, what admission adds to a connection, and what nodes of
// one machine cost each other.
//
//	go run ./e2e/measure start
//	go run ./e2e/measure memory
//	go run ./e2e/measure streams
//	go run ./e2e/measure admission
//	go run ./e2e/measure network
//	go run ./e2e/measure network-faults
//	go run ./e2e/measure network-hard
//	go run ./e2e/measure network-lan
//	go run ./e2e/measure network-relay
//	go run ./e2e/measure network-long
//	go run ./e2e/measure network-circuits
//	go run ./e2e/measure network-crowd 20
//	go run ./e2e/measure network-loss
//	go run ./e2e/measure network-hole
//	go run ./e2e/measure durable-soak --for 1h
//	go run ./e2e/measure durable-rows
//	go run ./e2e/measure durable-cost
//	go run ./e2e/measure local
//	go run ./e2e/measure local-start
//	go run ./e2e/measure local-peers 40
//	go run ./e2e/measure local-streams
//	go run ./e2e/measure local-many 20
//	go run ./e2e/measure services-open 10000
//	go run ./e2e/measure services-slow
//
// Admission is measured as a connection with it less one without: the round
// trips, of the times to connect over a proxy that holds all bytes up for 20 ms,
// and the CPU time that two processes have used at their end, for each of 500
// connections.
//
// All of network is measured in the laboratory of package lab, on Linux as root:
//
//   - network: pairs of nodes behind NATs of each kind, those whose name has a given
//     text in it: how long until the second has an answer of the first, and until the
//     best path that the two NATs allow. With --ordered each pair in both orders.
//   - network-faults: how long a new stream takes to work after something has happened
//     to one of two nodes.
//   - network-hard: as network, with loss, a hole for long packets, useless addresses,
//     and a router that maps ports.
//   - network-lan: how long two nodes of one local network that do not look for each
//     other there take to leave the relay they meet through, and what goes through it
//     before and after.
//   - network-relay: bulk through a relay, beside bulk by TCP between nodes that need
//     none.
//   - network-long: bulk through a forward between two nodes over a long fast link, and
//     over one that loses packets, beside a plain TCP connection with the system's
//     congestion control.
//   - network-circuits: what a thousand circuits cost a relay.
//   - network-crowd: that many nodes (200) of package p2p behind one public address:
//     how long until all are connected to the one relay that there is and have it
//     relay to them, and the same when their address changes.
//   - network-loss: 50 handshakes of nodes, and 50 joins, where 30 % of all packets
//     are lost each way.
//   - network-hole: how long an answer and 10 MB take where packets that are longer
//     than a number of bytes vanish.
//
// All of durable is measured there too, on nodes of package p2p:
//
//   - durable-soak: two nodes and two relays, and streams both ways between the two,
//     of numbered and hashed blocks that follow from --seed, as do the faults that
//     happen meanwhile, for as long as --for says: links that are down or lose packets,
//     nodes that are stopped, relays that are killed, NATs that forget, other addresses
//     and other networks. Then streams are closed, one side after the other. It fails
//     if a reader did not get all that was written, once and in order. With --tags the
//     nodes are built with build tags, to see that one which is wrong is found out.
//   - durable-rows: how long nothing comes while a path gets better, breaks or comes
//     back; what a thousand streams cost that move at once, are idle, or stall; and
//     when it is known that a peer is gone. Those whose name has a given text in it.
//   - durable-cost: durable streams and plain ones in turns, where nothing goes wrong.
//
// All of local is measured on Linux only:
//
//   - local-start: the time from the start of a second process until it is ready
//     and has found the first, where the machine has a network and in a network
//     namespace in which no interface is up; and the time from when its socket is
//     in the directory where nodes of one machine meet until the first has it up.
//   - local-peers: the memory of a node with 10 peers and with 30, which are in
//     other processes, for nodes of package p2p and of package overlay, after a
//     collection of garbage. A node on this machine keeps no more connections than
//     that. The nodes of package overlay are one mesh: of it the memory is also
//     taken with that many members (110), of whom some are connected.
//   - local-streams: the memory of two processes and of the kernel for each of
//     5,000 streams between them that nobody uses. The kernel's slab is of the whole
//     machine: what else runs is in it. Three values; in the first is also what is
//     kept for later.
//   - local-many: that many processes of one mesh (200), started one after the
//     other, each told of the first alone. A process has found all when its roster
//     has all up. They are asked one after the other, so that the figure is at most
//     some hundredths of a second too large. Memory and connections are looked at
//     after the idle time.
//
// All of services is measured between two p2pnode processes of one machine, that meet
// by unix sockets and then by the network, and on Linux only:
//
//   - services-open: what that many connections (10,000) through 100 forwards cost the
//     two nodes while they are idle, and how many were refused. By a unix socket the
//     node that forwards has two files open for each.
//   - services-slow: what a connection that reads as fast as it can gets alone, and
//     beside 16 that read 1 byte a second, and the memory that these take.
//
// The nodes are processes of their own. Everything is gone at the end; should this
// program be killed, its processes end too and a directory stays. A figure is
// printed with its median, its 95th percentile and its maximum, as JSON with
// --json. Nothing is judged but what streams bring in durable-soak: a slow machine
// gives large figures, not a failure. For what can't be had there is the reason in
// place of a figure.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
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
	o, args := options{}, pflag.CommandLine
	asJSON := args.Bool("json", false, "print a JSON object a line")
	args.IntVar(&o.rounds, "rounds", 20, "how often a start or a connection is measured")
	args.DurationVar(&o.settle, "settle", time.Minute, "how long local-peers and local-many wait before they look at what is idle")
	args.DurationVar(&o.idle, "idle", time.Minute, "over how long local-many sums CPU time")
	logs := args.String("logs", "", "a directory in which to leave what the nodes of network say")
	args.BoolVar(&o.ordered, "ordered", false, "have network measure each pair in both orders")
	args.DurationVar(&o.soak.long, "for", 10*time.Minute, "how long durable-soak has faults happen")
	args.Uint64Var(&o.soak.seed, "seed", uint64(time.Now().Unix()), "what the faults and the bytes of durable-soak follow from")
	args.IntVar(&o.soak.rate, "rate", 2<<20, "how many bytes a second each end of durable-soak sends on the streams that it dialed; 0 opens none")
	args.StringVar(&o.soak.tags, "tags", "", "build tags of the nodes of durable-soak")
	brisk := args.Bool("brisk", false, "have durable-soak's faults come faster and last shorter")
	args.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: measure [flags] start|memory|streams|admission|network[-lan|-relay|-long|-circuits|-loss|-hole|-hard|-faults] [name]|network-crowd [how many]|durable-soak|durable-rows [name]|durable-cost|local|"+strings.Join(localNames, "|")+"|services-open [how many]|services-slow")
		args.PrintDefaults()
	}
	pflag.Parse()
	o.soak.delay, o.soak.pace, o.soak.log = soakDelay, usualPace, os.Stderr
	if *brisk {
		o.soak.pace = briskPace
	}
	measures, err := o.chosen(pflag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		args.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	for _, measure := range measures {
		if err := run(ctx, measure, *logs, *asJSON); err != nil {
			fmt.Fprintln(os.Stderr, "measure:", err)
			os.Exit(1)
		}
	}
}

// A measurement takes figures. Those that it has are returned with an error too.
type measurement func(context.Context, *site) ([]figure, error)

// options are what the flags say.
type options struct {
	rounds       int
	settle, idle time.Duration
	ordered      bool
	soak         soak
}

// localNames are the parts of local, in the order in which it takes them.
var localNames = []string{"local-start", "local-peers", "local-streams", "local-many"}

// chosen returns what the arguments name.
func (o options) chosen(args []string) ([]measurement, error) {
	if len(args) == 0 {
		return nil, errors.New("nothing to measure is named")
	}
	peers, processes, members, connections := 110, 200, 200, manyConnections
	var filter string
	if (strings.HasPrefix(args[0], "network") || args[0] == "durable-rows") && args[0] != "network-crowd" && len(args) == 2 {
		filter, args = args[1], args[:1]
	}
	count, above := map[string]*int{"local-peers": &peers, "local-many": &processes, "network-crowd": &members, "services-open": &connections}[args[0]], 1
	switch count {
	case &peers:
		above = heldLocalPeers
	case &members:
		above = crowdProcesses - 1
	}
	switch {
	case len(args) == 2 && count != nil:
		var err error
		if *count, err = strconv.Atoi(args[1]); err != nil || *count <= above {
			return nil, fmt.Errorf("%s %q: want a number above %d", args[0], args[1], above)
		}
	case len(args) > 1:
		return nil, fmt.Errorf("arguments %q: want one", args)
	}
	if o.rounds < 1 || o.settle < 0 || o.idle <= 0 {
		return nil, errors.New("--rounds and --idle must be above 0, and --settle not below")
	}
	named := map[string]measurement{
		"start": measureStart(o.rounds), "memory": measureMemory, "streams": measureStreams,
		"admission":        measureAdmission(o.rounds, admissions),
		"network":          measureNetwork(o.rounds, filter, o.ordered),
		"network-lan":      measureNetworkLAN(o.rounds, filter),
		"network-relay":    measureNetworkRelay(o.rounds, filter),
		"network-long":     measureNetworkLong(o.rounds),
		"network-circuits": inNetwork(circuitCost),
		"network-crowd":    measureNetworkCrowd(members),
		"network-loss":     inNetwork(measureNetworkLoss),
		"network-hole":     inNetwork(measureNetworkHole),
		"network-hard":     measureHard(o.rounds, filter),
		"network-faults":   measureFaults(o.rounds, filter),
		"durable-soak":     o.soak.measure,
		"durable-rows":     measureDurableRows(o.rounds, filter),
		"durable-cost":     durableCost(o.rounds),
		"local-start":      measureLocalStart(o.rounds),
		"local-peers":      measureLocalPeers(peering{few: fewLocalPeers, held: heldLocalPeers, many: peers, processes: 4, settle: o.settle}),
		"local-streams":    measureLocalStreams(manyStreams),
		"local-many":       measureLocalMany(crowd{processes, o.settle, o.idle}),
		"services-open":    measureServicesOpen(connections),
		"services-slow":    measureServicesSlow(o.rounds),
	}
	names := args[:1]
	if args[0] == "local" {
		names = localNames
	}
	var out []measurement
	for _, name := range names {
		measure := named[name]
		if measure == nil {
			return nil, fmt.Errorf("no measurement %q", name)
		}
		out = append(out, measure)
	}
	return out, nil
}

// roleOf returns what this program is to do as another process of a measurement,
// or nil.
func roleOf(args []string) func() error {
	if len(args) < 2 {
		return nil
	}
	switch role, args := args[1], args[2:]; {
	case role == serveRole:
		return serveStreams
	case role == admissionRole && len(args) > 0:
		return func() error { return admissionEnd(args) }
	case role == networkNodesRole:
		return networkNodesOrders
	case role == durableRole:
		return durableOrders
	case role == serviceRole:
		return servers
	case role == localNodeRole && len(args) == 2:
		return func() error { return localNodesRole(args) }
	case role == localStartRole && len(args) == 3:
		return func() error { return localStartsRole(args) }
	}
	return nil
}

func run(ctx context.Context, measure measurement, logs string, asJSON bool) error {
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	s.logs = logs
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
	Note   string    `json:"note,omitempty"` // by which path, or why there are no more values
}

func (f *figure) addTime(d time.Duration) {
	f.Values = append(f.Values, float64(d.Microseconds())/1000)
}

func (f figure) print(asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(f)
		return
	}
	line := fmt.Sprintf("%-72s", f.Name)
	if n := len(f.Values); n > 0 {
		line += fmt.Sprintf(" p50 %8.2f  p95 %8.2f  max %8.2f %s  (n=%d)", f.percentile(50), f.percentile(95), f.percentile(100), f.Unit, n)
	}
	if f.Note != "" {
		line += "  " + f.Note
	}
	fmt.Println(line)
}

// percentile returns the smallest value that p in a hundred do not exceed.
func (f figure) percentile(p int) float64 {
	if len(f.Values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(f.Values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
