package main

import (
	"os"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// A manual tells where manual pages were written.
type manual struct {
	Version int    `json:"v"`
	Dir     string `json:"dir"`
	Pages   int    `json:"pages"`
}

// manCommand writes the manual pages, one for each command.
func manCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages of all commands to a directory",
		Example: "  p2pnode man ~/.local/share/man/man1",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same pages whenever they are written
			if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "p2pnode", Manual: "p2pnode"}, dir); err != nil {
				return err
			}
			if !e.json {
				return nil
			}
			return e.print(manual{Version: control.Version, Dir: dir, Pages: pages(root)}, "")
		},
	}
}

// pages returns how many there are of a command and those below it.
func pages(c *cobra.Command) int {
	n := 1
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			n += pages(sub)
		}
	}
	return n
}
