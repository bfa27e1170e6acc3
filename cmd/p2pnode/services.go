package main

import (
	"cmp"
	"io"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// servicesCommand lists what can be used.
func servicesCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "services",
		Short: "List the services that this node offers, and those of others that it may use",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				s, err := c.Services(cmd.Context())
				if err != nil {
					return err
				}
				if e.json {
					return e.print(s, "")
				}
				for _, u := range s.Unasked {
					e.warn(u.Member + " does not tell: " + u.Error)
				}
				return writeServices(e.stdout, s.Offered)
			})
		},
	}
}

func writeServices(w io.Writer, offered []control.Offered) error {
	t := newTable(w)
	t.row("SERVICE", "KIND", "MEMBER", "ID")
	for _, o := range offered {
		member := o.Member
		if o.Self {
			member += ", this node"
		}
		t.row(o.Member+"/"+offerName(o.Offer), o.Kind, member, o.ID)
	}
	return t.flush()
}

// offerName returns the name of a service, or which ports there are.
func offerName(o control.Offer) string { return cmp.Or(o.Ports, o.Service) }
