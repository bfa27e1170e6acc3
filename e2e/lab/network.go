package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A network is a bridge that hosts and routers are plugged into, and the way out
// of it: the Internet, or what is behind a router. The lab's lock guards it.
type network struct {
	lab    *Lab
	ns     *namespace
	bridge string
	router *Router // nil for the Internet

	net4, net6         netip.Prefix // net6 is the zero Prefix where there is no IPv6
	gateway4, gateway6 netip.Addr

	hosts  int // that were ever given an address
	ports  []*port
	cuts   [][2]int // from which port nothing comes to which
	faults string   // the rules that are loaded
	prober *prober
}

// start makes the bridge.
func (n *network) start() error {
	if err := n.ns.sysctl(
		"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/default/send_redirects=0",
		"net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1",
	); err != nil {
		return err
	}
	if err := n.ns.bridge(n.bridge); err != nil {
		return err
	}
	if err := n.ns.anchor(n.bridge); err != nil {
		return err
	}
	addrs := []netip.Prefix{netip.PrefixFrom(n.gateway4, n.net4.Bits())}
	if n.net6.IsValid() {
		addrs = append(addrs, netip.PrefixFrom(n.gateway6, n.net6.Bits()))
	}
	if err := n.ns.address(n.bridge, addrs...); err != nil {
		return err
	}
	return n.ns.local(addrs...)
}

// free returns the next addresses of the network.
func (n *network) free() (a4, a6 netip.Addr, err error) {
	if n.router == nil {
		a4, a6 = n.lab.public()
		return a4, a6, nil
	}
	last := 9 + n.hosts + 1
	if last > 254 {
		return a4, a6, fmt.Errorf("%v is full", n.net4)
	}
	n.hosts++
	b4 := n.net4.Addr().As4()
	b4[3] = byte(last)
	if n.net6.IsValid() {
		b6 := n.net6.Addr().As16()
		b6[15] = byte(last)
		a6 = netip.AddrFrom16(b6)
	}
	return netip.AddrFrom4(b4), a6, nil
}

// A port is where a cable is plugged in. It stays with its host or router when
// that moves to another network.
type port struct {
	id   int
	net  *network
	node *node

	down     bool // by Down
	out, in  Link // from the node, and to it
	emulator *emulator
}

func (p *port) name() string { return fmt.Sprint("p", p.id) }

// up makes the cable carry packets, and waits until it does.
func (p *port) up() error {
	if err := p.net.ns.up(p.name()); err != nil {
		return err
	}
	p.down = false
	return errors.Join(p.net.ns.live(p.name()), p.node.ns.live(p.node.device))
}

// tap is the device that is plugged in instead while the link is emulated.
func (p *port) tap() string { return fmt.Sprint("t", p.id) }

// names are the devices that frames may come from, for the rules.
func (p *port) names() string { return fmt.Sprintf("{ %q, %q }", p.name(), p.tap()) }

// emulated tells whether the kernel leaves the links to the lab's process. It is
// both or none of a port's.
func (p *port) emulated() bool { return p.out.userspace() || p.in.userspace() }

// setFaults loads the rules for links and cuts. They are not about frames that
// the kernel itself needs to find a neighbour: on the Internet that the lab
// stands for there are none.
func (n *network) setFaults() error {
	var in, out strings.Builder
	for _, p := range n.ports {
		if p.net != n {
			continue
		}
		if slices.ContainsFunc(n.cuts, func(c [2]int) bool { return c[0] == p.id }) {
			fmt.Fprintf(&in, "iifname %s meta mark set %d\n", p.names(), p.id)
		}
		for _, w := range []struct {
			rules *strings.Builder
			match string
			link  Link
		}{{&in, "iifname " + p.names(), p.out}, {&out, "oifname " + p.names(), p.in}} {
			if p.emulated() {
				continue
			}
			if w.link.Loss > 0 {
				fmt.Fprintf(w.rules, "%s numgen random mod 100000 < %d drop\n", w.match, int(w.link.Loss*100000+0.5))
			}
			if w.link.MTU > 0 {
				fmt.Fprintf(w.rules, "%s ip length > %d drop\n%s ip6 length > %d drop\n", w.match, w.link.MTU, w.match, w.link.MTU-40)
			}
		}
		for _, c := range n.cuts {
			if c[1] == p.id {
				fmt.Fprintf(&out, "oifname %s meta mark %d drop\n", p.names(), c[0])
			}
		}
	}
	const neighbours = "ether type arp accept\nicmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept\n"
	rules := ""
	if in.Len() > 0 || out.Len() > 0 {
		rules = "chain from { type filter hook prerouting priority 0; policy accept;\n" + neighbours + in.String() + "}\n" +
			"chain to { type filter hook postrouting priority 0; policy accept;\n" + neighbours + out.String() + "}\n"
	}
	if rules == n.faults {
		return nil
	}
	if err := n.ns.nft("table bridge faults\ndelete table bridge faults\ntable bridge faults {\n" + rules + "}\n"); err != nil {
		return err
	}
	n.faults = rules
	return nil
}

// setLinks makes the port's links what they are to be.
func (p *port) setLinks(out, in Link) error {
	was := p.emulator != nil
	p.out, p.in = out, in
	emulated := p.emulated()
	if was && emulated {
		p.emulator.set(out, in)
		return nil
	}
	p.stopEmulating()
	outRate, inRate := out.Rate, in.Rate
	if emulated {
		outRate, inRate = 0, 0
	}
	if err := errors.Join(
		p.node.ns.shape(p.node.device, outRate, out.queue()),
		p.net.ns.shape(p.name(), inRate, in.queue()),
	); err != nil {
		return err
	}
	if emulated {
		if err := p.startEmulating(); err != nil {
			return err
		}
	} else if was {
		if err := p.net.ns.plug(p.name(), p.net.bridge); err != nil {
			return err
		}
	}
	if err := p.net.lab.segment(); err != nil {
		return err
	}
	return p.net.setFaults()
}

// counts tells whether the kernel's rules for the links are about packets, each
// by itself.
func (p *port) counts() bool {
	return !p.emulated() && (p.out.Loss > 0 || p.in.Loss > 0 || p.out.MTU > 0 || p.in.MTU > 0)
}

// segment has all cables carry packets one by one while that matters to a link:
// the loss of one is to be the loss of one, and a length that of a packet.
func (l *Lab) segment() error {
	on := slices.ContainsFunc(l.all, (*port).counts)
	if on == l.segmented {
		return nil
	}
	l.segmented = on
	var errs []error
	for _, p := range l.all {
		errs = append(errs, p.segment(on))
	}
	return errors.Join(errs...)
}

func (p *port) segment(on bool) error {
	return errors.Join(p.node.ns.segment(p.node.device, on), p.net.ns.segment(p.name(), on))
}

// A link between two bridges: the first has only the port.
func (p *port) startEmulating() error {
	ns, inner := p.net.ns, fmt.Sprint("b", p.id)
	if err := ns.bridge(inner); err != nil {
		return err
	}
	// The kernel answers on any device for all addresses that it has, and who
	// believed this one would send past the link.
	if err := ns.sysctl("net/ipv4/conf/"+inner+"/arp_ignore=8", "net/ipv6/conf/"+inner+"/disable_ipv6=1"); err != nil {
		return err
	}
	near, err := ns.tap(fmt.Sprint("u", p.id), inner)
	if err != nil {
		return err
	}
	far, err := ns.tap(p.tap(), p.net.bridge)
	if err != nil {
		near.Close()
		return err
	}
	if err := ns.plug(p.name(), inner); err != nil {
		return errors.Join(err, near.Close(), far.Close())
	}
	p.emulator, err = emulate(near, far, p.out, p.in)
	return err
}

// stopEmulating takes the emulated link away, after which the port is in no
// network.
func (p *port) stopEmulating() {
	if p.emulator == nil {
		return
	}
	p.emulator.close()
	p.emulator = nil
	_ = p.net.ns.remove(fmt.Sprint("b", p.id)) // else it is empty, and in nobody's way
}

// cut stops or lets pass what comes from one port to another.
func (n *network) cut(from, to *port, on bool) error {
	pair := [2]int{from.id, to.id}
	n.cuts = slices.DeleteFunc(n.cuts, func(c [2]int) bool { return c == pair })
	if on {
		n.cuts = append(n.cuts, pair)
	}
	return n.setFaults()
}

// plug gives a node a cable to the network, and addresses in it.
func (n *network) plug(nd *node) error {
	n.lab.ports++
	p := &port{id: n.lab.ports, net: n, node: nd}
	nd.port = p
	if err := cable(nd.ns, nd.device, n.ns, p.name(), n.bridge); err != nil {
		return err
	}
	n.lab.all = append(n.lab.all, p)
	n.ports = append(n.ports, p)
	if err := p.segment(n.lab.segmented); err != nil {
		return err
	}
	if err := n.setFaults(); err != nil {
		return err
	}
	return nd.readdress()
}

// unplug forgets a port, which then goes to another network.
func (n *network) unplug(p *port) error {
	n.ports = slices.DeleteFunc(n.ports, func(q *port) bool { return q == p })
	n.cuts = slices.DeleteFunc(n.cuts, func(c [2]int) bool { return c[0] == p.id || c[1] == p.id })
	return n.setFaults()
}
