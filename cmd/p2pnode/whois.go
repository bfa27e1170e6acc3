package main

import (
	"io"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
)

// whoisCommand tells of one member.
func whoisCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "whois MEMBER | ADDRESS",
		Short: "Tell who a member is, what it may, and what it offers to this node",
		Long: `Tell who a member is, what it may, and what it offers to this node. It is given by
its name or peer ID, or by an address that this node has a connection to.`,
		Example: `  p2pnode whois alice
  p2pnode whois 192.0.2.1`,
		Args:              exactArgs(1),
		ValidArgsFunction: e.completeMember,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				who, err := c.Whois(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if e.json {
					return e.print(who, "")
				}
				return writeWhois(e.stdout, who)
			})
		},
	}
}

func writeWhois(w io.Writer, m control.Whois) error {
	t := newTable(w)
	given := "given by an admin"
	if m.NameChosen {
		given = "chosen by itself"
	}
	t.row("name", m.Name+", "+given)
	t.row("id", m.ID)
	t.row("roles", m.Roles)
	t.row("admitted", m.Admitted.Local().Format(time.DateTime))
	t.row("expires", m.Expires.Local().Format(time.DateTime))
	t.row("may use", mayUse(m.Only))
	t.row("state", state(m.Member))
	t.row("path", path(m.Path, m.Relay))
	t.row("rtt", roundTrip(m.RTT))
	t.row("offers", offers(m))
	return t.flush()
}

func mayUse(services []string) string {
	if len(services) == 0 {
		return "all services that are for it"
	}
	return "only " + strings.Join(services, ", ")
}

func offers(m control.Whois) string {
	switch {
	case m.NoOffers != "":
		return "not known: " + m.NoOffers
	case len(m.Offers) == 0:
		return "-"
	}
	var all []string
	for _, o := range m.Offers {
		text := offerName(o)
		if o.Kind != overlay.KindStream.String() {
			text += " (" + o.Kind + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}
