package main

import (
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// exposeCommand offers a local socket to the mesh as a service.
func exposeCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "expose SERVICE ADDRESS",
		Short: "Offer what listens at an address of this machine to the mesh",
		Long: `Offer what listens at an address of this machine to the mesh, as a service,
until the node ends or "p2pnode unexpose". The address is a port (of 127.0.0.1),
HOST:PORT or unix:/PATH.`,
		Example: `  p2pnode expose web 3000
  p2pnode expose db unix:/run/postgresql/.s.PGSQL.5432`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				x, err := c.Expose(cmd.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				return e.print(x, "exposed %s at %s", x.Service, x.Target)
			})
		},
	}
}

// unexposeCommand withdraws a service.
func unexposeCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "unexpose SERVICE",
		Short:   "Withdraw a service; streams that are open are reset",
		Example: `  p2pnode unexpose web`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error { return c.Unexpose(cmd.Context(), args[0]) })
		},
	}
}
