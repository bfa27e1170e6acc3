package main

import (
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// forwardCommand ties a local socket to a service.
func forwardCommand(e *env) *cobra.Command {
	var flags streamFlags
	var spread bool
	var idle time.Duration
	var mode, owner string
	cmd := &cobra.Command{
		Use:   "forward ADDRESS TARGET | ADDRESS=TARGET...",
		Short: "Reach services at addresses of this machine",
		Long: `Listen at an address of this machine, and tie what connects there to a service,
until "p2pnode unforward": when the node is started anew, it listens again. The
address is a port (of 127.0.0.1; 0 takes a free one), HOST:PORT, unix:/PATH, or
udp:PORT or udp:HOST:PORT for a service of datagrams. A port below 1024 is written with
its host. The target is MEMBER/SERVICE, or /SERVICE for the nearest member that offers
it. Of several written as ADDRESS=TARGET all are made or none.

A connection through it outlives its path: when the network changes or fails, it
waits and goes on over another, and no byte is lost or repeated. With --plain it
breaks.`,
		Example: `  p2pnode forward 8080 alice/web
  p2pnode forward unix:/tmp/db.sock /db --mode 0660 --owner :db
  p2pnode forward 8080=alice/web 5432=/db
  p2pnode forward udp:5353 bob/dns
  p2pnode forward 8080 /web --spread
  p2pnode forward 8080 alice/web --direct-only
  p2pnode forward 8080 alice/web --plain`,
		ValidArgsFunction: e.completeTarget(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			wants, err := forwardArgs(cmd, args)
			if err != nil {
				return err
			}
			for i := range wants {
				wants[i].Plain, wants[i].Spread, wants[i].IdleTimeout = flags.plain, spread, idle
				wants[i].Mode, wants[i].Owner = mode, owner
				if flags.directOnly {
					wants[i].DirectOnly, wants[i].WaitDirect = true, flags.waitDirect
				}
			}
			return e.withNode(func(c *control.Client) error {
				made, err := c.ForwardAll(cmd.Context(), wants)
				if err != nil {
					return err
				}
				for _, f := range made {
					if err := e.print(f, "forward %s to %s%s", f.Listen, f.Target, manner(f)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&spread, "spread", false, "of the members that offer /SERVICE take each in turn, and not the nearest")
	cmd.Flags().DurationVar(&idle, "idle-timeout", 0, "after how long a connection through which nothing goes ends; 0 is a minute for udp, and else never")
	cmd.Flags().StringVar(&mode, "mode", "", "who may connect to the unix socket, as 0660 (default 0600)")
	cmd.Flags().StringVar(&owner, "owner", "", "whose the unix socket is to be, as user, user:group or :group (default: the node's user)")
	return cmd
}

// forwardArgs reads where to listen and for what.
func forwardArgs(cmd *cobra.Command, args []string) (wants []control.Forward, err error) {
	if len(args) == 2 && !strings.Contains(args[1], "=") && (!strings.Contains(args[0], "=") || strings.HasPrefix(args[0], "unix:")) {
		return []control.Forward{{Listen: args[0], Target: args[1]}}, nil
	}
	if len(args) == 0 || len(args) == 1 && !strings.Contains(args[0], "=") {
		return nil, usagef("%s takes an address and a target, or more of both as ADDRESS=TARGET; usage: %s", cmd.Name(), cmd.UseLine())
	}
	for _, arg := range args {
		at := strings.LastIndexByte(arg, '=') // a path may have one, a target not
		if at < 0 {
			return nil, usagef("%.80q: of several forwards each is written as ADDRESS=TARGET", arg)
		}
		wants = append(wants, control.Forward{Listen: arg[:at], Target: arg[at+1:]})
	}
	return wants, nil
}

// unforwardCommand ends a forward.
func unforwardCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "unforward ADDRESS",
		Short: "End the forward that listens at an address; connections that are open are reset",
		Example: `  p2pnode unforward 8080
  p2pnode unforward unix:/tmp/db.sock`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.end("forward", args[0], func(c *control.Client) error { return c.Unforward(cmd.Context(), args[0]) })
		},
	}
}
