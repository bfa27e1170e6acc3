package portmap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

const (
	pcpVersion     = 2
	pcpAnnounce    = 0
	pcpMap         = 1
	pcpHeaderSize  = 24
	pcpMapSize     = 60
	response       = 0x80 // the bit of an opcode that makes it an answer
	unsupported    = 1    // result code of both protocols for a version that isn't known
	longestAllowed = 24 * time.Hour
)

// errOther is of a packet that answers something else, or nothing. It is as if
// it had never come.
var errOther = errors.New("not an answer to what was asked")

// pcpReasons are the result codes of RFC 6887, section 7.4.
var pcpReasons = []string{
	"success", "unsupported version", "not authorized", "malformed request", "unsupported opcode",
	"unsupported option", "malformed option", "network failure", "no resources", "unsupported protocol",
	"quota exceeded", "external address can't be provided", "address mismatch, as behind another NAT",
	"excessive remote peers",
}

// pcp is a client of PCP.
type pcp struct {
	server netip.AddrPort
	epochs epochs
}

func (p *pcp) protocol() Protocol { return PCP }

// probe sends an ANNOUNCE, which does nothing but have itself answered.
func (p *pcp) probe(ctx context.Context) (reply, error) {
	r, err := exchange(ctx, p.server, func(local netip.Addr) []byte {
		return pcpHeader(pcpAnnounce, 0, local)
	}, func(b []byte) (reply, error) {
		_, r, err := parsePCP(b, pcpAnnounce)
		return r, err
	})
	return p.counted(r, err)
}

func (p *pcp) request(ctx context.Context, a ask) (reply, error) {
	r, err := exchange(ctx, p.server, func(local netip.Addr) []byte { return pcpRequest(a, local) },
		func(b []byte) (reply, error) { return parsePCPMap(b, a) })
	return p.counted(r, err)
}

func (p *pcp) counted(r reply, err error) (reply, error) {
	if err == nil {
		r.forgot = p.epochs.forgot(r.epoch, time.Now(), true)
	}
	return r, err
}

func pcpHeader(op byte, lifetime time.Duration, local netip.Addr) []byte {
	b := make([]byte, pcpHeaderSize, pcpMapSize)
	b[0], b[1] = pcpVersion, op
	binary.BigEndian.PutUint32(b[4:], uint32(lifetime/time.Second))
	ip := local.As16()
	copy(b[8:], ip[:])
	return b
}

func pcpRequest(a ask, local netip.Addr) []byte {
	b := pcpHeader(pcpMap, a.lifetime, local)
	b = append(b, a.nonce[:]...)
	b = append(b, a.proto.number(), 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, a.port)
	b = binary.BigEndian.AppendUint16(b, a.suggested.Port())
	ip := netip.IPv4Unspecified()
	if s := a.suggested.Addr(); s.IsValid() {
		ip = s
	}
	suggested := ip.As16()
	return append(b, suggested[:]...)
}

// parsePCP reads what all answers begin with, and returns what follows. An error
// that is errOther means that the packet is to be passed over.
func parsePCP(b []byte, op byte) (body []byte, r reply, err error) {
	if len(b) >= 4 && b[0] != pcpVersion && b[1]&response != 0 && b[3] == unsupported {
		// From a router that speaks another version only, most often NAT-PMP.
		return nil, reply{}, pcpRefusal(unsupported)
	}
	if len(b) < pcpHeaderSize || b[0] != pcpVersion || b[1] != response|op {
		return nil, reply{}, errOther
	}
	r.lifetime = min(time.Duration(binary.BigEndian.Uint32(b[4:]))*time.Second, longestAllowed)
	r.epoch = binary.BigEndian.Uint32(b[8:])
	if code := int(b[3]); code != 0 {
		err = pcpRefusal(code)
	}
	return b[pcpHeaderSize:], r, err
}

func parsePCPMap(b []byte, a ask) (reply, error) {
	body, r, err := parsePCP(b, pcpMap)
	if body == nil {
		return reply{}, err
	}
	// No option was asked for, so none comes; and a refusal has all of this too.
	if len(body) != pcpMapSize-pcpHeaderSize || !bytes.Equal(body[:12], a.nonce[:]) ||
		body[12] != a.proto.number() || binary.BigEndian.Uint16(body[16:]) != a.port {
		return reply{}, errOther
	}
	if err != nil {
		return reply{}, err
	}
	ip := netip.AddrFrom16([16]byte(body[20:36])).Unmap()
	r.external = netip.AddrPortFrom(ip, binary.BigEndian.Uint16(body[18:]))
	if a.lifetime > 0 && !r.usable() {
		return reply{}, errUseless
	}
	return r, nil
}

func pcpRefusal(code int) error {
	reason := "a code that isn't known"
	if code < len(pcpReasons) {
		reason = pcpReasons[code]
	}
	return &RefusedError{PCP, code, reason}
}
