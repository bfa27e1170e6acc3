package main

import (
	"fmt"
	"io"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// peersCommand lists the members of the mesh.
func peersCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "peers",
		Short: "List the members of the mesh, who is up, and the path to each",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				members, err := c.Members(cmd.Context())
				if err != nil {
					return err
				}
				if e.json {
					return printEach(e, members)
				}
				return writeMembers(e.stdout, members)
			})
		},
	}
}

func printEach[T any](e *env, list []T) error {
	for _, v := range list {
		if err := e.print(v, ""); err != nil {
			return err
		}
	}
	return nil
}

func writeMembers(w io.Writer, members []control.Member) error {
	t := newTable(w)
	t.row("NAME", "STATE", "PATH", "RTT", "ROLES", "ID")
	for _, m := range members {
		t.row(m.Name, state(m), path(m.Path, m.Relay), roundTrip(m.RTT), m.Roles, m.ID)
	}
	return t.flush()
}

func state(m control.Member) string {
	switch {
	case m.Self:
		return "this node"
	case m.Up:
		return "up"
	case m.Seen != nil:
		return "away since " + m.Seen.Local().Format(time.DateTime)
	}
	return "away"
}

// path tells how a member is reached.
func path(path, relay string) string {
	if relay != "" {
		return path + " " + relay
	}
	return orDash(path)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func roundTrip(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", ms)
}
