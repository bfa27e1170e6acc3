package portmap

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	natpmpAddress     = 0
	natpmpUDP         = 1
	natpmpTCP         = 2
	natpmpAddressSize = 12
	natpmpMapSize     = 16
)

// natpmpReasons are the result codes of RFC 6886, section 3.5.
var natpmpReasons = []string{
	"success", "unsupported version", "not authorized", "network failure", "out of resources", "unsupported opcode",
}

// natpmp is a client of NAT-PMP. There are libraries for it, but none that tells
// result codes and the router's count of time, and that can be stopped.
type natpmp struct {
	server netip.AddrPort
	epochs epochs
}

func (n *natpmp) protocol() Protocol { return NATPMP }

// probe asks for the external address, without a port.
func (n *natpmp) probe(ctx context.Context) (reply, error) {
	r, err := exchange(ctx, n.server, func(netip.Addr) []byte { return []byte{0, natpmpAddress} }, parseNATPMPAddress)
	return n.counted(r, err)
}

// request asks for the port first, as routers have an address only when they
// are online, and may be asked for a mapping long before.
func (n *natpmp) request(ctx context.Context, a ask) (reply, error) {
	r, err := exchange(ctx, n.server, func(netip.Addr) []byte { return natpmpRequest(a) },
		func(b []byte) (reply, error) { return parseNATPMPMap(b, a) })
	if r, err = n.counted(r, err); err != nil || a.lifetime == 0 {
		return r, err
	}
	at, err := n.probe(ctx)
	if err != nil {
		return reply{}, err
	}
	r.external = netip.AddrPortFrom(at.external.Addr(), r.external.Port())
	r.forgot = r.forgot || at.forgot
	if !r.usable() {
		return reply{}, errUseless
	}
	return r, nil
}

func (n *natpmp) counted(r reply, err error) (reply, error) {
	if err == nil {
		r.forgot = n.epochs.forgot(r.epoch, time.Now(), false)
	}
	return r, err
}

func natpmpOp(p Proto) byte {
	if p == TCP {
		return natpmpTCP
	}
	return natpmpUDP
}

func natpmpRequest(a ask) []byte {
	b := []byte{0, natpmpOp(a.proto), 0, 0}
	b = binary.BigEndian.AppendUint16(b, a.port)
	b = binary.BigEndian.AppendUint16(b, a.suggested.Port())
	return binary.BigEndian.AppendUint32(b, uint32(a.lifetime/time.Second))
}

// parseNATPMP checks what all answers begin with. A refusal may end there.
func parseNATPMP(b []byte, op byte, size int) (reply, error) {
	if len(b) < 8 || b[0] != 0 || b[1] != response|op {
		return reply{}, errOther
	}
	if code := int(binary.BigEndian.Uint16(b[2:])); code != 0 {
		reason := "a code that isn't known"
		if code < len(natpmpReasons) {
			reason = natpmpReasons[code]
		}
		return reply{}, &RefusedError{NATPMP, code, reason}
	}
	if len(b) != size {
		return reply{}, errOther
	}
	return reply{epoch: binary.BigEndian.Uint32(b[4:])}, nil
}

func parseNATPMPAddress(b []byte) (reply, error) {
	r, err := parseNATPMP(b, natpmpAddress, natpmpAddressSize)
	if err == nil {
		r.external = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[8:12])), 0)
	}
	return r, err
}

func parseNATPMPMap(b []byte, a ask) (reply, error) {
	r, err := parseNATPMP(b, natpmpOp(a.proto), natpmpMapSize)
	if err != nil {
		return reply{}, err
	}
	if binary.BigEndian.Uint16(b[8:]) != a.port {
		return reply{}, errOther
	}
	r.external = netip.AddrPortFrom(netip.Addr{}, binary.BigEndian.Uint16(b[10:]))
	r.lifetime = min(time.Duration(binary.BigEndian.Uint32(b[12:]))*time.Second, longestAllowed)
	return r, nil
}
