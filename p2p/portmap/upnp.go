package portmap

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
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

// describe reads what a gateway is made of, and returns what maps ports.
func describe(ctx context.Context, at *url.URL, gateway netip.Addr) ([]service, error) {
	client := clientOf(gateway)
	root, err := fetch(ctx, client, at)
	if err != nil {
		return nil, fmt.Errorf("read the router's description: %w", err)
	}
	var out []service
	for _, kind := range []string{internetgateway2.URN_WANIPConnection_2, internetgateway2.URN_WANIPConnection_1, internetgateway2.URN_WANPPPConnection_1} {
		found, err := goupnp.NewServiceClientsFromRootDevice(root, at, kind)
		if err != nil {
			continue // there is none
		}
		for _, c := range found {
			if !isAt(&c.SOAPClient.EndpointURL, gateway) {
				continue
			}
			c.SOAPClient.HTTPClient = *client
			out = append(out, serviceOf(kind, c))
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the router's description has nothing that maps ports")
	}
	return out, nil
}

func serviceOf(kind string, c goupnp.ServiceClient) service {
	switch kind {
	case internetgateway2.URN_WANIPConnection_2:
		return &internetgateway2.WANIPConnection2{ServiceClient: c}
	case internetgateway2.URN_WANPPPConnection_1:
		return &internetgateway2.WANPPPConnection1{ServiceClient: c}
	}
	return &internetgateway2.WANIPConnection1{ServiceClient: c}
}

func fetch(ctx context.Context, client *http.Client, at *url.URL) (*goupnp.RootDevice, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("router answered %s", res.Status)
	}
	root := new(goupnp.RootDevice)
	d := xml.NewDecoder(res.Body)
	d.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := d.Decode(root); err != nil {
		return nil, err
	}
	base := at
	if b, err := url.Parse(root.URLBaseStr); err == nil && root.URLBaseStr != "" {
		base = b
	}
	root.SetURLBase(base)
	return root, nil
}

// clientOf returns a client that talks to the gateway and nobody else, reads no
// more than a router has to say, and leaves no connection open.
func clientOf(gateway netip.Addr) *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if to, err := netip.ParseAddrPort(addr); err != nil || to.Addr().Unmap() != gateway {
			return nil, fmt.Errorf("%s is not the gateway", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return &http.Client{
		Transport:     bounded{&http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       httpPatience,
	}
}

// bounded bounds what is read of an answer.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, largestBody), res.Body}
	return res, nil
}
