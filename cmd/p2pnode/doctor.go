package main

import (
	"io"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// doctorCommand tells what the network is that the node is in, and what that means.
func doctorCommand(e *env) *cobra.Command {
	var noTry bool
	cmd := &cobra.Command{
		Use:   "doctor [MEMBER]",
		Short: "Tell what network this node is in, what that means and what to do",
		Long: `Tell what network this node is in: for each thing what was measured, what it means
and, if anything can be done, what to do. Other members say how they see the node;
nobody else is asked. With a member, tell what "p2pnode why" does.`,
		Example: `  p2pnode doctor
  p2pnode doctor alice`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("doctor takes one argument at most, not %d; usage: %s", len(args), cmd.UseLine())
			}
			return nil
		},
		ValidArgsFunction: e.completeMember,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				if len(args) > 0 {
					return e.why(cmd.Context(), c, args[0], !noTry)
				}
				d, err := c.Doctor(cmd.Context(), !noTry)
				if err != nil {
					return err
				}
				d.Findings = findings(d)
				if e.json {
					return e.print(d, "")
				}
				return writeFindings(e.stdout, d.Findings)
			})
		},
	}
	addNoTry(cmd, &noTry)
	return cmd
}

func addNoTry(cmd *cobra.Command, noTry *bool) {
	cmd.Flags().BoolVar(noTry, "no-try", false, "tell what is known, and try nothing anew")
}

// writeFindings gives each finding up to three lines.
func writeFindings(w io.Writer, list []control.Finding) error {
	t := newTable(w)
	for _, f := range list {
		t.row(f.About, f.Measured)
		t.row("", f.Means)
		if f.Do != "" {
			t.row("", "to do: "+f.Do)
		}
	}
	return t.flush()
}
