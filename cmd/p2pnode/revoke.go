package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// revokeCommand puts somebody out of the mesh.
func revokeCommand(e *env) *cobra.Command {
	var when string
	cmd := &cobra.Command{
		Use:   "revoke MEMBER | INVITE",
		Short: "Put a member or an invite out of the mesh, for good",
		Long: `Put a member or an invite out of the mesh, for good: a member by its name or
peer ID, an invite by its ID. Whom it admitted stays, unless told otherwise.
Only an admin can revoke.

WHEN is how long ago, as 36h (0 is now), or a time, as 2026-01-02T15:04:05Z.`,
		Example: `  p2pnode revoke bob
  p2pnode revoke bob --with-admitted-since 36h`,
		Args:              exactArgs(1),
		ValidArgsFunction: e.completeMember,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := control.Revocation{Who: args[0]}
			if cmd.Flags().Changed(sinceFlag) {
				since, err := parseSince(when, time.Now())
				if err != nil {
					return usagef("--%s %q: %w", sinceFlag, when, err)
				}
				r.Since = since
			}
			return e.revoke(cmd.Context(), r)
		},
	}
	cmd.Flags().StringVar(&when, sinceFlag, "", "put out as well whom it admitted since `WHEN`")
	return cmd
}

const sinceFlag = "with-admitted-since"

// parseSince reads a time, or how long ago it was.
func parseSince(s string, now time.Time) (time.Time, error) {
	ago, err := time.ParseDuration(s)
	t := now.Add(-ago)
	if err != nil {
		t, err = time.Parse(time.RFC3339, s)
	}
	switch {
	case err != nil:
		return time.Time{}, errors.New("neither how long ago, as 36h, nor a time, as 2026-01-02T15:04:05Z")
	case t.After(now):
		return time.Time{}, errors.New("it is in the future")
	case t.Unix() <= 0:
		return time.Time{}, errors.New("it is too long ago")
	}
	return t, nil
}

func (e *env) revoke(ctx context.Context, r control.Revocation) error {
	return e.withNode(func(c *control.Client) error {
		out, err := c.Revoke(ctx, r)
		if err != nil {
			return err
		}
		if out.Unknown {
			e.warn("this node did not make an invite of that ID; if another admin did, it is of no use any more")
		}
		return e.print(out, "%s", revokedText(r.Who, out))
	})
}

// revokedText says who is out.
func revokedText(who string, r control.Revoked) string {
	var lines []string
	if r.Invite != "" {
		lines = append(lines, "revoked invite "+r.Invite)
	}
	for _, m := range r.Out {
		lines = append(lines, fmt.Sprintf("revoked %s (%s)", m.Name, m.ID))
	}
	if len(lines) == 0 { // a member that this node knew nothing of
		lines = append(lines, "revoked "+who)
	}
	return strings.Join(lines, "\n")
}
