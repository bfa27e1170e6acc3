package portmaptest

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// Result codes of RFC 6886, section 3.5.
const (
	natpmpVersion   = 1
	natpmpNetwork   = 3
	natpmpResources = 4
	natpmpOpcode    = 5
)

// Result codes of RFC 6887, section 7.4.
const (
	pcpVersion       = 1
	pcpNotAuthorized = 2
	pcpMalformed     = 3
	pcpOpcode        = 4
	pcpNetwork       = 7
	pcpResources     = 8
	pcpProtocol      = 9
	pcpMismatch      = 12
)

func (s *Server) epoch() uint32 { return uint32(time.Since(s.started) / time.Second) }

// codeOf returns the result code for an error of Action.
func codeOf(err error, other int) int {
	var c Code
	if errors.As(err, &c) {
		return int(c)
	}
	return other
}

func (s *Server) natpmpHeader(op byte, code int) []byte {
	b := []byte{0, 0x80 | op}
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return binary.BigEndian.AppendUint32(b, s.epoch())
}

func (s *Server) natpmp(b []byte, from netip.AddrPort) []byte {
	op := b[1]
	switch {
	case op == 0 && !s.config.External.IsValid():
		return append(s.natpmpHeader(op, natpmpNetwork), 0, 0, 0, 0)
	case op == 0:
		ip := s.config.External.As4()
		return append(s.natpmpHeader(op, 0), ip[:]...)
	case op > 2:
		return s.natpmpHeader(op, natpmpOpcode)
	case len(b) < 12:
		return nil
	}
	proto := []string{"", "udp", "tcp"}[op]
	port, suggested := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	lifetime := time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Second
	k := key{proto, netip.AddrPortFrom(from.Addr(), port)}
	var m Mapping
	var err error
	if lifetime == 0 {
		err = s.revoke(k)
	} else {
		m, err = s.grant(k, suggested, lifetime, [12]byte{})
		lifetime = min(lifetime, s.config.MaxLifetime)
	}
	code := 0
	if err != nil {
		code, lifetime = codeOf(err, natpmpResources), 0
	}
	out := s.natpmpHeader(op, code)
	out = binary.BigEndian.AppendUint16(out, port)
	out = binary.BigEndian.AppendUint16(out, m.External)
	return binary.BigEndian.AppendUint32(out, uint32(lifetime/time.Second))
}

func (s *Server) pcp(b []byte, from netip.AddrPort) []byte {
	if len(b) < 24 || len(b)%4 != 0 {
		return nil
	}
	op := b[1]
	switch {
	case b[0] != 2:
		return s.pcpAnswer(b, pcpVersion, 0)
	case netip.AddrFrom16([16]byte(b[8:24])).Unmap() != from.Addr():
		return s.pcpAnswer(b, pcpMismatch, 0)
	case op == 0:
		return s.pcpAnswer(b, 0, 0)
	case op != 1:
		return s.pcpAnswer(b, pcpOpcode, 0)
	case len(b) < 60:
		return s.pcpAnswer(b, pcpMalformed, 0)
	}
	return s.pcpMap(b, from)
}

// pcpAnswer makes an answer of a request, which it repeats (RFC 6887, section
// 8.3).
func (s *Server) pcpAnswer(b []byte, code int, lifetime time.Duration) []byte {
	out := append([]byte(nil), b...)
	out[0], out[1], out[2], out[3] = 2, b[1]|0x80, 0, byte(code)
	binary.BigEndian.PutUint32(out[4:], uint32(lifetime/time.Second))
	binary.BigEndian.PutUint32(out[8:], s.epoch())
	clear(out[12:24])
	return out
}

func (s *Server) pcpMap(b []byte, from netip.AddrPort) []byte {
	lifetime := time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second
	nonce := [12]byte(b[24:36])
	proto, ok := map[byte]string{6: "tcp", 17: "udp"}[b[36]]
	if !ok {
		return s.pcpAnswer(b, pcpProtocol, 0)
	}
	port, suggested := binary.BigEndian.Uint16(b[40:]), binary.BigEndian.Uint16(b[42:])
	k := key{proto, netip.AddrPortFrom(from.Addr(), port)}
	if old, ok := s.mappings[k]; ok && old.nonce != nonce {
		return s.pcpAnswer(b, pcpNotAuthorized, 0)
	}
	if lifetime == 0 {
		if err := s.revoke(k); err != nil {
			return s.pcpAnswer(b, codeOf(err, pcpResources), 0)
		}
		return s.pcpAnswer(b, 0, 0)
	}
	if !s.config.External.IsValid() {
		return s.pcpAnswer(b, pcpNetwork, 0)
	}
	m, err := s.grant(k, suggested, lifetime, nonce)
	if err != nil {
		return s.pcpAnswer(b, codeOf(err, pcpResources), 0)
	}
	out := s.pcpAnswer(b, 0, min(lifetime, s.config.MaxLifetime))
	binary.BigEndian.PutUint16(out[42:], m.External)
	ip := s.config.External.As16()
	copy(out[44:60], ip[:])
	return out
}
