package main

import (
	"fmt"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// exposeCommand offers a local socket to the mesh as a service.
func exposeCommand(e *env) *cobra.Command {
	var allow []string
	cmd := &cobra.Command{
		Use:   "expose SERVICE ADDRESS",
		Short: "Offer what listens at an address of this machine to the mesh",
		Long: `Offer what listens at an address of this machine to the mesh, as a service,
until the node ends or "p2pnode unexpose". The address is a port (of 127.0.0.1),
HOST:PORT or unix:/PATH. It is for everyone in the mesh unless --allow says for
whom; "p2pnode allow" and "p2pnode deny" change that.

` + whoHelp,
		Example: `  p2pnode expose web 3000
  p2pnode expose admin 9000 --allow alice,role:admin
  p2pnode expose db unix:/run/postgresql/.s.PGSQL.5432`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("allow") && len(allow) == 0 {
				return usagef("--allow is empty")
			}
			if err := checkRules(allow); err != nil {
				return usagef("--allow: %w", err)
			}
			return e.withNode(func(c *control.Client) error {
				x, err := c.Expose(cmd.Context(), args[0], args[1], allow...)
				if err != nil {
					return err
				}
				return e.print(x, "%s", exposedText(x, len(allow) > 0))
			})
		},
	}
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "whom it is for, as alice,role:admin (default: everyone)")
	return cmd
}

func exposedText(x control.Exposed, forSome bool) string {
	text := fmt.Sprintf("exposed %s at %s", x.Service, x.Target)
	if forSome {
		text += " for " + ruleTexts(x.Allow, "nobody") + noteTexts(x.Allow)
	}
	return text
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
