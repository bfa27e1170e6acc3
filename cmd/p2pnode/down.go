package main

import (
	"context"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// downTimeout is how long a node may take to end.
const downTimeout = 10 * time.Second

// downCommand ends the running node.
func downCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the running node, and wait until it has let go of its directory",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := e.directory()
			if err != nil {
				return err
			}
			return e.end("node", dir, func(c *control.Client) error {
				ctx, cancel := context.WithTimeout(cmd.Context(), downTimeout)
				defer cancel()
				return c.Down(ctx)
			})
		},
	}
}
