package main

import (
	"context"
	"fmt"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/p2p"
	"github.com/spf13/cobra"
)

// pingInterval is the time between two pings, as everywhere.
const pingInterval = time.Second

// pingCommand measures the round trip to a member, and says by which path.
func pingCommand(e *env) *cobra.Command {
	var count int
	var untilDirect bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "ping MEMBER",
		Short: "Measure the round trip to a member, and the path it takes",
		Long: `Measure the round trip to a member, and the path it takes: unix (on this machine),
lan, direct, or relay and the member through which it goes.`,
		Example: `  p2pnode ping alice
  p2pnode ping alice --until-direct
  p2pnode ping -n 1 12D3KooWL67WCM2Fb2dFLhuUGSV3oQ2GR7FXPVpfgZ1bqGBmyWmP`,
		Args:              exactArgs(1),
		ValidArgsFunction: e.completeMember,
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := cmd.Flags()
			switch {
			case count < 0:
				return usagef("--count %d: less than none", count)
			case untilDirect && flags.Changed("count"):
				return usagef("--until-direct and --count contradict each other")
			case !untilDirect && flags.Changed("timeout"):
				return usagef("--timeout needs --until-direct")
			case timeout <= 0:
				return usagef("--timeout %v: it takes some time", timeout)
			}
			return e.withNode(func(c *control.Client) error {
				if untilDirect {
					return e.pingUntilDirect(cmd.Context(), c, args[0], timeout)
				}
				return e.ping(cmd.Context(), c, args[0], count)
			})
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 4, "number of pings; 0 goes on until interrupted")
	cmd.Flags().BoolVar(&untilDirect, "until-direct", false, "go on until a reply comes by a path that is no relay's")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to go on, with --until-direct")
	return cmd
}

// ping goes on until it has count answers, or is interrupted after some.
func (e *env) ping(ctx context.Context, c *control.Client, member string, count int) error {
	for i := 0; count == 0 || i < count; i++ {
		if i > 0 && !pause(ctx, pingInterval) {
			return nil
		}
		pong, err := c.Ping(ctx, member)
		if err != nil && i > 0 && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := e.printPong(pong); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) printPong(p control.Pong) error {
	return e.print(p, "%s via %s in %.3f ms", p.Member, path(p.Path, p.Relay), p.RTT)
}

// pingUntilDirect goes on until an answer comes by a path that is no relay's. A ping
// that is lost while the path changes does not end it, but the first one does.
func (e *env) pingUntilDirect(ctx context.Context, c *control.Client, member string, timeout time.Duration) error {
	patience, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for reason := ""; ; {
		pong, err := c.PingUpgrade(patience, member)
		switch {
		case err != nil && (reason == "" || ctx.Err() != nil):
			return err
		case err == nil:
			if err := e.printPong(pong); err != nil || pong.Path != p2p.PathRelay.String() {
				return err
			}
			reason = pong.Reason
		}
		if !pause(patience, pingInterval) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("ping %s: %w after %v: %s", member, p2p.ErrOnlyRelay, timeout, reason)
		}
	}
}

// pause returns true after d, or false as soon as ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
