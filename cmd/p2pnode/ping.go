package main

import (
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
		Use:               "ping MEMBER",
		Short:             "Measure the round trip to a member, and the path it takes",
		Args:              exactArgs(1),
		ValidArgsFunction: e.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				for i := 0; count == 0 || i < count; i++ {
					if i > 0 {
						select {
						case <-cmd.Context().Done():
							return nil
						case <-time.After(pingInterval):
						}
					}
					pong, err := c.Ping(cmd.Context(), args[0])
					if err != nil {
						return err
					}
					if err := e.print(pong, "%s via %s in %.3f ms", pong.Member, pong.Path, pong.RTT); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 4, "number of pings; 0 goes on until interrupted")
	return cmd
}
