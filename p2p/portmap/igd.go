package portmap

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
)

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
