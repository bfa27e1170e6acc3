package main

import (
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// relayFlags say how much a node carries for members that can't reach each other.
type relayFlags struct {
	none  bool
	rate  uint32
	bytes uint64

	given *pflag.FlagSet
}

func (f *relayFlags) add(cmd *cobra.Command) {
	f.given = cmd.Flags()
	f.given.BoolVar(&f.none, "no-relay", false, "carry nothing for members that can't reach each other")
	f.given.Uint32Var(&f.rate, "relay-rate", 0, "bytes a second that one member may send through this node to others (default 128 MiB)")
	f.given.Uint64Var(&f.bytes, "relay-bytes", 0, "bytes a day that one member may send through this node to others (default: any number)")
}

// apply makes of the flags what package overlay wants.
func (f *relayFlags) apply(c *overlay.Config) error {
	for name, none := range map[string]bool{"relay-rate": f.rate == 0, "relay-bytes": f.bytes == 0} {
		switch {
		case f.given.Changed(name) && f.none:
			return usagef("--no-relay and --%s contradict each other", name)
		case f.given.Changed(name) && none:
			return usagef("--%s 0: to carry nothing, say --no-relay", name)
		}
	}
	c.Relay.Off, c.Relay.Rate, c.Relay.Bytes = f.none, int(f.rate), f.bytes
	return nil
}
