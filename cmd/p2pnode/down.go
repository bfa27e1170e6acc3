package main

import (
	"context"
	"errors"
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
		Short: "End the running node",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				if err := c.Down(cmd.Context()); err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), downTimeout)
				defer cancel()
				return waitGone(ctx, c)
			})
		},
	}
}

// waitGone waits until the node answers no more.
func waitGone(ctx context.Context, c *control.Client) error {
	for {
		_, err := c.Status(ctx)
		if errors.Is(err, control.ErrNotRunning) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the node has not ended yet")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
