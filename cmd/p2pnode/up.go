package main

import (
	"fmt"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/spf13/cobra"
)

// upCommand founds a mesh or comes back to it.
func upCommand(e *env) *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run this node: found a mesh, or come back to the one joined before",
		Long: `Run this node in the foreground until interrupted. On a new directory this
founds a mesh, of which the node is the first member and the admin; otherwise it
comes back to the mesh that the directory belongs to.`,
		Example: `  p2pnode up
  p2pnode up --name alice --listen /ip4/0.0.0.0/tcp/4001`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.runNode(cmd.Context(), &flags, overlay.Open, e.offerInvite)
		},
	}
	flags.add(cmd)
	return cmd
}

// offerInvite prints the line with which another machine joins.
func (e *env) offerInvite(m *overlay.Mesh) error {
	if e.json || !m.Self().Roles.Has(credential.RoleAdmin) {
		return nil
	}
	inv, err := m.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "To join from another machine, until %s:\n\n  p2pnode join %s\n\n",
		inv.Grant().NotAfter.Local().Format("2 Jan 15:04"), inv.Text())
	return err
}
