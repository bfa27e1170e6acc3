package main

import (
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// proxyCommand has programs that know proxies reach all services by host name.
func proxyCommand(e *env) *cobra.Command {
	var others bool
	cmd := &cobra.Command{
		Use:   "proxy [ADDRESS]",
		Short: "Have browsers and other programs reach services by host name",
		Long: `Listen at an address of this machine (default: ` + control.DefaultProxy + `) as a SOCKS 5 and
HTTP proxy, until the node ends or "p2pnode unproxy". Through it web.alice.mesh is
alice's service web, and web.mesh that of the nearest member. Set it in a browser, or
give it to a program: as socks5h://` + control.DefaultProxy + ` or http://` + control.DefaultProxy + `.
For one program alone there is "p2pnode run".

With --others it dials other hosts too, straight from this machine. Then it listens
on loopback or at a unix socket alone.`,
		Example: `  p2pnode proxy
  p2pnode proxy 127.0.0.1:8118 --others
  p2pnode proxy unix:/tmp/mesh.sock`,
		Args:              atMostOneArg,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			want := control.Proxy{Listen: control.DefaultProxy, Others: others}
			if len(args) > 0 {
				want.Listen = args[0]
			}
			return e.withNode(func(c *control.Client) error {
				p, err := c.Proxy(cmd.Context(), want)
				if err != nil {
					return err
				}
				return e.print(p, "proxy at %s%s", p.Listen, alsoOthers(p))
			})
		},
	}
	cmd.Flags().BoolVar(&others, "others", false, "dial hosts that are not of the mesh too, straight from this machine")
	return cmd
}

// alsoOthers tells if a proxy is not for the mesh alone.
func alsoOthers(p control.Proxy) string {
	if p.Others {
		return ", for other hosts too"
	}
	return ""
}

// unproxyCommand ends a proxy.
func unproxyCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "unproxy [ADDRESS]",
		Short: "End the proxy that listens at an address; connections that are open are reset",
		Example: `  p2pnode unproxy
  p2pnode unproxy unix:/tmp/mesh.sock`,
		Args:              atMostOneArg,
		ValidArgsFunction: e.completeProxy,
		RunE: func(cmd *cobra.Command, args []string) error {
			at := control.DefaultProxy
			if len(args) > 0 {
				at = args[0]
			}
			return e.end("proxy", at, func(c *control.Client) error { return c.Unproxy(cmd.Context(), at) })
		},
	}
}

func atMostOneArg(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%s takes one argument at most, not %d; usage: %s", cmd.Name(), len(args), cmd.UseLine())
	}
	return nil
}

// completeProxy completes the address of a proxy. There is nobody to tell why none
// is known.
func (e *env) completeProxy(cmd *cobra.Command, args []string, _ string) (at []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_ = e.withNode(func(c *control.Client) error {
		n, err := c.Status(cmd.Context())
		for _, p := range n.Proxies {
			at = append(at, p.Listen)
		}
		return err
	})
	return at, cobra.ShellCompDirectiveNoFileComp
}
