package main

import (
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// idCommand prints the running node's peer ID.
func idCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Print this node's peer ID",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				n, err := c.Status(cmd.Context())
				if err != nil {
					return err
				}
				return e.print(struct {
					Version int    `json:"v"`
					ID      string `json:"id"`
					Name    string `json:"name"`
				}{control.Version, n.ID, n.Name}, "%s", n.ID)
			})
		},
	}
}
