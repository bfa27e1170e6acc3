package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Kind is how a router translates addresses. The words are those of RFC 4787
// with the older names that people use.
type Kind uint8

const (
	// None translates nothing and filters nothing: hosts behind it have
	// addresses of the Internet.
	None Kind = iota
	// FullCone gives a socket one public port for all destinations, and lets
	// anybody answer there: mapping and filtering are endpoint-independent.
	FullCone
	// AddressRestricted maps as FullCone does, and lets in what comes from an
	// address that the socket has sent to, from any of its ports.
	AddressRestricted
	// PortRestricted maps as FullCone does, and lets in only what comes from an
	// address and port that the socket has sent to. It is the usual home router.
	PortRestricted
	// Symmetric gives a socket another port for each address and port that it
	// sends to, and filters as PortRestricted does.
	Symmetric
)

func (k Kind) String() string {
	names := []string{"none", "full cone", "address-restricted", "port-restricted", "symmetric"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// NAT describes a router. The zero NAT translates nothing and lets all pass.
// FullCone and AddressRestricted are that for UDP; TCP is always filtered by
// address and port.
type NAT struct {
	// Kind is what the router does to addresses of IPv4.
	Kind Kind

	// Hairpin lets hosts behind the router reach each other by UDP at their
	// public addresses. Such packets are not filtered, and seem to come from
	// outside.
	Hairpin bool

	// OpenInput makes a router that answers packets to itself that nobody asked
	// for, instead of dropping them. On a PortRestricted one such a packet takes
	// the port that a mapping was about to use with its sender, so that the
	// socket appears there with another.
	OpenInput bool

	// Remap makes public ports differ from the ports of the sockets. Otherwise
	// they are the same where they are free. Symmetric always has them differ.
	Remap bool

	// UDPBlocked drops UDP of hosts behind the router, except to port 53.
	UDPBlocked bool

	// UDPReject is UDPBlocked with an ICMP message to the sender.
	UDPReject bool

	// OnlyTCP443 drops all but TCP to port 443, and ICMP.
	OnlyTCP443 bool

	// UDPTimeout is how long a mapping lives without a packet, in whole seconds.
	// Zero means 30 seconds, and 120 once packets went both ways; cones let in
	// others for 120 in any case.
	UDPTimeout time.Duration

	// IPv6 gives hosts behind the router public addresses of IPv6 too, which are
	// not translated, and lets in only answers. Where Kind is None hosts have
	// them anyhow, and all is let in. Behind a router that has none there are none.
	IPv6 bool

	// Carrier puts the hosts and routers behind this one in 100.64.0.0/10,
	// which providers use, instead of 10.0.0.0/8.
	Carrier bool
}

func (n NAT) String() string {
	words := []string{n.Kind.String()}
	for _, f := range []struct {
		set  bool
		name string
	}{
		{n.Hairpin, "hairpin"}, {n.OpenInput, "open input"}, {n.Remap, "remap"}, {n.UDPBlocked, "UDP blocked"},
		{n.UDPReject, "UDP rejected"}, {n.OnlyTCP443, "only TCP 443"}, {n.UDPTimeout != 0, "timeout " + n.UDPTimeout.String()},
		{n.IPv6, "IPv6"}, {n.Carrier, "carrier"},
	} {
		if f.set {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, ", ")
}

// timeouts returns how many seconds a connection of UDP is remembered that had
// packets one way, and both.
func (n NAT) timeouts() (oneWay, bothWays int) {
	if n.UDPTimeout == 0 {
		return 30, 120
	}
	s := max(1, int(n.UDPTimeout.Seconds()))
	return s, s
}

// cone tells whether others than the peers of a connection may send to a port.
func (n NAT) cone() bool { return n.Kind == FullCone || n.Kind == AddressRestricted }

// Public ports of a router that doesn't keep ports: above those that sockets
// are given, and in halves of which a reboot takes the other.
var remapPorts = [2]string{"61000-63200", "63201-65500"}

// rules returns the packet rules of a router.
//
// The kernel's translation alone is endpoint-independent in its mapping, keeps
// ports where it can and filters by connection, which is address and port. What
// it lacks for the cones is done by a map of public ports to sockets. One thing
// needs care: a packet to the router that nobody asked for is remembered as a
// connection of the router, unless it is dropped, and a later packet of a host
// to the same peer then can't have the port that it should.
func (n NAT) rules(wan netip.Addr, lan netip.Prefix, boots int) string {
	var b strings.Builder
	add := func(when bool, lines ...string) {
		if when {
			b.WriteString(strings.Join(lines, "\n") + "\n")
		}
	}
	nat := n.Kind != None
	_, timeout := n.timeouts()
	life := fmt.Sprintf("timeout %ds", timeout)

	// A table is made so that there is one to delete.
	add(true, "table inet lab", "delete table inet lab", "table ip lab", "delete table ip lab", "table inet lab {")
	add(n.Kind == AddressRestricted, "set contacts { type ipv4_addr . ipv4_addr . inet_service; flags dynamic,timeout; "+life+"; size 65536; }")
	add(true, "chain input { type filter hook input priority 0; policy accept;")
	add(nat && !n.OpenInput,
		`iifname "wan" meta l4proto != ipv6-icmp ct state new drop`)
	add(nat, fmt.Sprintf(`iifname "lan" ip daddr %v meta l4proto { tcp, udp } drop`, wan)) // no hairpin is silence
	add(true, "}", "chain through { type filter hook forward priority 0; policy accept;")
	add(n.OnlyTCP443,
		`iifname "lan" oifname "wan" meta l4proto udp drop`,
		`iifname "lan" oifname "wan" tcp dport != 443 drop`)
	add(n.UDPReject, `iifname "lan" oifname "wan" udp dport != 53 reject with icmpx type admin-prohibited`)
	add(n.UDPBlocked, `iifname "lan" oifname "wan" udp dport != 53 drop`)
	add(n.Kind == AddressRestricted,
		`oifname "wan" meta l4proto udp update @contacts { ip daddr . ip saddr . udp sport `+life+` }`,
		`iifname "wan" ip saddr . ip daddr . udp dport @contacts accept`)
	add(n.Kind == FullCone, `iifname "wan" ct status dnat accept`)
	add(nat, `iifname "wan" ct mark 1 accept`) // see forwards
	add(nat,
		`iifname "wan" ct state established,related accept`,
		`iifname "wan" meta l4proto != ipv6-icmp drop`)
	add(true, "}", "}")
	if !nat {
		return b.String()
	}

	ports := ""
	switch {
	case n.Kind == Symmetric:
		ports = " random"
	case n.Remap || boots > 0:
		ports = ":" + remapPorts[boots%2]
	}
	mapped := n.cone() || n.Hairpin
	add(true, "table ip lab {")
	add(mapped, "map sockets { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; "+life+"; size 65536; }")
	add(true, "chain pre { type nat hook prerouting priority dstnat; policy accept;")
	add(n.cone(), `iifname "wan" meta l4proto udp dnat to udp dport map @sockets`)
	add(n.Hairpin, fmt.Sprintf(`iifname "lan" ip daddr %v meta l4proto udp dnat to udp dport map @sockets`, wan))
	add(true, "}", "chain post { type nat hook postrouting priority srcnat; policy accept;")
	for _, from := range []string{
		`oifname "wan"`,
		fmt.Sprintf("ip saddr %v ip daddr %v", lan, lan), // hairpin
	} {
		add(true,
			fmt.Sprintf("%s meta l4proto { tcp, udp } snat to %v%s", from, wan, ports),
			fmt.Sprintf("%s snat to %v", from, wan))
	}
	add(true, "}")
	add(mapped,
		"chain learn { type filter hook postrouting priority srcnat + 10; policy accept;",
		`oifname "wan" meta l4proto udp ct direction original update @sockets { udp sport `+life+` : ct original ip saddr . ct original proto-src }`,
		`oifname "wan" meta l4proto udp ct direction reply update @sockets { udp sport `+life+` : ct reply ip saddr . ct reply proto-src }`,
		"}")
	add(true, "}")
	return b.String()
}

// A forward is what a router was told to let in.
type forward struct {
	network string // "udp" or "tcp"
	port    uint16
}

// forwardRules returns the rules for forwards, apart from the others so that
// these keep what they have learned.
func forwardRules(to map[forward]netip.AddrPort) string {
	var b strings.Builder
	b.WriteString("table ip forwards\ndelete table ip forwards\ntable ip forwards {\n" +
		"chain pre { type nat hook prerouting priority dstnat - 1; policy accept;\n")
	for f, at := range to {
		fmt.Fprintf(&b, "iifname \"wan\" %s dport %d ct mark set 1 dnat to %v\n", f.network, f.port, at)
	}
	b.WriteString("}\n}\n")
	return b.String()
}
