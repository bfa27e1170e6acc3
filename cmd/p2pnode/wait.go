package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// lookAgain is how often it is looked whether a node runs by now.
const lookAgain = 50 * time.Millisecond

// waitCommand returns once something is so.
func waitCommand(e *env) *cobra.Command {
	want := control.Wait{For: control.WaitReady}
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait [WHAT]",
		Short: "Wait until the node is ready, a member is up, or a service is offered",
		Long: `Wait until the node of the directory is ready, or also until a member is up or a
service is offered that this node may use: WHAT is a member's name or peer ID,
MEMBER/SERVICE, or /SERVICE for any member.`,
		Example: `  p2pnode wait
  p2pnode wait --for peer alice
  p2pnode wait --for service /web --timeout 30s`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case want.For == control.WaitReady && len(args) == 0:
				return nil
			case want.For == control.WaitReady:
				return usagef("wait takes WHAT with --for peer or --for service; usage: %s", cmd.UseLine())
			case want.For != control.WaitPeer && want.For != control.WaitService:
				return usagef("--for %.80q: want %s, %s or %s", want.For, control.WaitReady, control.WaitPeer, control.WaitService)
			case len(args) != 1:
				return usagef("wait --for %s takes one argument, not %d; usage: %s", want.For, len(args), cmd.UseLine())
			}
			want.What = args[0]
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return usagef("--timeout %v: less than no time", timeout)
			}
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("wait for %s: %w after %v", waitText(want), errNotYet, timeout))
				defer cancel()
			}
			if err := e.awaitNode(ctx, want); err != nil {
				return err
			}
			return e.print(waited{control.Version, want.For, want.What}, "%s", waitText(want))
		},
	}
	cmd.Flags().StringVar(&want.For, "for", control.WaitReady, "what to wait for: ready, peer or service")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait; 0 for ever")
	return cmd
}

var errNotYet = errors.New("not yet")

// A waited says what has come.
type waited struct {
	Version int    `json:"v"`
	For     string `json:"for"`
	What    string `json:"what,omitempty"`
}

func waitText(w control.Wait) string {
	if w.What == "" {
		return w.For
	}
	return w.For + " " + w.What
}

// awaitNode waits for a node, and has it wait for more. If it ends meanwhile, the
// next is waited for.
func (e *env) awaitNode(ctx context.Context, want control.Wait) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		err := e.withNode(func(c *control.Client) error { return c.Wait(ctx, want) })
		if err == nil || ctx.Err() == nil && !errors.Is(err, control.ErrNotRunning) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
