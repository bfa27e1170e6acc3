package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
)

// Family is which of IPv4 and IPv6 a host has.
type Family uint8

const (
	// Both is what the network offers: IPv4, and IPv6 where there is any.
	Both Family = iota
	// IPv4 is no address of IPv6.
	IPv4
	// IPv6 is no address of IPv4.
	IPv6
)

// A node is a namespace with a cable, which a Host and a Router are.
type node struct {
	lab    *Lab
	name   string
	ns     *namespace
	device string // the cable's end inside
	family Family

	// Guarded by the lab's lock.
	port         *port
	addr4, addr6 netip.Addr
	extra        netip.Addr // a second address of IPv4, of probers
}

// newNode makes a namespace and plugs it into a network.
func (n *network) newNode(name, device string, family Family) (*node, error) {
	ns, err := n.lab.space()
	if err != nil {
		return nil, err
	}
	nd := &node{lab: n.lab, name: name, ns: ns, device: device, family: family}
	return nd, n.plug(nd)
}

// readdress gives the node new addresses in its network, and the way out.
func (n *node) readdress() error {
	var err error
	if n.addr4, n.addr6, err = n.port.net.free(); err != nil {
		return err
	}
	return n.configure()
}

// configure gives the device the node's addresses.
func (n *node) configure() error {
	net := n.port.net
	if n.family == IPv6 {
		n.addr4 = netip.Addr{}
	}
	if n.family == IPv4 || !net.net6.IsValid() {
		n.addr6 = netip.Addr{}
	}
	var addrs []netip.Prefix
	for _, a := range []netip.Addr{n.addr4, n.extra} {
		if a.IsValid() {
			addrs = append(addrs, netip.PrefixFrom(a, net.net4.Bits()))
		}
	}
	if n.addr6.IsValid() {
		addrs = append(addrs, netip.PrefixFrom(n.addr6, net.net6.Bits()))
	}
	if err := n.ns.address(n.device, addrs...); err != nil {
		return err
	}
	if !n.port.down {
		if err := n.ns.local(addrs...); err != nil {
			return err
		}
	}
	if n.addr4.IsValid() {
		if err := n.ns.route(all4, net.gateway4); err != nil {
			return err
		}
	}
	if n.addr6.IsValid() {
		return n.ns.route(all6, net.gateway6)
	}
	return nil
}

// A Host is a machine with one network device, eth0.
type Host struct{ node }

// Host adds a host that is directly on the Internet. Without a family it has
// both.
func (l *Lab) Host(name string, family ...Family) *Host { return l.internet.host(name, family) }

func (n *network) host(name string, family []Family) *Host {
	h := &Host{node{lab: n.lab, name: name}}
	n.lab.check("host "+name, n.lab.locked(func() error {
		if n.ns == nil {
			return fmt.Errorf("there is no network to be in")
		}
		nd, err := n.newNode(name, "eth0", append(slices.Clone(family), Both)[0])
		if err == nil {
			h.node = *nd
			h.port.node = &h.node
		}
		return err
	}))
	return h
}

// change runs f with the lab locked, for a method that is named.
func (n *node) change(what string, f func() error) {
	n.lab.check(n.name+": "+what, n.lab.locked(func() error {
		if n.port == nil {
			return fmt.Errorf("it was not made")
		}
		return f()
	}))
}

// Name returns the name that it was made with.
func (n *node) Name() string { return n.name }

// Namespace returns the name of its network namespace, for tools such as ip and
// tcpdump: "ip netns exec NAME".
func (n *node) Namespace() string {
	if n.ns == nil {
		return ""
	}
	return n.ns.name
}

// Addr returns its address of IPv4 in the network that it is in, the zero Addr
// if it has none.
func (n *node) Addr() netip.Addr {
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	return n.addr4
}

// Addr6 returns its public address of IPv6, the zero Addr if it has none.
func (n *node) Addr6() netip.Addr {
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	return n.addr6
}

// Command returns a program to be run there, as exec.CommandContext does. It
// has files, processes and users in common with the process that has the lab,
// and the same environment unless Env is set. What still runs when the lab is
// closed is killed.
func (n *node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if n.ns == nil {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Err = fmt.Errorf("lab: %s: it was not made", n.name)
		return cmd
	}
	return n.ns.command(ctx, name, args...)
}

// Do runs f there, on a thread of its own: sockets that f makes are of this
// machine wherever they are used later. What f does in other goroutines is not,
// such as looking up names, so dial addresses.
func (n *node) Do(f func() error) error {
	if n.ns == nil {
		return fmt.Errorf("lab: %s: it was not made", n.name)
	}
	return n.ns.do(f)
}

// Down takes the cable's carrier away, as pulling it out does. Addresses and
// routes stay, as far as the kernel keeps them.
func (n *node) Down() {
	n.change("down", func() error {
		n.port.down = true
		return n.port.net.ns.down(n.port.name())
	})
}

// Up undoes Down.
func (n *node) Up() { n.change("up", func() error { return n.port.up() }) }

// SetLink sets how packets go between it and its network, the same both ways.
// A link is kept until another is set, also over a move.
func (n *node) SetLink(l Link) { n.SetLinks(l, l) }

// SetLinks is SetLink with different links for what it sends and what it gets.
func (n *node) SetLinks(out, in Link) {
	n.change("link", func() error { return n.port.setLinks(out, in) })
}

// ChangeAddress takes the host's addresses away and gives it others in the same
// network.
func (h *Host) ChangeAddress() { h.change("change address", h.readdress) }

// MoveTo unplugs the host and plugs it in behind another router, or on the
// Internet if that is nil. Its device stays, is up, and gets new addresses.
func (h *Host) MoveTo(r *Router) {
	to := h.lab.internet
	if r != nil {
		to = r.lan
	}
	h.change("move", func() error {
		if to.ns == nil {
			return fmt.Errorf("there is no network to be in")
		}
		return h.port.moveTo(to)
	})
}

func (p *port) moveTo(to *network) error {
	out, in := p.out, p.in
	if err := p.setLinks(Link{}, Link{}); err != nil {
		return err
	}
	from := p.net
	if err := from.unplug(p); err != nil {
		return err
	}
	if to.ns != from.ns {
		if err := from.ns.give(p.name(), to.ns); err != nil {
			return err
		}
	}
	p.net = to
	to.ports = append(to.ports, p)
	if err := to.ns.plug(p.name(), to.bridge); err != nil {
		return err
	}
	if err := p.up(); err != nil {
		return err
	}
	if err := p.node.readdress(); err != nil {
		return err
	}
	return p.setLinks(out, in)
}
