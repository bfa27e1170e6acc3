package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/spf13/cobra"
)

// inviteCommand prints a text that lets others join.
func inviteCommand(e *env) *cobra.Command {
	var o control.InviteOptions
	var asQR bool
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Print an invite: a text that lets its holders join the mesh",
		Long: `Print an invite. Whoever has the text can join the mesh with it, until it
expires: any number of nodes, or as many as --uses says. An admin has to be up
when a counted invite is used. Only an admin can invite.`,
		Example: `  p2pnode invite
  p2pnode invite --expires 1h --uses 1 --name bob
  p2pnode invite --service web,db --qr`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkInvite(cmd, o); err != nil {
				return err
			}
			return e.withNode(func(c *control.Client) error {
				inv, err := c.Invite(cmd.Context(), o)
				if err != nil {
					return err
				}
				return e.printInvite(inv, asQR)
			})
		},
	}
	cmd.Flags().DurationVar(&o.Expires, "expires", 24*time.Hour, "how long it can be used")
	cmd.Flags().StringVar(&o.Roles, "role", "", "roles of those who join by it, as member,relay or admin (default: member,relay)")
	cmd.Flags().StringVar(&o.Name, "name", "", "the name of who joins by it (default: they choose)")
	cmd.Flags().IntVar(&o.Uses, "uses", 0, "how many can join by it (default: any number)")
	cmd.Flags().StringSliceVar(&o.Services, "service", nil, "the only services that those who join by it may use, as web,db (default: all)")
	cmd.Flags().BoolVar(&asQR, "qr", false, "print it as a QR code too")
	cmd.AddCommand(inviteListCommand(e), inviteRevokeCommand(e))
	return cmd
}

// checkInvite refuses flags that make no sense.
func checkInvite(cmd *cobra.Command, o control.InviteOptions) error {
	if o.Expires < time.Second {
		return usagef("--expires %v: an invite needs some time", o.Expires)
	}
	if cmd.Flags().Changed("uses") && (o.Uses < 1 || o.Uses > credential.MaxUses) {
		return usagef("--uses %d: not 1 to %d; without it any number can join", o.Uses, credential.MaxUses)
	}
	if cmd.Flags().Changed("service") && (len(o.Services) < 1 || len(o.Services) > credential.MaxServices) {
		return usagef("--service has %d services, not 1 to %d", len(o.Services), credential.MaxServices)
	}
	for _, service := range o.Services {
		if err := credential.CheckName(service); err != nil {
			return usagef("--service: %w", err)
		}
	}
	return nil
}

func (e *env) printInvite(inv control.Invite, asQR bool) error {
	if err := e.print(inv, "%s", inv.Invite); err != nil || !asQR || e.json {
		return err
	}
	return writeQR(e.stdout, inv.Invite)
}

// inviteListCommand lists the invites that this node made.
func inviteListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the invites that this node made, without the texts",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				list, err := c.Invites(cmd.Context())
				if err != nil {
					return err
				}
				if e.json {
					return printEach(e, list)
				}
				return writeInvites(e.stdout, list)
			})
		},
	}
}

func writeInvites(w io.Writer, list []control.InviteInfo) error {
	t := newTable(w)
	t.row("ID", "NAME", "ROLES", "SERVICES", "USES", "EXPIRES", "STATE")
	for _, inv := range list {
		state := strings.ReplaceAll(string(inv.State), "-", " ")
		t.row(inv.ID, orDash(inv.Name), inv.Roles, orAll(inv.Services), uses(inv), inv.Expires.Local().Format(time.DateTime), state)
	}
	return t.flush()
}

func uses(inv control.InviteInfo) string {
	if inv.Uses == 0 {
		return fmt.Sprintf("%d, any number", len(inv.Used))
	}
	return fmt.Sprintf("%d of %d", len(inv.Used), inv.Uses)
}

func orAll(services []string) string {
	if len(services) == 0 {
		return "all"
	}
	return strings.Join(services, ",")
}

// inviteRevokeCommand makes an invite useless.
func inviteRevokeCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "Make an invite useless; those who joined by it stay",
		Example: `  p2pnode invite revoke mrxwgz3tnfzxi2lpnzqxg5dbon`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := credential.ParseSerial(args[0]); err != nil {
				return usagef(`not the ID of an invite, as "p2pnode invite list" shows it: %w`, err)
			}
			return e.revoke(cmd.Context(), control.Revocation{Who: args[0]})
		},
	}
}
