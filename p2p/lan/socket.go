package lan

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

type family int

const (
	v4 family = iota
	v6
)

func familyOf(ip netip.Addr) family {
	if ip.Is4() {
		return v4
	}
	return v6
}

func (f family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

// Where mDNS is spoken, by RFC 6762.
var groups = [...]*net.UDPAddr{
	v4: {IP: net.IPv4(224, 0, 0, 251), Port: 5353},
	v6: {IP: net.ParseIP("ff02::fb"), Port: 5353},
}

const (
	maxPacket = 1500
	// A flood is read no faster than this. The kernel drops what is beyond, and
	// with it some of what is wanted, that is said again.
	maxPacketsPerSecond = 1000
	// A packet may be refused, as Windows does with one that is too long. A socket
	// that refuses all is of no use.
	maxFailuresPerSecond = 100
)

// A packet is what came on a link.
type packet struct {
	index int // of the interface; 0 if the system does not tell
	from  netip.Addr
	data  []byte
}

// A socket speaks mDNS in one family on any number of links.
type socket struct {
	family
	conn net.PacketConn
	p4   *ipv4.PacketConn // one of the two
	p6   *ipv6.PacketConn
}

// openSocket opens the port, which the other speakers of the machine share.
func openSocket(ctx context.Context, f family) (*socket, error) {
	network := [...]string{"udp4", "udp6"}[f]
	// Given a multicast address, package net lets others have the port too.
	c, err := new(net.ListenConfig).ListenPacket(ctx, network, groups[f].String())
	if err != nil {
		return nil, fmt.Errorf("mDNS on %v: %w", f, err)
	}
	s := &socket{family: f, conn: c}
	// What is refused here is missing on that system only, and can be done without.
	if f == v4 {
		s.p4 = ipv4.NewPacketConn(c)
		_ = s.p4.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
		_ = s.p4.SetBPF(onlyAboutUs)
		_ = s.p4.SetMulticastTTL(255)
		_ = s.p4.SetMulticastLoopback(true) // for the nodes of this machine
		return s, nil
	}
	s.p6 = ipv6.NewPacketConn(c)
	_ = s.p6.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
	_ = s.p6.SetBPF(onlyAboutUs)
	_ = s.p6.SetMulticastHopLimit(255)
	_ = s.p6.SetMulticastLoopback(true)
	return s, nil
}

// onlyAboutUs has the kernel drop what does not begin as our messages do, so that
// the chatter of a large network does not wake up each node of a machine.
var onlyAboutUs = func() []bpf.RawInstruction {
	const udpHeader = 8
	const first = udpHeader + headerLen
	word := func(at int) uint32 { return binary.BigEndian.Uint32([]byte(beginning[at:])) }
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: first, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: word(0), SkipTrue: 3},
		bpf.LoadAbsolute{Off: first + 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: word(4), SkipTrue: 1},
		bpf.RetConstant{Val: udpHeader + maxPacket},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil // none of the above can't be assembled
	}
	return program
}()

// join makes the socket hear what is said on a link, again if it did before: the
// interface may have been down or on another network meanwhile.
func (s *socket) join(l link) error {
	i, group := &net.Interface{Index: l.index, Name: l.name}, groups[s.family]
	if s.p4 != nil {
		_ = s.p4.LeaveGroup(i, group)
		return s.p4.JoinGroup(i, group)
	}
	_ = s.p6.LeaveGroup(i, group)
	return s.p6.JoinGroup(i, group)
}

func (s *socket) leave(l link) {
	i, group := &net.Interface{Index: l.index, Name: l.name}, groups[s.family]
	if s.p4 != nil {
		_ = s.p4.LeaveGroup(i, group)
	} else {
		_ = s.p6.LeaveGroup(i, group)
	}
}

// send says something on a link. Only one goroutine may.
func (s *socket) send(l link, data []byte) error {
	i := &net.Interface{Index: l.index, Name: l.name}
	if s.p4 != nil {
		if err := s.p4.SetMulticastInterface(i); err != nil {
			return err
		}
	} else if err := s.p6.SetMulticastInterface(i); err != nil {
		return err
	}
	_, err := s.conn.WriteTo(data, groups[s.family])
	return err
}

// read returns the next packet that was sent to the group.
func (s *socket) read(buf []byte) (packet, error) {
	for {
		n, index, dst, from, err := s.readAny(buf)
		if err != nil {
			return packet{}, err
		}
		addr, ok := from.(*net.UDPAddr)
		if !ok || dst != nil && !dst.IsMulticast() {
			continue // whoever asks one node alone may be anywhere
		}
		return packet{index, addr.AddrPort().Addr().Unmap(), buf[:n]}, nil
	}
}

func (s *socket) readAny(buf []byte) (n, index int, dst net.IP, from net.Addr, err error) {
	if s.p4 != nil {
		n, cm, from, err := s.p4.ReadFrom(buf)
		if cm != nil {
			index, dst = cm.IfIndex, cm.Dst
		}
		return n, index, dst, from, err
	}
	n, cm, from, err := s.p6.ReadFrom(buf)
	if cm != nil {
		index, dst = cm.IfIndex, cm.Dst
	}
	return n, index, dst, from, err
}
