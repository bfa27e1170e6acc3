package portmap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// igdType is what a router is asked for. Those of version 2 answer to it too.
const igdType = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"

const (
	largestAnswer = 2048 // of a device that is searched for
	mostAnswers   = 256  // that are looked at, of whoever else is on the network
)

// ssdpTargets are where a search goes: to all devices, and to the gateway alone,
// for networks that drop multicast.
func ssdpTargets(gateway netip.Addr) []netip.AddrPort {
	return []netip.AddrPort{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 255, 250}), 1900),
		netip.AddrPortFrom(gateway, 1900),
	}
}

// search asks where the gateway describes itself. It has its own few lines for
// SSDP, as the library waits for all devices there are, and doesn't tell which of
// them an answer is from.
func search(ctx context.Context, up uplink, targets []netip.AddrPort) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(up.local, 0)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	query := []byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n" +
		"MAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + igdType + "\r\n\r\n")
	left := mostAnswers
	for wait := firstRetry; ; wait *= 2 {
		var sent error
		for _, to := range targets {
			if _, err := conn.WriteToUDPAddrPort(query, to); err != nil {
				sent = err
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return nil, silence(ctx, errors.Join(err, sent))
		}
		for ; left > 0; left-- {
			at, err := answer(conn, up.gateway)
			if err == nil {
				return at, nil
			}
			if timedOut(err) {
				break
			}
			if !errors.Is(err, errOther) {
				return nil, silence(ctx, err)
			}
		}
		if left == 0 {
			return nil, errSilent
		}
	}
}

func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// answer reads one packet. It is errOther unless it is the gateway's.
func answer(conn *net.UDPConn, gateway netip.Addr) (*url.URL, error) {
	buf := make([]byte, largestAnswer)
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		return nil, err
	}
	if from.Addr().Unmap() != gateway {
		return nil, errOther
	}
	return parseAnswer(buf[:n], gateway)
}

// parseAnswer returns where a gateway is described, which must be at the gateway:
// else whoever is on the network could have us ask anyone for anything.
func parseAnswer(b []byte, gateway netip.Addr) (*url.URL, error) {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil, errOther
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("ST"), ":InternetGatewayDevice:") {
		return nil, errOther
	}
	at, err := url.Parse(r.Header.Get("Location"))
	if err != nil || !isAt(at, gateway) {
		return nil, errOther
	}
	return at, nil
}

func isAt(u *url.URL, host netip.Addr) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && u.Scheme == "http" && ip.Unmap() == host
}
