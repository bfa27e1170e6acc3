package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
	"github.com/p2pnode/p2pnode/p2p/portmap/portmaptest"
)

// hardCells are pairs of which one has a network with something wrong about it.
func hardCells() []cell {
	lossy := place{name: "loss-30", nat: portRestricted.nat, link: lab.Link{Loss: 0.3}}
	hole := place{name: "mtu-1280", nat: portRestricted.nat, link: lab.Link{MTU: 1280}}
	junk := place{name: "32-useless-addresses", nat: portRestricted.nat, prepare: uselessAddresses}
	mapped := place{name: "symmetric-with-port-mapping", nat: symmetric.nat, prepare: portMapping}
	return []cell{
		{lossy, open, "direct"}, {open, lossy, "direct"},
		{hole, open, "direct"}, {hole, portRestricted, "direct"},
		{junk, open, "direct"}, {junk, portRestricted, "direct"},
		{junk, junk, "direct"},
		{mapped, udpBlocked, "direct"}, {udpBlocked, mapped, "direct"},
		{mapped, portRestricted, "direct"}, {mapped, symmetric, "direct"},
	}
}

// measureHard measures the pairs whose name has filter in it.
func measureHard(rounds int, filter string) measurement {
	return inNetwork(func(ctx context.Context, n *network) ([]figure, error) {
		if err := n.startRelays(ctx, 2); err != nil {
			return nil, err
		}
		cells := slices.DeleteFunc(hardCells(), func(c cell) bool { return !c.chosen(filter) })
		return n.measureAll(ctx, cells, rounds)
	})
}

// uselessAddresses gives a host addresses at which nobody reaches it, as virtual
// machines and containers have them.
func uselessAddresses(ctx context.Context, _ *lab.Router, h *lab.Host) (io.Closer, error) {
	commands := [][]string{
		{"link", "add", "j0", "type", "veth", "peer", "name", "j1"}, {"link", "set", "j0", "up"}, {"link", "set", "j1", "up"},
	}
	for i := range 32 {
		commands = append(commands, []string{"addr", "add", fmt.Sprintf("172.20.%d.1/24", i), "dev", "j0"})
	}
	for _, args := range commands {
		if out, err := h.Command(ctx, "ip", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil, nil
}

// portMapping has a router answer those who ask it for ports.
func portMapping(_ context.Context, r *lab.Router, h *lab.Host) (io.Closer, error) {
	gateway := netip.PrefixFrom(h.Addr(), 24).Masked().Addr().Next()
	var s *portmaptest.Server
	err := r.Do(func() (err error) {
		s, err = portmaptest.Listen(netip.AddrPortFrom(gateway, 5351), portmaptest.Config{
			External: r.PublicAddr(),
			Action: func(proto string, internal netip.AddrPort, external uint16, lifetime time.Duration) error {
				if lifetime == 0 {
					internal = netip.AddrPort{}
				}
				r.Forward(proto, external, internal)
				return nil
			},
		})
		return err
	})
	if s == nil {
		return nil, errors.Join(err, errors.New("no responder"))
	}
	return s, err
}
