package lab

import (
	"fmt"
	"net/netip"
)

// A Router joins a network behind it, its LAN, with the one that it is in, its
// WAN. The devices are named lan and wan. Addr is that of its WAN.
type Router struct {
	node

	// Guarded by the lab's lock.
	nat      NAT
	lan      *network
	boots    int
	forwards map[forward]netip.AddrPort
}

// Router adds a router on the Internet.
func (l *Lab) Router(name string, nat NAT) *Router { return l.internet.newRouter(name, nat) }

// Router adds a router behind this one, as a provider with few addresses has its
// customers.
func (r *Router) Router(name string, nat NAT) *Router { return r.lan.newRouter(name, nat) }

// Host adds a host behind the router. Without a family it has IPv4, and IPv6 if
// the router has.
func (r *Router) Host(name string, family ...Family) *Host { return r.lan.host(name, family) }

func (n *network) newRouter(name string, nat NAT) *Router {
	r := &Router{node: node{lab: n.lab, name: name}, nat: nat, lan: &network{lab: n.lab}}
	n.lab.check("router "+name, n.lab.locked(func() error {
		if n.ns == nil {
			return fmt.Errorf("there is no network to be in")
		}
		nd, err := n.newNode(name, "wan", Both)
		if err != nil {
			return err
		}
		r.node = *nd
		r.port.node = &r.node
		return r.start()
	}))
	return r
}

// start makes the router's LAN and its rules.
func (r *Router) start() error {
	net4, net6 := r.lab.lanPrefixes(r.nat)
	if r.nat.Kind != None && !r.nat.IPv6 || !r.addr6.IsValid() {
		net6 = netip.Prefix{}
	}
	r.lan = &network{lab: r.lab, ns: r.ns, bridge: "lan", router: r, net4: net4, net6: net6, gateway4: gatewayOf(net4)}
	if net6.IsValid() {
		r.lan.gateway6 = gatewayOf(net6)
	}
	if err := r.lan.start(); err != nil {
		return err
	}
	r.lab.routers = append(r.lab.routers, r)
	if err := r.announce(); err != nil {
		return err
	}
	return r.load()
}

// load sets the rules, and what goes with them.
func (r *Router) load() error {
	if err := r.ns.nft(r.nat.rules(r.addr4, r.lan.net4, r.boots)); err != nil {
		return err
	}
	if r.nat.Kind == None {
		return nil
	}
	oneWay, bothWays := r.nat.timeouts()
	return r.ns.sysctl(
		fmt.Sprintf("net/netfilter/nf_conntrack_udp_timeout=%d", oneWay),
		fmt.Sprintf("net/netfilter/nf_conntrack_udp_timeout_stream=%d", bothWays))
}

// announce makes the networks above know the way to public addresses behind the
// router.
func (r *Router) announce() error {
	at, via := r.port.net, &r.node
	for {
		if r.nat.Kind == None {
			if err := at.ns.route(r.lan.net4, via.addr4); err != nil {
				return err
			}
		}
		if r.lan.net6.IsValid() {
			if err := at.ns.route(r.lan.net6, via.addr6); err != nil {
				return err
			}
		}
		if at.router == nil {
			return nil
		}
		at, via = at.router.port.net, &at.router.node
	}
}

// PublicAddr returns the address of IPv4 that hosts behind the router have on
// the Internet: its own, or that of the outermost router that it is behind.
func (r *Router) PublicAddr() netip.Addr {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	for r.port != nil && r.port.net.router != nil {
		r = r.port.net.router
	}
	return r.addr4
}

// NAT returns what the router is.
func (r *Router) NAT() NAT {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	return r.nat
}

// SetNAT makes the router another one, which knows no connections. IPv6 and
// Carrier, and whether Kind is None, stay as they were.
func (r *Router) SetNAT(nat NAT) {
	r.change("set NAT", func() error {
		if (nat.Kind == None) != (r.nat.Kind == None) {
			return fmt.Errorf("from %v to %v the addresses behind it would be others", r.nat.Kind, nat.Kind)
		}
		nat.IPv6, nat.Carrier = r.nat.IPv6, r.nat.Carrier
		r.nat = nat
		return r.restart()
	})
}

// Forward lets in what comes to a public port and sends it to a host, as routers
// do that are asked to by UPnP, NAT-PMP or PCP. The network is "udp" or "tcp".
// An invalid AddrPort ends the forward.
func (r *Router) Forward(network string, port uint16, to netip.AddrPort) {
	r.change("forward", func() error {
		switch {
		case network != "udp" && network != "tcp":
			return fmt.Errorf("the network is %q, want udp or tcp", network)
		case r.nat.Kind == None:
			return fmt.Errorf("it has no NAT")
		case to.IsValid() && !r.lan.net4.Contains(to.Addr()):
			return fmt.Errorf("%v is not behind it", to)
		}
		if r.forwards == nil {
			r.forwards = map[forward]netip.AddrPort{}
		}
		r.forwards[forward{network, port}] = to
		if !to.IsValid() {
			delete(r.forwards, forward{network, port})
		}
		return r.ns.nft(forwardRules(r.forwards))
	})
}

// Reboot makes the router forget all connections, mappings and forwards, at
// once. From then on its mappings are others than before, also if it kept ports.
func (r *Router) Reboot() {
	r.change("reboot", func() error {
		r.boots++
		r.forwards = nil
		if err := r.ns.nft(forwardRules(nil)); err != nil {
			return err
		}
		return r.restart()
	})
}

// restart loads the rules and forgets connections, in this order: what comes in
// between is by the new rules.
func (r *Router) restart() error {
	if err := r.load(); err != nil {
		return err
	}
	return r.ns.forget()
}

// ChangeAddress gives the router another address in its WAN, as a provider does
// at night. It forgets all connections, and keeps ports if it did before.
func (r *Router) ChangeAddress() {
	r.change("change address", func() error {
		if err := r.readdress(); err != nil {
			return err
		}
		if err := r.announce(); err != nil {
			return err
		}
		return r.restart()
	})
}
