package portmap

import (
	"fmt"
	"net/netip"
	"time"
)

// A Proto is what a port is of.
type Proto string

// The transports whose ports can be mapped.
const (
	UDP Proto = "udp"
	TCP Proto = "tcp"
)

// number returns the one that IP knows a transport by.
func (p Proto) number() byte {
	if p == TCP {
		return 6
	}
	return 17
}

// A Protocol is a way to ask the router.
type Protocol uint8

// The protocols, the preferred one first.
const (
	PCP Protocol = 1 + iota
	NATPMP
	UPnP
)

func (p Protocol) String() string {
	switch p {
	case PCP:
		return "PCP"
	case NATPMP:
		return "NAT-PMP"
	case UPnP:
		return "UPnP"
	}
	return "none"
}

// An Answer is what came of asking.
type Answer uint8

// What was observed.
const (
	Unknown   Answer = iota // not asked, or not answered yet
	Available               // the router speaks it, and has refused nothing
	Refused                 // the router said no
	Silent                  // no answer, after several tries
)

func (a Answer) String() string {
	switch a {
	case Available:
		return "available"
	case Refused:
		return "refused"
	case Silent:
		return "no answer"
	}
	return "unknown"
}

// An Attempt is what came of one protocol.
type Attempt struct {
	Protocol Protocol
	Answer   Answer
	Code     int        // the protocol's result code, if the router refused
	Err      error      // why, unless it is available
	External netip.Addr // the router's own address, if it said
	At       time.Time
}

// A Mapping is a port of the router that leads to one of this machine.
type Mapping struct {
	Proto    Proto
	Port     uint16         // of this machine
	External netip.AddrPort // the router's, where others come in
	By       Protocol
	Until    time.Time // when it ends unless it is renewed
}

// Reachable tells whether the mapping's address is a public one. If not, there
// is another NAT between the router and others.
func (m Mapping) Reachable() bool { return ScopeOf(m.External.Addr()) == Public }

// A Report is what is known of the router. It is shared by all who watch, and not
// to be written to.
type Report struct {
	Gateway  netip.Addr // the router's near side; not valid if there is none
	Local    netip.Addr // this machine's address towards it
	Err      error      // why there is no gateway
	Attempts []Attempt  // PCP, NAT-PMP and UPnP, each once it is known what came of it
	Mappings []Mapping  // in the order that they were asked for
}

// External returns the address that the router has towards others. It isn't valid
// if the router didn't say.
func (r Report) External() netip.Addr {
	for _, m := range r.Mappings {
		return m.External.Addr()
	}
	for _, a := range r.Attempts {
		if a.External.IsValid() {
			return a.External
		}
	}
	return netip.Addr{}
}

// A Scope is how far an address goes.
type Scope uint8

// The scopes.
const (
	Nowhere Scope = iota // no address, or none that a router may have
	Public               // everywhere
	Private              // within one network
	Shared               // within one provider, which has a NAT for all (CGNAT)
)

func (s Scope) String() string {
	switch s {
	case Public:
		return "public"
	case Private:
		return "private"
	case Shared:
		return "shared"
	}
	return "nowhere"
}

var (
	sharedNet = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	dsLite    = netip.MustParsePrefix("192.0.0.0/24")  // RFC 6333
	future    = netip.MustParsePrefix("240.0.0.0/4")
	thisNet   = netip.MustParsePrefix("0.0.0.0/8")
)

// ScopeOf returns how far an address goes.
func ScopeOf(a netip.Addr) Scope {
	a = a.Unmap()
	switch {
	case sharedNet.Contains(a):
		return Shared
	case a.IsPrivate(), a.IsLinkLocalUnicast(), dsLite.Contains(a):
		return Private
	case !a.IsGlobalUnicast(), thisNet.Contains(a), future.Contains(a):
		return Nowhere
	}
	return Public
}

// A RefusedError says what a router answered instead of what it was asked for.
type RefusedError struct {
	Protocol Protocol
	Code     int
	Reason   string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v: router refused with %d: %s", e.Protocol, e.Code, e.Reason)
}
