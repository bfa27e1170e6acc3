package portmap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/libp2p/go-netroute"
)

// An uplink is how this machine goes to the rest of the world.
type uplink struct {
	gateway, local netip.Addr
}

// far is an address that no one has in a network of their own, and so is gone to
// by default: that of RFC 7535. Nothing is ever sent to it.
var far = net.IPv4(192, 31, 196, 1)

func findUplink() (uplink, error) {
	routes, err := netroute.New()
	if err != nil {
		return uplink{}, fmt.Errorf("read routes: %w", err)
	}
	_, gateway, local, err := routes.Route(far)
	if err != nil {
		return uplink{}, fmt.Errorf("find the default route: %w", err)
	}
	g, ok := netip.AddrFromSlice(gateway)
	l, okay := netip.AddrFromSlice(local)
	if !ok || !okay || !g.Unmap().Is4() || g.IsUnspecified() {
		return uplink{}, errors.New("the default route has no IPv4 gateway")
	}
	return uplink{g.Unmap(), l.Unmap()}, nil
}
