package main

import (
	"context"
	"fmt"
	"net"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

const libp2pProtocol = "/bench/forward/1"

// libp2pWay is the way through two plain go-libp2p hosts, all as that library
// has it by default save for the choice of TCP, TLS and yamux.
type libp2pWay struct{ overTCP }

func (libp2pWay) name() string { return "libp2p" }

func (libp2pWay) start(ctx context.Context, s *site, server string) (string, error) {
	exit, err := s.role(ctx, s.far, "libp2p-exit", server)
	if err != nil {
		return "", err
	}
	return s.role(ctx, s.near, "libp2p-entry", exit)
}

// libp2pExitRole is the host at the server's side. Its argument is the server's
// address; the address that it prints is a multiaddr with its peer ID.
func libp2pExitRole(s self, args []string) error {
	h, err := newLibp2pHost(s.ip)
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler(libp2pProtocol, func(stream network.Stream) {
		server, err := dialTCP(args[0])
		if err != nil {
			stream.Reset()
			return
		}
		tie(stream, server)
	})
	fmt.Fprintf(s.out, "%s/p2p/%s\n", h.Addrs()[0], h.ID())
	return s.untilEnd()
}

// libp2pEntryRole is the host at the client's side. Its argument is what the
// other printed.
func libp2pEntryRole(s self, args []string) error {
	exit, err := peer.AddrInfoFromString(args[0])
	if err != nil {
		return err
	}
	h, err := newLibp2pHost(s.ip)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Connect(context.Background(), *exit); err != nil {
		return err
	}
	return s.serveTCP(func(client *net.TCPConn) {
		stream, err := h.NewStream(context.Background(), exit.ID, libp2pProtocol)
		if err != nil {
			return
		}
		tie(client, stream)
	})
}

// newLibp2pHost lifts the library's limits, which would refuse the 76th stream
// of one peer.
func newLibp2pHost(ip string) (host.Host, error) {
	limits, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits))
	if err != nil {
		return nil, err
	}
	return libp2p.New(
		libp2p.ListenAddrStrings("/ip4/"+ip+"/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.ResourceManager(limits),
	)
}
