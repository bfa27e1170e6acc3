package portmap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/huin/goupnp/soap"
)

const (
	largestBody   = 256 << 10 // of what a router says by HTTP: a long description has 20 kB
	httpPatience  = 3 * time.Second
	upnpTries     = 4 // with an external port each
	codeConflict  = 718
	codePermanent = 725 // only mappings without a lifetime
	description   = "p2pnode"
)

// A service is the part of a gateway that maps ports. The types of the library
// have the same methods, and no name for them.
type service interface {
	AddPortMappingCtx(ctx context.Context, remote string, external uint16, proto string, internal uint16,
		client string, enabled bool, description string, seconds uint32) error
	DeletePortMappingCtx(ctx context.Context, remote string, external uint16, proto string) error
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
}

// upnp is a client of UPnP's Internet Gateway Device.
type upnp struct {
	up      uplink
	targets []netip.AddrPort // where to search

	mu    sync.Mutex
	found service // by probe
}

func (u *upnp) protocol() Protocol { return UPnP }

func (u *upnp) probe(ctx context.Context) (reply, error) {
	at, err := search(ctx, u.up, u.targets)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, httpPatience)
	defer cancel()
	services, err := describe(ctx, at, u.up.gateway)
	if err != nil {
		return reply{}, err
	}
	// A router with several uplinks has a service for each; one is in use.
	for _, s := range services {
		u.set(s)
		var ip netip.Addr
		if ip, err = externalOf(ctx, s); err == nil {
			return reply{external: netip.AddrPortFrom(ip, 0)}, nil
		}
	}
	return reply{}, err
}

func (u *upnp) request(ctx context.Context, a ask) (reply, error) {
	s := u.service()
	if s == nil {
		return reply{}, errSilent
	}
	ctx, cancel := context.WithTimeout(ctx, httpPatience)
	defer cancel()
	if a.lifetime == 0 {
		return reply{}, refusal(s.DeletePortMappingCtx(ctx, "", a.suggested.Port(), upper(a.proto)))
	}
	port, err := u.add(ctx, s, a)
	if err != nil {
		return reply{}, err
	}
	ip, err := externalOf(ctx, s)
	if err != nil {
		return reply{}, err
	}
	r := reply{external: netip.AddrPortFrom(ip, port), lifetime: a.lifetime}
	if !r.usable() {
		return reply{}, errUseless
	}
	return r, nil
}

func (u *upnp) service() service {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.found
}

func (u *upnp) set(s service) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.found = s
}

// add tries the port that it was, then the one inside, then others, as another
// machine may have one already.
func (u *upnp) add(ctx context.Context, s service, a ask) (uint16, error) {
	port, seconds := a.suggested.Port(), uint32(a.lifetime/time.Second)
	if port == 0 {
		port = a.port
	}
	var err error
	for range upnpTries {
		err = refusal(s.AddPortMappingCtx(ctx, "", port, upper(a.proto), a.port,
			u.up.local.String(), true, description, seconds))
		var refused *RefusedError
		switch {
		case !errors.As(err, &refused):
			return port, err
		case refused.Code == codePermanent && seconds != 0:
			seconds = 0 // Close deletes it, and renewing it does no harm
		case refused.Code == codeConflict:
			port = 1024 + uint16(rand.N(1<<16-1024))
		default:
			return 0, err
		}
	}
	return 0, err
}

func upper(p Proto) string {
	if p == TCP {
		return "TCP"
	}
	return "UDP"
}

// refusal makes the fault of a router a RefusedError.
func refusal(err error) error {
	var fault *soap.SOAPFaultError
	if errors.As(err, &fault) {
		reason := fault.Detail.UPnPError.ErrorDescription
		return &RefusedError{UPnP, fault.Detail.UPnPError.Errorcode, fmt.Sprintf("%.100q", reason)}
	}
	return err
}

func externalOf(ctx context.Context, s service) (netip.Addr, error) {
	text, err := s.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, refusal(err)
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || !ip.Is4() {
		return netip.Addr{}, errUseless
	}
	return ip, nil
}
