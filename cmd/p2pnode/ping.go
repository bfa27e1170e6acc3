package main

import (
	"context"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// pingInterval is the time between two pings, as everywhere.
const pingInterval = time.Second

// pingCommand measures the round trip to a member, and says by which path.
func pingCommand(e *env) *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "ping MEMBER",
		Short: "Measure the round trip to a member, and the path it takes",
		Example: `  p2pnode ping alice
  p2pnode ping -n 1 12D3KooWL67WCM2Fb2dFLhuUGSV3oQ2GR7FXPVpfgZ1bqGBmyWmP`,
		Args:              exactArgs(1),
		ValidArgsFunction: e.completeMember,
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return usagef("--count %d: less than none", count)
			}
			return e.withNode(func(c *control.Client) error { return e.ping(cmd.Context(), c, args[0], count) })
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 4, "number of pings; 0 goes on until interrupted")
	return cmd
}

// ping goes on until it has count answers, or is interrupted after some.
func (e *env) ping(ctx context.Context, c *control.Client, member string, count int) error {
	for i := 0; count == 0 || i < count; i++ {
		if i > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pingInterval):
			}
		}
		pong, err := c.Ping(ctx, member)
		if err != nil && i > 0 && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := e.print(pong, "%s via %s in %.3f ms", pong.Member, pong.Path, pong.RTT); err != nil {
			return err
		}
	}
	return nil
}
