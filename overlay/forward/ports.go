package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// maxPorts is more than any range can need.
const maxPorts = maxAddress + len("-65535")

// Ports are a range of TCP or UDP ports of one host. They can be compared. The zero
// Ports are none.
type Ports struct {
	first Address
	last  uint16
}

// ParsePorts reads a range of ports, the first and the last, in one of these forms:
//
//	8000-8999               ports of 127.0.0.1
//	192.0.2.7:8000-8999     of that IPv4 address
//	[::1]:8000-8999         of that IPv6 address
//	localhost:8000-8999     of what that name resolves to
//	udp:5000-5010           UDP ports of 127.0.0.1
//	udp:[::1]:5000-5010     UDP ports of that address, or of a name
func ParsePorts(s string) (Ports, error) {
	if len(s) > maxPorts {
		return Ports{}, fmt.Errorf("ports of %d bytes: the longest have %d", len(s), maxPorts)
	}
	p, err := parsePorts(s)
	if err != nil {
		return Ports{}, fmt.Errorf("ports %q: %w", s, err)
	}
	return p, nil
}

func parsePorts(s string) (p Ports, err error) {
	dash := strings.LastIndexByte(s, '-')
	switch {
	case strings.HasPrefix(s, unixPrefix):
		return p, errors.New("a unix socket has none")
	case dash < 0 || dash < strings.LastIndexByte(s, ':'):
		return p, errors.New("want the first and the last, as 8000-8999")
	}
	first, err := parseAddress(s[:dash])
	if err != nil {
		return p, err
	}
	last, err := parsePort(s[dash+1:])
	switch {
	case err != nil:
		return p, err
	case first.port == 0:
		return p, errors.New("port 0 can't be dialled")
	case last < first.port:
		return p, fmt.Errorf("the last, %d, is below the first, %d", last, first.port)
	}
	return Ports{first, last}, nil
}

// Range returns the first port and the last.
func (p Ports) Range() (first, last uint16) { return p.first.port, p.last }

// Network returns "tcp" or "udp".
func (p Ports) Network() string { return p.first.Network() }

// String returns the range in the form that ParsePorts reads, with the host written
// out.
func (p Ports) String() string { return p.first.String() + "-" + strconv.Itoa(int(p.last)) }

// At returns the address of the port that a service is named like, in decimal. It is an
// error if that is not in the range.
func (p Ports) At(service string) (Address, error) {
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || strconv.FormatUint(port, 10) != service || port == 0 || port < uint64(p.first.port) || port > uint64(p.last) {
		return Address{}, fmt.Errorf("%.80q is no port of %v", service, p)
	}
	a := p.first
	a.port = uint16(port)
	return a, nil
}

// NewExposePorts is [NewExpose] for a range of ports. The streams that ln accepts tell
// by a method Service() string which service they are for, which is a port in decimal:
// to that one they are tied. The listener is to accept none for what is not in the
// range; such a stream is reset.
func NewExposePorts(ln net.Listener, ports Ports, c Config) (*Expose, error) {
	var err error
	if ports == (Ports{}) {
		err = errors.New("there are no ports")
	}
	return newExpose(ln, ports, ports.route, c, err)
}

func (p Ports) route(accepted net.Conn) (dialling, near) {
	service := ""
	if c, ok := accepted.(interface{ Service() string }); ok {
		service = c.Service()
	}
	a, err := p.At(service)
	if err != nil {
		return func(context.Context) (net.Conn, error) { return nil, err }, near{}
	}
	return a.dial, a.near()
}
