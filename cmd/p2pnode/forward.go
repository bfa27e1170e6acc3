package main

import (
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// forwardCommand ties a local socket to a service.
func forwardCommand(e *env) *cobra.Command {
	var flags streamFlags
	cmd := &cobra.Command{
		Use:   "forward ADDRESS TARGET",
		Short: "Reach a service at an address of this machine",
		Long: `Listen at an address of this machine, and tie what connects there to a service,
until the node ends or "p2pnode unforward". The address is a port (of 127.0.0.1;
0 takes a free one), HOST:PORT or unix:/PATH. The target is MEMBER/SERVICE, or
/SERVICE for the nearest member that offers it.

A connection through it outlives its path: when the network changes or fails, it
waits and goes on over another, and no byte is lost or repeated. With --plain it
breaks.`,
		Example: `  p2pnode forward 8080 alice/web
  p2pnode forward unix:/tmp/db.sock /db
  p2pnode forward 8080 alice/web --direct-only
  p2pnode forward 8080 alice/web --plain`,
		Args:              exactArgs(2),
		ValidArgsFunction: e.completeTarget(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			want := control.Forward{Listen: args[0], Target: args[1], Plain: flags.plain}
			if flags.directOnly {
				want.DirectOnly, want.WaitDirect = true, flags.waitDirect
			}
			return e.withNode(func(c *control.Client) error {
				f, err := c.ForwardAs(cmd.Context(), want)
				if err != nil {
					return err
				}
				return e.print(f, "forward %s to %s%s", f.Listen, f.Target, manner(f))
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// unforwardCommand ends a forward.
func unforwardCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "unforward ADDRESS",
		Short: "End the forward that listens at an address; connections that are open are reset",
		Example: `  p2pnode unforward 8080
  p2pnode unforward unix:/tmp/db.sock`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error { return c.Unforward(cmd.Context(), args[0]) })
		},
	}
}
