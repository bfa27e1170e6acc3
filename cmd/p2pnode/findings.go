package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

const (
	beReachable = `have one member that others can connect to: on a host with a public address, or with a port forwarded to it at its router ("p2pnode up --listen" fixes the port)`
	forwardPort = `turn on UPnP, NAT-PMP or PCP at the router, or forward a UDP port to this node there ("p2pnode up --listen" fixes the port)`
	letUDPOut   = "have the firewall or the router let UDP out"
)

// findings says in words what a node knows of its network.
func findings(d control.Doctor) []control.Finding {
	if len(d.Addrs) == 0 {
		return []control.Finding{onlyHere, localFinding(d.Local), membersFinding(d.Members)}
	}
	out := []control.Finding{
		familyFinding("IPv4", d.IPv4, d.Reachable), familyFinding("IPv6", d.IPv6, d.Reachable),
		reachableFinding(d), relaysFinding(d), relayingFinding(d.Relaying), localFinding(d.Local),
	}
	if d.Router != nil {
		out = append(out, routerFinding(*d.Router))
	}
	if d.Nearby != nil {
		out = append(out, nearbyFinding(*d.Nearby))
	}
	if d.Proxy != "" {
		out = append(out, control.Finding{
			About: "proxy", Measured: d.Proxy + " in the node's environment",
			Means: "this network may let nothing out but what goes through it",
		})
	}
	return append(out, membersFinding(d.Members))
}

var onlyHere = control.Finding{
	About: "network", Measured: "this node listens at no address",
	Means: "it is met on this machine alone",
}

func familyFinding(about string, f control.Family, reachable string) control.Finding {
	out := control.Finding{About: about}
	switch {
	case f.Seen == 0 && f.Addrs == 0:
		out.Measured = "this node listens at no such address"
		out.Means = "it is not reached by " + about
	case f.Seen == 0:
		out.Measured = fmt.Sprintf("this node listens at %s; no member has seen it from outside", countOf(f.Addrs, "address", "addresses"))
		out.Means = "what there is between here and the Internet is not known, and matters to members elsewhere only"
	case f.UDP == "no":
		out.Measured = fmt.Sprintf("%s asked, and no datagram got there and back; %s", countOf(f.Seen, "member was", "members were"), tcpWords(f.TCP))
		if reachable == "yes" {
			out.Means = "nothing follows, since members connect to this node: those that were asked may be behind NATs themselves"
			break
		}
		out.Means = "neither QUIC nor hole punching works here: members are reached by TCP where one of the two can be, else through a relay"
		out.Do = letUDPOut
	default:
		out.Measured = fmt.Sprintf("seen as %s by %s; %s; %s; %s", cmp.Or(f.External, "nothing"), countOf(f.Seen, "member", "members"),
			mappingWords(f.Mapping), filteringWords(f.Filtering), tcpWords(f.TCP))
		out.Means, out.Do = natMeans(f)
	}
	return out
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func mappingWords(mapping string) string {
	switch mapping {
	case "none":
		return "there is no NAT"
	case "same":
		return "a NAT gives it one port for all destinations"
	case "dependent":
		return "a NAT gives it another port for each destination"
	}
	return "whether there is a NAT is not known"
}

func filteringWords(filtering string) string {
	switch filtering {
	case "none":
		return "anybody's packets come in"
	case "address":
		return "packets come in from addresses that were sent to"
	case "port":
		return "packets come in from addresses and ports that were sent to"
	}
	return "whose packets come in is not known"
}

func tcpWords(tcp string) string {
	switch tcp {
	case "yes":
		return "TCP connections come in"
	case "no":
		return "TCP connections do not"
	}
	return "TCP was not tried"
}

// natMeans says what follows from what lies between a node and the Internet: which
// pairs of NATs let a hole be punched (RFC 5128, section 3.3).
func natMeans(f control.Family) (means, do string) {
	open := f.Filtering == "none"
	switch {
	case f.Mapping == "none" && (open || f.TCP == "yes"):
		return "members can connect to this node as it is", ""
	case f.Mapping == "none" && f.Filtering != "unknown":
		return "a firewall lets members in once this node has sent to them, which both do at the same time", "to be reached without that, have the firewall let the node's port in"
	case f.Mapping == "none":
		return "members can connect to this node if no firewall is in between", ""
	case f.Mapping == "same" && open:
		return "members can connect to this node where it was seen", ""
	case f.Mapping == "same" && f.Filtering == "address":
		return "a hole can be punched to members behind any NAT", ""
	case f.Mapping == "same" && f.Filtering == "port":
		return "a hole can be punched to all members but those behind a NAT with another port for each destination", ""
	case f.Mapping == "same":
		return "a hole can be punched to most members", ""
	case f.Mapping == "dependent":
		return "a hole can be punched only to members behind no NAT, or behind one that lets in all ports of an address that was sent to", forwardPort
	}
	return "whether a hole can be punched is not known", ""
}

func reachableFinding(d control.Doctor) control.Finding {
	out := control.Finding{About: "reachable"}
	switch {
	case d.Reachable == "yes":
		out.Measured = "others have connected to this node from the Internet"
		out.Means = "members need no help to reach it"
	case len(d.Relays) > 0:
		out.Measured = "nobody has connected to this node from the Internet"
		out.Means = "members elsewhere come through a relay, and then by a better path if there is one"
	default:
		out.Measured = "nobody has connected to this node from the Internet"
		out.Means = "it reaches members elsewhere if they can be connected to, and they reach it over the connections it makes"
	}
	return out
}

func relaysFinding(d control.Doctor) control.Finding {
	out := control.Finding{About: "relays"}
	switch {
	case len(d.Relays) > 1:
		out.Measured = "this node is reached through " + peerNames(d.Relays)
		out.Means = "if one of them goes, members still come"
	case len(d.Relays) == 1:
		out.Measured = "this node is reached through " + peerNames(d.Relays)
		out.Means = "while that one is up, members elsewhere can come"
		out.Do = "a second member that others can connect to would take over if it went"
	case d.Reachable == "yes":
		out.Measured = "none"
		out.Means = "none is needed"
	default:
		out.Measured = "no member relays to this node"
		out.Means = "members elsewhere that can't be connected to are out of reach"
		out.Do = "if there are any, " + beReachable
	}
	for _, r := range d.Refused {
		out.Measured += fmt.Sprintf("; %s was asked and does not relay: %s", cmp.Or(r.Name, r.ID), r.Error)
	}
	return out
}

func relayingFinding(r control.Relaying) control.Finding {
	if r.Off {
		return control.Finding{
			About: "relaying", Measured: "this node carries nothing for others",
			Means: "members that can't reach each other need another one", Do: "leave --no-relay out if this node can be reached",
		}
	}
	return control.Finding{
		About: "relaying", Measured: "this node has carried " + byteCount(r.Bytes) + " for others",
		Means: "members that can't reach each other can through it, if they can connect to it",
	}
}

func localFinding(l control.Local) control.Finding {
	out := control.Finding{About: "this machine", Means: "members on this machine are met by the network, as others are"}
	switch {
	case l.Error == "" && l.Dir != "":
		out.Measured = "sockets in " + l.Dir
		out.Means = "members on this machine are met there, with no network"
	case l.Dir != "":
		out.Measured = l.Dir + " is out of order: " + l.Error
		out.Do = "mend it, or name another with --local-dir"
	case l.Error == "" || l.Error == "--no-local":
		out.Measured = "no sockets: " + cmp.Or(l.Error, "they are not supported")
	default:
		out.Measured = "no sockets: " + l.Error
		out.Do = "mend it, or name another with --local-dir"
	}
	return out
}

// routerFinding says what the router does for members that come from outside.
func routerFinding(r control.Router) control.Finding {
	out := control.Finding{About: "router"}
	var open, hidden []string
	for _, m := range r.Mappings {
		text := fmt.Sprintf("%s port %d at %s by %s", m.Proto, m.Port, m.External, m.By)
		if m.Reachable {
			open = append(open, text)
		} else {
			hidden = append(hidden, text)
		}
	}
	switch {
	case len(open) > 0:
		out.Measured = "it lets members in: " + strings.Join(open, ", ")
		out.Means = "members can connect to this node there"
	case len(hidden) > 0:
		out.Measured = "it lets in what comes to it: " + strings.Join(hidden, ", ")
		out.Means = "that is no address of the Internet: there is another NAT in front of it, of the provider most likely"
	case r.Error != "":
		out.Measured = "there is none to ask: " + r.Error
		out.Means = "no port can be mapped"
	default:
		var said []string
		for _, a := range r.Asked {
			said = append(said, a.Protocol+" "+a.Answer)
		}
		out.Measured = cmp.Or(r.Gateway, "the router") + " maps no port: " + cmp.Or(strings.Join(said, ", "), "it has not answered yet")
		out.Means = "members from elsewhere come by a punched hole or a relay"
		out.Do = forwardPort
	}
	return out
}

func nearbyFinding(n int) control.Finding {
	if n == 0 {
		return control.Finding{
			About: "local network", Measured: "no member was found there by multicast",
			Means: "there is none, or the network does not pass multicast on, as many for guests do not",
		}
	}
	return control.Finding{
		About: "local network", Measured: countOf(n, "member was", "members were") + " found there by multicast",
		Means: "they are reached without the Internet",
	}
}

// maxNames bounds the members that a line names.
const maxNames = 8

func membersFinding(members []control.Member) control.Finding {
	if len(members) == 0 {
		return control.Finding{
			About: "members", Measured: "none is connected", Means: "nobody can say how this node is seen from outside",
			Do: `see that one that "p2pnode peers" lists is up; "p2pnode why MEMBER" tells where it was looked for`,
		}
	}
	counts, names := map[string]int{}, []string{}
	for _, m := range members {
		counts[m.Path]++
		if len(names) < maxNames {
			names = append(names, m.Name+" by "+path(m.Path, m.Relay))
		}
	}
	if len(members) > maxNames {
		names = append(names, fmt.Sprintf("and %d more", len(members)-maxNames))
	}
	out := control.Finding{
		About: "members", Measured: countOf(len(members), "is connected: ", "are connected: ") + strings.Join(names, ", "),
		Means: "no relay is in between",
	}
	if n := counts["relay"]; n > 0 {
		out.Means = countOf(n, "of them goes", "of them go") + " through a relay"
		out.Do = `"p2pnode why MEMBER" tells why`
	}
	return out
}
