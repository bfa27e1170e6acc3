package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// leaveCommand gives up the membership.
func leaveCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "Give up this node's membership for good, and end the node",
		Long: `Give up this node's membership for good, tell the others, and end the node. It
asks nothing. The directory can be used to join again, with a new invite and as
a new member.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := e.directory()
			if err != nil {
				return err
			}
			return e.withNode(func(c *control.Client) error {
				ctx, cancel := context.WithTimeout(cmd.Context(), downTimeout)
				defer cancel()
				left, err := c.Leave(ctx)
				if err != nil {
					return err
				}
				if path := filepath.Join(dir, rootKeyFile); exists(path) {
					left.RootKey = path
				}
				return e.print(left, "%s", leftText(left))
			})
		},
	}
}

// rootKeyFile is the key of a mesh in the directory of the node that founded it.
const rootKeyFile = "root.key"

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func leftText(l control.Left) string {
	text := fmt.Sprintf("left mesh %s: the key and the membership of %s (%s) are gone", l.Mesh, l.Name, l.ID)
	if l.RootKey != "" {
		text += fmt.Sprintf("\n%s stays: whoever has that key can put anybody in or out of the mesh", l.RootKey)
	}
	return text
}
