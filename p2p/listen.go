package p2p

import (
	"context"
	"fmt"
	"net"

	"github.com/multiformats/go-multiaddr"
)

// portTries bounds how often a free port is looked for. One try nearly always
// does; a second is needed when another program takes the port in between.
const portTries = 8

// listenAddrs returns where to listen when the caller named no address: every
// interface of some families, one port number for TCP, WebSocket and QUIC.
func listenAddrs(prefer uint16, families []string) ([]multiaddr.Multiaddr, error) {
	port, err := freePort(prefer, families)
	if err != nil {
		return nil, err
	}
	var addrs []multiaddr.Multiaddr
	for _, f := range families {
		base := "/" + f + "/" + unspecified[f]
		for _, s := range []string{
			fmt.Sprintf("%s/tcp/%d", base, port),
			fmt.Sprintf("%s/tcp/%d/ws", base, port),
			fmt.Sprintf("%s/udp/%d/quic-v1", base, port),
		} {
			addr, err := multiaddr.NewMultiaddr(s)
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

var unspecified = map[string]string{"ip4": "0.0.0.0", "ip6": "::"}

// ownFamilies returns the families of addresses that this machine has.
func ownFamilies() []string {
	if hasIPv6() {
		return []string{"ip4", "ip6"}
	}
	return []string{"ip4"}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// freePort finds a port that is free for TCP and UDP in all families.
func freePort(prefer uint16, families []string) (int, error) {
	port := int(prefer)
	var lastErr error
	for range portTries {
		got, err := probePort(port, families)
		if err == nil {
			return got, nil
		}
		lastErr, port = err, 0
	}
	return 0, fmt.Errorf("find a free port: %w", lastErr)
}

// probePort binds port everywhere at once and lets go of it.
func probePort(port int, families []string) (int, error) {
	var lc net.ListenConfig
	for _, f := range families {
		v := f[len("ip"):]
		l, err := lc.Listen(context.Background(), "tcp"+v, fmt.Sprintf("[%s]:%d", unspecified[f], port))
		if err != nil {
			return 0, err
		}
		defer l.Close()
		port = l.Addr().(*net.TCPAddr).Port
		u, err := lc.ListenPacket(context.Background(), "udp"+v, fmt.Sprintf("[%s]:%d", unspecified[f], port))
		if err != nil {
			return 0, err
		}
		defer u.Close()
	}
	return port, nil
}
