package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	// The longest path that a socket can have on this system: the kernel's
	// field less the zero that ends it.
	maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

	// RFC 1035, section 2.3.4, less the length bytes at both ends.
	maxHost = 253

	// More than any address can need, so that a longer text is refused unread.
	maxAddress = len(udpPrefix) + maxHost + len("[]:65535")

	unixPrefix = "unix:"
	udpPrefix  = "udp:"
	loopback   = "127.0.0.1"
)

// An Address names a local socket, one to listen on or one to dial: a TCP or UDP
// port or, on the file system, a unix socket. Addresses can be compared. The zero
// Address is 127.0.0.1:0; to listen there is to listen on a free port.
type Address struct {
	host string // empty for 127.0.0.1
	port uint16
	udp  bool
	path string // of a unix socket, and then all else is zero
}

// ParseAddress reads an address in one of these forms:
//
//	8080                port 8080 of 127.0.0.1
//	127.0.0.1:8080      port 8080 of that IPv4 address
//	[::1]:8080          port 8080 of that IPv6 address
//	localhost:8080      port 8080 of what that name resolves to
//	udp:53              UDP port 53 of 127.0.0.1
//	udp:[::1]:53        UDP port 53 of that address, or of a name
//	unix:/run/db.sock   a unix socket, by its absolute path
//
// A host is never left out: to listen on all interfaces, write 0.0.0.0 or [::].
func ParseAddress(s string) (Address, error) {
	if len(s) > maxAddress {
		return Address{}, fmt.Errorf("address of %d bytes: the longest has %d", len(s), maxAddress)
	}
	a, err := parseAddress(s)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: %w", s, err)
	}
	return a, nil
}

func parseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		return Address{path: path}, checkPath(path)
	}
	rest, udp := strings.CutPrefix(s, udpPrefix)
	if rest == "" {
		return Address{}, errors.New("empty")
	}
	a, err := parsePortOrBoth(rest)
	if err != nil {
		return Address{}, err
	}
	a.udp = udp
	return a, nil
}

func parsePortOrBoth(s string) (Address, error) {
	if strings.Contains(s, ":") {
		return parseHostPort(s)
	}
	port, err := parsePort(s)
	return Address{port: port}, err
}

// lowestFree is the first port that any program may listen on by custom.
const lowestFree = 1024

// ParseListen is ParseAddress for an address to listen on. A port below 1024 is
// refused unless the host is there too: those are the system's, and a listener on
// one is asked for in full.
func ParseListen(s string) (Address, error) {
	a, err := ParseAddress(s)
	if err != nil {
		return Address{}, err
	}
	bare := !strings.Contains(strings.TrimPrefix(s, udpPrefix), ":")
	if bare && 0 < a.port && a.port < lowestFree {
		return Address{}, fmt.Errorf("address %q: ports below %d are the system's: to listen on one, write %v", s, lowestFree, a)
	}
	return a, nil
}

// addressAt returns the address of a port.
func addressAt(at netip.AddrPort, udp bool) Address {
	a := Address{host: at.Addr().Unmap().String(), port: at.Port(), udp: udp}
	if a.host == loopback {
		a.host = ""
	}
	return a
}

func parseHostPort(s string) (a Address, err error) {
	host, port, err := net.SplitHostPort(s)
	if addr := (*net.AddrError)(nil); errors.As(err, &addr) {
		return a, errors.New(addr.Err) // without the address, which the caller names
	}
	if err != nil {
		return a, err
	}
	if a.host, err = parseHost(host); err != nil {
		return a, err
	}
	a.port, err = parsePort(port)
	return a, err
}

// parseHost returns the form in which Address keeps a host.
func parseHost(s string) (string, error) {
	switch ip, err := netip.ParseAddr(s); {
	case s == "":
		return "", errors.New("empty host")
	case s == "tcp" || s == "udp":
		// Kept free for prefixes like that of unix sockets.
		return "", fmt.Errorf("unknown prefix %q", s+":")
	case s == loopback:
		return "", nil
	case err == nil:
		return ip.String(), nil
	}
	return s, checkName(s)
}

// checkName refuses what no resolver would take, and names that end in a number,
// which are mistyped IPv4 addresses: no top-level domain is one.
func checkName(s string) error {
	if len(s) > maxHost {
		return fmt.Errorf("host of %d bytes: the longest name has %d", len(s), maxHost)
	}
	last := ""
	for last = range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if last == "" || strings.ContainsFunc(last, notInName) {
			return fmt.Errorf("host %q is neither an IP address nor a name", s)
		}
	}
	if _, err := strconv.ParseUint(last, 10, 64); err == nil {
		return fmt.Errorf("host %q is not an IP address", s)
	}
	return nil
}

func notInName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	}
	return true
}

func parsePort(s string) (uint16, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("port %s is out of range: the highest is 65535", s)
	case err != nil:
		return 0, fmt.Errorf("port %q is not a number", s)
	}
	return uint16(port), nil
}

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("empty path")
	case !filepath.IsAbs(path):
		return errors.New("the path is relative")
	case strings.ContainsRune(path, 0):
		return errors.New("the path contains a zero byte")
	case len(path) > maxPath:
		return fmt.Errorf("the path has %d bytes: this system allows a socket %d", len(path), maxPath)
	}
	return nil
}

// Network returns "tcp", "udp" or "unix".
func (a Address) Network() string {
	switch {
	case a.path != "":
		return "unix"
	case a.udp:
		return "udp"
	}
	return "tcp"
}

// String returns the address in the form that ParseAddress reads, with the host
// written out.
func (a Address) String() string {
	if a.path != "" {
		return unixPrefix + a.path
	}
	if a.udp {
		return udpPrefix + a.hostPort()
	}
	return a.hostPort()
}

func (a Address) hostPort() string {
	host := a.host
	if host == "" {
		host = loopback
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.port)))
}

// endpoint returns what net.Dial and net.Listen take.
func (a Address) endpoint() (network, address string) {
	if a.path != "" {
		return "unix", a.path
	}
	network = a.Network()
	// Package net takes 0.0.0.0 with "tcp" to mean IPv6 too; who wrote an IPv4
	// address did not.
	if ip, err := netip.ParseAddr(a.host); a.host == "" || err == nil && ip.Is4() {
		return network + "4", a.hostPort()
	}
	return network, a.hostPort()
}
