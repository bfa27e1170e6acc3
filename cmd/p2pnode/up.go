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
		Long: `Run this node in the foreground until interrupted, or with --background until
"p2pnode down". On a new directory this founds a mesh, of which the node is the first
member and the admin; otherwise it comes back to the mesh that the directory belongs
to.

Members on this machine are met with no network, by sockets in a directory, and
those elsewhere at addresses.`,
		Example: `  p2pnode up
  p2pnode up --name alice --listen /ip4/0.0.0.0/tcp/4001
  p2pnode up --background
  p2pnode up --config mesh.toml
  p2pnode up --local-only
  p2pnode up --local-dir /srv/mesh --local-user bob`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.back && !e.detached {
				return e.startBackground(cmd.Context())
			}
			offer := func(m *overlay.Mesh) error { return e.offerInvite(m, &flags) }
			return e.runNode(cmd.Context(), &flags, overlay.Open, offer)
		},
	}
	flags.add(cmd)
	return cmd
}

// offerInvite prints the line with which another machine joins, or this one if the
// node listens nowhere else.
func (e *env) offerInvite(m *overlay.Mesh, flags *nodeFlags) error {
	if e.json || !m.Self().Roles.Has(credential.RoleAdmin) {
		return nil
	}
	inv, err := m.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	where, in := "another machine", ""
	if flags.local.only {
		where = "this machine"
		if flags.local.dir != "" {
			in = " --local-dir " + flags.local.dir
		}
	}
	_, err = fmt.Fprintf(e.stderr, "To join from %s, until %s:\n\n  p2pnode join %s%s\n\n",
		where, inv.Grant().NotAfter.Local().Format("2 Jan 15:04"), inv.Text(), in)
	return err
}
