package main

import (
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// inviteCommand prints a text that lets others join.
func inviteCommand(e *env) *cobra.Command {
	var o control.InviteOptions
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Print an invite: a text that lets its holders join the mesh",
		Long: `Print an invite. Whoever has the text can join the mesh with it, any number of
nodes, until it expires. Only an admin can invite.`,
		Example: `  p2pnode invite
  p2pnode invite --expires 1h --name bob`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Expires < time.Second {
				return usagef("--expires %v: an invite needs some time", o.Expires)
			}
			return e.withNode(func(c *control.Client) error {
				inv, err := c.Invite(cmd.Context(), o)
				if err != nil {
					return err
				}
				return e.print(inv, "%s", inv.Invite)
			})
		},
	}
	cmd.Flags().DurationVar(&o.Expires, "expires", 24*time.Hour, "how long it can be used")
	cmd.Flags().StringVar(&o.Roles, "role", "", "roles of those who join by it, as member,relay or admin (default: member,relay)")
	cmd.Flags().StringVar(&o.Name, "name", "", "the name of who joins by it (default: they choose)")
	return cmd
}
