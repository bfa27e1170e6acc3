package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// exposeCommand offers a local socket to the mesh as a service.
func exposeCommand(e *env) *cobra.Command {
	var allow []string
	var files string
	var idle time.Duration
	var proxyProtocol bool
	cmd := &cobra.Command{
		Use:   "expose SERVICE ADDRESS | SERVICE --files DIR",
		Short: "Offer what listens at an address of this machine to the mesh",
		Long: `Offer what listens at an address of this machine to the mesh, as a service,
until "p2pnode unexpose": when the node is started anew, it is offered again. The
address is a port (of 127.0.0.1), HOST:PORT, unix:/PATH, or udp:PORT or udp:HOST:PORT
for a service of datagrams. With --files it is the files of a directory, to be read by
HTTP. It is for everyone in the mesh unless --allow says for whom; "p2pnode allow" and
"p2pnode deny" change that.

The service '*' is a range of ports, FIRST-LAST or HOST:FIRST-LAST: port 8080 is the
service 8080 then, as alice/8080, and "p2pnode forward 8080 alice/8080" has it here. A
service that is exposed as 8080 itself goes first. Others are not told of the ports, so
that /8080 does not find one. Write the quotes, or the shell takes * for file names.

With --proxy-protocol the target learns who connects, by a header of version 2 of
HAProxy's PROXY protocol: values 0xE0 and 0xE1 have the member's name and peer ID.

` + whoHelp,
		Example: `  p2pnode expose web 3000
  p2pnode expose admin 9000 --allow alice,role:admin
  p2pnode expose dns udp:53
  p2pnode expose docs --files /srv/docs
  p2pnode expose '*' 8000-8999 --allow role:admin
  p2pnode expose db unix:/run/postgresql/.s.PGSQL.5432`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("files") {
				return exactArgs(1)(cmd, args)
			}
			return exactArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("allow") && len(allow) == 0 {
				return usagef("--allow is empty")
			}
			if err := checkRules(allow); err != nil {
				return usagef("--allow: %w", err)
			}
			want := control.Exposed{Service: args[0], Allow: control.Rules(allow), IdleTimeout: idle, ProxyProtocol: proxyProtocol}
			if len(args) > 1 {
				want.Target = args[1]
			} else if err := absolute(files, &want.Files); err != nil {
				return err
			}
			return e.withNode(func(c *control.Client) error {
				x, err := c.ExposeAs(cmd.Context(), want)
				if err != nil {
					return err
				}
				return e.print(x, "%s", exposedText(x, len(allow) > 0))
			})
		},
	}
	cmd.Flags().StringVar(&files, "files", "", "offer the files of a directory, to be read by HTTP; links do not lead out of it")
	cmd.Flags().DurationVar(&idle, "idle-timeout", 0, "after how long a connection through which nothing goes ends; 0 is a minute for udp, and else never")
	cmd.Flags().BoolVar(&proxyProtocol, "proxy-protocol", false, "tell the target who connects, by a PROXY header")
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "whom it is for, as alice,role:admin (default: everyone)")
	return cmd
}

// absolute makes a path of files one that a node in another directory takes too.
func absolute(files string, out *string) (err error) {
	if files == "" {
		return usagef("--files is empty")
	}
	*out, err = filepath.Abs(files)
	return err
}

// behind tells what is behind a service.
func behind(x control.Exposed) string {
	if x.Files != "" {
		return "files in " + x.Files
	}
	return x.Target
}

func exposedText(x control.Exposed, forSome bool) string {
	text := fmt.Sprintf("exposed %s at %s", x.Service, behind(x))
	if forSome {
		text += " for " + ruleTexts(x.Allow, "nobody") + noteTexts(x.Allow)
	}
	return text
}

// unexposeCommand withdraws a service.
func unexposeCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "unexpose SERVICE",
		Short:   "Withdraw a service; streams that are open are reset",
		Example: `  p2pnode unexpose web`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.end("service", args[0], func(c *control.Client) error { return c.Unexpose(cmd.Context(), args[0]) })
		},
	}
}
