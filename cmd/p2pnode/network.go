package main

import (
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
)

// noLANVariable stands for --no-lan, for tests and for machines where multicast is
// not wanted at all.
const noLANVariable = "P2PNODE_NO_LAN"

// networkFlags say how a node meets members by the network.
type networkFlags struct {
	noLAN, noPortMapping bool
}

func (f *networkFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noLAN, "no-lan", false, "do not look for members on the local network, nor say there that this node is up (default: whether $"+noLANVariable+" is set)")
	cmd.Flags().BoolVar(&f.noPortMapping, "no-port-mapping", false, "do not ask the router to let members in")
}

// apply makes of the flags what package overlay wants.
func (f *networkFlags) apply(e *env, c *overlay.Config) {
	c.NoLAN = f.noLAN || e.getenv(noLANVariable) != ""
	c.NoPortMapping = f.noPortMapping
}
