package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
)

const whoHelp = `WHO is a member's name or peer ID, role:ROLE, or everyone. A name that its member
chose itself proves nothing, and is taken for that member's peer ID.`

// allowCommand lets others use a service.
func allowCommand(e *env) *cobra.Command {
	return e.editCommand(&cobra.Command{
		Use:   "allow SERVICE WHO...",
		Short: "Let others use a service of this node too",
		Long:  "Let others use a service of this node too.\n\n" + whoHelp,
		Example: `  p2pnode allow db alice
  p2pnode allow db role:admin`,
	}, (*control.Client).Allow)
}

// denyCommand keeps some from a service.
func denyCommand(e *env) *cobra.Command {
	return e.editCommand(&cobra.Command{
		Use:   "deny SERVICE WHO...",
		Short: "Keep some from a service of this node; their open streams are reset",
		Long: `Keep some from a service of this node. Streams that they have open are reset. To
deny everyone leaves nobody, and takes back what was allowed and denied before.

` + whoHelp,
		Example: `  p2pnode deny web bob
  p2pnode deny web everyone`,
	}, (*control.Client).Deny)
}

func (e *env) editCommand(cmd *cobra.Command, edit func(*control.Client, context.Context, string, ...string) (control.Access, error)) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return usagef("%s takes a service and whom to %s, but there is %s; usage: %s", cmd.Name(), cmd.Name(), countArgs(len(args)), cmd.UseLine())
		}
		return nil
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return append(e.memberNames(cmd.Context()), "everyone", "role:"), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkRules(args[1:]); err != nil {
			return err
		}
		return e.withNode(func(c *control.Client) error {
			a, err := edit(c, cmd.Context(), args[0], args[1:]...)
			if err != nil {
				return err
			}
			return e.print(a, "%s", accessText(a))
		})
	}
	return cmd
}

func countArgs(n int) string {
	if n == 1 {
		return "one argument"
	}
	return "no argument"
}

// checkRules refuses what is no rule, before a node is asked.
func checkRules(texts []string) error {
	for _, text := range texts {
		if _, err := overlay.ParseRule(text); err != nil {
			return usagef("%.80q: %w", text, err)
		}
	}
	return nil
}

// accessText says who may use a service, and what may surprise.
func accessText(a control.Access) string {
	text := fmt.Sprintf("%s is for %s", a.Service, ruleTexts(a.Allow, "nobody"))
	if len(a.Deny) > 0 {
		text += ", but not for " + ruleTexts(a.Deny, "")
	}
	return text + noteTexts(a.Allow) + noteTexts(a.Deny)
}

// ruleTexts lists rules.
func ruleTexts(rules []control.Rule, none string) string {
	if len(rules) == 0 {
		return none
	}
	var out []string
	for _, r := range rules {
		out = append(out, ruleText(r))
	}
	return strings.Join(out, ", ")
}

func ruleText(r control.Rule) string {
	if r.Name == "" {
		return r.Rule
	}
	return fmt.Sprintf("%s (%s)", r.Name, r.Rule)
}

// noteTexts gives each note a line.
func noteTexts(rules []control.Rule) (out string) {
	for _, r := range rules {
		if r.Note != "" {
			out += fmt.Sprintf("\n  %s: %s", r.Rule, r.Note)
		}
	}
	return out
}

// accessCommand lists who may use what this node exposes.
func accessCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "access [SERVICE]",
		Short: "List who may use the services of this node, or one of them",
		Example: `  p2pnode access
  p2pnode access web`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("access takes one argument at most, not %d; usage: %s", len(args), cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				list, err := c.Access(cmd.Context())
				if err != nil {
					return err
				}
				if len(args) > 0 {
					list, err = only(list, args[0])
				}
				if err != nil {
					return err
				}
				if e.json {
					return printEach(e, list)
				}
				return writeAccess(e.stdout, list)
			})
		},
	}
}

func only(list []control.Access, service string) ([]control.Access, error) {
	for _, a := range list {
		if a.Service == service {
			return []control.Access{a}, nil
		}
	}
	text := fmt.Sprintf("access to %.80s: no such service is exposed", service)
	return nil, &control.Error{Version: control.Version, Code: control.CodeNotFound, Text: text}
}

func writeAccess(w io.Writer, list []control.Access) error {
	t := newTable(w)
	t.row("SERVICE", "ALLOWED", "DENIED")
	for _, a := range list {
		t.row(a.Service, ruleTexts(a.Allow, "nobody"), ruleTexts(a.Deny, "-"))
	}
	return t.flush()
}
