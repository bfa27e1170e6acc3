package main

import (
	"context"
	"fmt"
	"io"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
)

// connectCommand ties a stream to standard input and output.
func connectCommand(e *env) *cobra.Command {
	var flags streamFlags
	cmd := &cobra.Command{
		Use:   "connect TARGET",
		Short: "Tie a stream to a service to standard input and output",
		Long: `Open a stream to a service, and tie it to standard input and output, until the
service has ended its side. Fit for ssh's ProxyCommand.

The stream outlives its path: when the network changes or fails, it waits and goes
on over another, and no byte is lost or repeated. With --plain it breaks.`,
		Example: `  p2pnode connect alice/echo
  ssh -o ProxyCommand="p2pnode connect alice/ssh" alice`,
		Args:              exactArgs(1),
		ValidArgsFunction: e.completeTarget(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := overlay.ParseTarget(args[0]); err != nil {
				return usageError{err}
			}
			if err := flags.check(); err != nil {
				return err
			}
			return e.withNode(func(c *control.Client) error {
				conn, err := c.DialAs(cmd.Context(), args[0], control.DialOptions{
					DirectOnly: flags.directOnly, WaitDirect: flags.waitDirect, Plain: flags.plain,
				})
				if err != nil {
					return err
				}
				defer conn.Close()
				return e.pipe(cmd.Context(), conn)
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// pipe copies standard input to a stream and the stream to standard output,
// until the stream ends. What still waits in standard input is left there: a
// read of a terminal can't be called off.
func (e *env) pipe(ctx context.Context, conn *control.Conn) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, e.stdin)
		sent <- err
		_ = conn.CloseWrite() // if it fails, so does the read below
	}()
	_, err := io.Copy(e.stdout, conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	select {
	case err = <-sent:
	default: // the service wants no more
	}
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
