package main

import (
	"crypto/tls"
	"fmt"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
)

// noLANVariable stands for --no-lan, for tests and for machines where multicast is
// not wanted at all.
const noLANVariable = "P2PNODE_NO_LAN"

// networkFlags say how a node meets members by the network.
type networkFlags struct {
	noLAN, noPortMapping bool
	tlsCert, tlsKey      string
}

func (f *networkFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noLAN, "no-lan", false, "do not look for members on the local network, nor say there that this node is up (default: whether $"+noLANVariable+" is set)")
	cmd.Flags().BoolVar(&f.noPortMapping, "no-port-mapping", false, "do not ask the router to let members in")
	cmd.Flags().StringVar(&f.tlsCert, "tls-cert", "", "file of the certificates shown where --listen has /tls/ws, for proxies that look at them (default: one that this node makes)")
	cmd.Flags().StringVar(&f.tlsKey, "tls-key", "", "file of the key of --tls-cert")
}

// apply makes of the flags what package overlay wants.
func (f *networkFlags) apply(e *env, c *overlay.Config) error {
	c.NoLAN = f.noLAN || e.getenv(noLANVariable) != ""
	c.NoPortMapping = f.noPortMapping
	c.Proxy = e.proxyFor()
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return usagef("--tls-cert and --tls-key go together")
	}
	if f.tlsCert == "" {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
	if err != nil {
		return fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	c.Certificate = &cert
	return nil
}
