package p2p

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Verdict is what was found out about something: yes, no, or nothing yet.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota
	Yes
	No
)

var verdictNames = [...]string{"unknown", "yes", "no"}

// String returns "unknown", "yes" or "no".
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return verdictNames[Unknown]
}

// MarshalText writes what String returns.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

func verdict(yes bool) Verdict {
	if yes {
		return Yes
	}
	return No
}

// A Mapping is how a NAT chooses the port at which packets of one socket come out
// (RFC 4787, section 4.1).
type Mapping uint8

// The mappings.
const (
	MappingUnknown   Mapping = iota
	MappingNone              // no NAT: packets come out as they are
	MappingSame              // endpoint-independent: one port for all destinations
	MappingDependent         // another port for each destination: "symmetric"
)

var mappingNames = [...]string{"unknown", "none", "same", "dependent"}

// String returns the mapping's word.
func (m Mapping) String() string {
	if int(m) < len(mappingNames) {
		return mappingNames[m]
	}
	return mappingNames[MappingUnknown]
}

// MarshalText writes the mapping's word.
func (m Mapping) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// A Filtering is whose packets a NAT or a firewall lets in (RFC 4787, section 5).
type Filtering uint8

// The filterings.
const (
	FilteringUnknown Filtering = iota
	FilteringNone              // anybody's
	FilteringAddress           // those from an address that was sent to, whatever the port
	FilteringPort              // those from an address and port that was sent to
)

var filteringNames = [...]string{"unknown", "none", "address", "port"}

// String returns the filtering's word.
func (f Filtering) String() string {
	if int(f) < len(filteringNames) {
		return filteringNames[f]
	}
	return filteringNames[FilteringUnknown]
}

// MarshalText writes the filtering's word.
func (f Filtering) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// A NAT is what lies between the node and the Internet, for one family of
// addresses, as far as other peers could tell.
type NAT struct {
	Mapping   Mapping
	Filtering Filtering
	UDP       Verdict        // whether datagrams go out and come back
	TCP       Verdict        // whether a peer could connect to the node's TCP port
	External  netip.AddrPort // where the node's datagrams come from; invalid if unknown
	Seen      []Sight        // what each peer said, the newest first
}

// A Sight is what one peer said of how it sees this node.
type Sight struct {
	Peer     peer.ID
	At       time.Time
	External netip.AddrPort // where a datagram came from; invalid if none came
	Other    netip.AddrPort // where one to another port of the peer came from
	Heard    Verdict        // whether a datagram came in from a port of the peer that none was sent to
	Unasked  Verdict        // whether one came in before any was sent to the peer at all
	TCP      Verdict        // whether the peer could connect to the node's TCP port
}

const (
	// maxSights bounds the peers whose word is kept.
	maxSights = 8

	// sightHolds is how long what a peer said is believed.
	sightHolds = 10 * time.Minute
)

// judgeNAT makes of what peers said one view. local are this node's own addresses.
// No peer is believed alone where there are several: an IP address counts that more
// than half of them have seen, and of its ports the one that most have.
func judgeNAT(sights []Sight, local func(netip.AddrPort) bool) NAT {
	n := NAT{Seen: sights}
	votes, seen, in := map[netip.AddrPort]int{}, map[netip.Addr]int{}, 0
	for _, s := range sights {
		n.UDP = eitherVerdict(n.UDP, verdict(s.External.IsValid()))
		n.TCP = eitherVerdict(n.TCP, s.TCP)
		if s.External.IsValid() {
			votes[s.External]++
			seen[s.External.Addr()]++
			in++
		}
	}
	for addr, count := range votes {
		if 2*seen[addr.Addr()] <= in {
			continue
		}
		if count > votes[n.External] || count == votes[n.External] && (!n.External.IsValid() || addr.Compare(n.External) < 0) {
			n.External = addr
		}
	}
	n.Mapping = judgeMapping(sights, n.External, local)
	n.Filtering = judgeFiltering(sights)
	return n
}

// eitherVerdict returns Yes if one is Yes, else No if one is.
func eitherVerdict(a, b Verdict) Verdict {
	switch {
	case a == Yes || b == Yes:
		return Yes
	case a == No || b == No:
		return No
	}
	return Unknown
}

// judgeMapping goes by the peers that have seen the address that counts, if there is
// one: who says another is somewhere else, or lies.
func judgeMapping(sights []Sight, external netip.AddrPort, local func(netip.AddrPort) bool) Mapping {
	if external.IsValid() && local(external) {
		return MappingNone
	}
	compared, differs := 0, 0
	for _, s := range sights {
		if !s.External.IsValid() || external.IsValid() && s.External.Addr() != external.Addr() {
			continue
		}
		if s.Other.IsValid() {
			compared++
			if s.External != s.Other {
				differs++
			}
		}
		if external.IsValid() && s.External != external {
			compared++
			differs++
		}
	}
	switch {
	case compared == 0:
		return MappingUnknown
	case 2*differs > compared:
		return MappingDependent
	case external.IsValid():
		return MappingSame
	}
	return MappingUnknown
}

func judgeFiltering(sights []Sight) Filtering {
	var heard, unasked Verdict
	for _, s := range sights {
		heard, unasked = eitherVerdict(heard, s.Heard), eitherVerdict(unasked, s.Unasked)
	}
	switch {
	case unasked == Yes:
		return FilteringNone
	case heard == Yes:
		return FilteringAddress
	case heard == No:
		return FilteringPort
	}
	return FilteringUnknown
}

// addSight puts what a peer said in front of what others did.
func addSight(sights []Sight, s Sight, now time.Time) []Sight {
	out := []Sight{s}
	for _, o := range sights {
		if o.Peer != s.Peer && now.Sub(o.At) < sightHolds && len(out) < maxSights {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b Sight) int { return cmp.Compare(b.At.UnixNano(), a.At.UnixNano()) })
	return out
}

// punchable tells whether a hole can be punched between two NATs: each has to know
// where the other's datagrams will come from, or not to care.
func punchable(a, b NAT) Verdict {
	if a.UDP == No || b.UDP == No {
		return No
	}
	if a.Mapping == MappingUnknown || b.Mapping == MappingUnknown {
		return Unknown
	}
	open := func(dependent, other NAT) bool {
		return dependent.Mapping != MappingDependent ||
			other.Mapping != MappingDependent && (other.Filtering == FilteringNone || other.Filtering == FilteringAddress)
	}
	return verdict(open(a, b) && open(b, a))
}
