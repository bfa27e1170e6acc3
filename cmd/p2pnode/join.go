package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/spf13/cobra"
)

// joinName is that of the command that alone takes an invite.
const joinName = "join"

// joinCommand enters a mesh by an invite, and then runs as up does.
func joinCommand(e *env) *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:   joinName + " INVITE | FILE | -",
		Short: "Join a mesh by an invite, and run this node",
		Long: `Join the mesh of an invite, and run this node in the foreground until
interrupted; later, "p2pnode up" comes back to it. The invite is a secret: read
from a file, or with - from standard input, other users of this machine don't
see it.`,
		Example: `  p2pnode join - --name bob
  p2pnode join invite.txt`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.back && !e.detached {
				return e.startBackground(cmd.Context()) // which reads the invite
			}
			invite, err := e.readInvite(args[0])
			if err != nil {
				return err
			}
			join := func(ctx context.Context, c overlay.Config) (*overlay.Mesh, error) {
				return overlay.Join(ctx, invite, c)
			}
			return e.runNode(cmd.Context(), &flags, join, func(*overlay.Mesh) error { return nil })
		},
	}
	flags.add(cmd)
	return cmd
}

// readInvite takes the invite from the argument, a file or standard input.
func (e *env) readInvite(arg string) (string, error) {
	if arg == "-" {
		return readText(e.stdin)
	}
	if credential.LooksLikeInvite(arg) {
		e.warn(`other users of this machine can see an invite that is given as an argument; "p2pnode join -" reads it from standard input`)
		return arg, nil
	}
	f, err := os.Open(arg)
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return "", usagef("%q is neither an invite nor a file that can be read: %w", shorten(arg), path.Err)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readText(f)
}

// maxInviteFile is more than the longest invite.
const maxInviteFile = 64 << 10

func readText(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInviteFile))
	if err != nil {
		return "", fmt.Errorf("read invite: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// shorten keeps a long text from filling the screen, and a secret off it.
func shorten(s string) string {
	const most = 24
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
