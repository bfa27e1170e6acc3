package forward

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// What a PROXY protocol header says of a member beside the address that its stream
// came from, in types that are left to those who use the protocol.
const (
	// TypeMember is the type of the value that holds the member's name.
	TypeMember = 0xE0

	// TypePeer is the type of the value that holds its peer ID, as text.
	TypePeer = 0xE1
)

// A fromMember is a stream that knows who opened it, and by which address of the
// network, if by one; an overlay.Conn is one.
type fromMember interface {
	Origin() (name, id string, from netip.Addr)
}

// writeHeader tells a target who is about to speak, by version 2 of HAProxy's PROXY
// protocol.
func writeHeader(target, accepted net.Conn) error {
	h, err := headerOf(accepted, target.RemoteAddr())
	if err == nil {
		_, err = h.WriteTo(target)
	}
	if err != nil {
		return fmt.Errorf("tell the target of the member: %w", reason(err))
	}
	return nil
}

func headerOf(accepted net.Conn, target net.Addr) (*proxyproto.Header, error) {
	h := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	m, ok := accepted.(fromMember)
	if !ok {
		return h, nil
	}
	name, id, from := m.Origin()
	if from = from.Unmap(); from.IsValid() {
		h.Command = proxyproto.PROXY
		h.SourceAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)) // no port is known
		h.DestinationAddr = net.TCPAddrFromAddrPort(toward(target, from))
		h.TransportProtocol = proxyproto.TCPv6
		if from.Is4() {
			h.TransportProtocol = proxyproto.TCPv4
		}
	}
	return h, h.SetTLVs([]proxyproto.TLV{{Type: TypeMember, Value: []byte(name)}, {Type: TypePeer, Value: []byte(id)}})
}

// toward returns where the target is, or no address if that is of another family,
// as both in a header are of one.
func toward(target net.Addr, from netip.Addr) netip.AddrPort {
	if tcp, ok := target.(*net.TCPAddr); ok {
		at := tcp.AddrPort()
		if at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port()); at.Addr().Is4() == from.Is4() {
			return at
		}
	}
	if from.Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
}
