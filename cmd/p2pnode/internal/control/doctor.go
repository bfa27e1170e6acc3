package control

import (
	"time"

	"github.com/multiformats/go-multiaddr"
)

// A Doctor is what a node knows of the network it is in. What it could not find out
// is "unknown".
type Doctor struct {
	Version   int                   `json:"v"`
	ID        string                `json:"id"`
	Name      string                `json:"name"`
	Addrs     []multiaddr.Multiaddr `json:"addrs"` // that it tells others
	IPv4      Family                `json:"ipv4"`
	IPv6      Family                `json:"ipv6"`
	Reachable string                `json:"reachable"`        // whether others have connected from the Internet
	Relays    []Peer                `json:"relays"`           // through which it is reached
	Refused   []RefusedRelay        `json:"refused"`          // who was asked to relay to it and does not
	Relaying  Relaying              `json:"relaying"`         // what it carries for others
	Router    *Router               `json:"router,omitempty"` // that translates addresses, if it was asked for ports
	Nearby    *int                  `json:"nearby,omitempty"` // members found on the local network; absent if the node does not look
	Local     Local                 `json:"local"`
	Proxy     string                `json:"proxy,omitempty"` // that the node's environment names, as VARIABLE=URL
	Members   []Member              `json:"members"`         // others that it is connected to
	Findings  []Finding             `json:"findings,omitempty"`
}

// A Router is what a router said when it was asked to let others in.
type Router struct {
	Gateway  string        `json:"gateway,omitempty"`
	Error    string        `json:"error,omitempty"` // why none could be asked
	Asked    []RouterAsked `json:"asked"`
	Mappings []PortMapping `json:"mappings"`
}

// RouterAsked is what came of one protocol.
type RouterAsked struct {
	Protocol string `json:"protocol"` // "PCP", "NAT-PMP" or "UPnP"
	Answer   string `json:"answer"`   // "available", "refused", "silent" or "unknown"
	Error    string `json:"error,omitempty"`
}

// A PortMapping is a port of the router that leads to this node.
type PortMapping struct {
	Proto     string    `json:"proto"` // "udp" or "tcp"
	Port      uint16    `json:"port"`
	External  string    `json:"external"`
	By        string    `json:"by"`
	Until     time.Time `json:"until"`
	Reachable bool      `json:"reachable"` // whether External is an address of the Internet
}

// A Finding is one line of a Doctor, in words. The command makes them.
type Finding struct {
	About    string `json:"about"`
	Measured string `json:"measured"`
	Means    string `json:"means"`
	Do       string `json:"do,omitempty"` // empty if there is nothing to do
}

// A Family is what is known of IPv4 or of IPv6.
type Family struct {
	NAT
	TCP      string `json:"tcp"`                // whether a member could connect to the node's TCP port
	External string `json:"external,omitempty"` // where the node's datagrams come from
	Seen     int    `json:"seen"`               // members that said how they see the node
	Addrs    int    `json:"addrs"`              // of this family, that the node tells others
}

// A NAT is what lies between a node and the Internet.
type NAT struct {
	Mapping   string `json:"mapping"`   // none, same (one port for all destinations), dependent (another for each)
	Filtering string `json:"filtering"` // whose packets come in: none (anybody's), address, port
	UDP       string `json:"udp"`       // whether datagrams go out and come back
}

// A Peer is a member by name, as far as that is known.
type Peer struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// A RefusedRelay is why a member does not relay.
type RefusedRelay struct {
	Peer
	Error string `json:"error"`
}

// Relaying is what a node carries for others.
type Relaying struct {
	Off   bool   `json:"off,omitempty"`
	Bytes uint64 `json:"bytes"` // so far, both ways
}

// A Why is what is known of the ways to a member.
type Why struct {
	Version     int          `json:"v"`
	Member      Member       `json:"member"`
	Connections []Connection `json:"connections"` // the best first
	Addrs       []Addr       `json:"addrs"`       // the best first
	Here        [2]NAT       `json:"here"`        // of this node, for IPv4 and IPv6
	There       [2]NAT       `json:"there"`       // of the member, as it says
	Punchable   string       `json:"punchable"`   // whether a hole can be punched between the two
	Upgrade     *Upgrade     `json:"upgrade,omitempty"`
	Changes     []PathChange `json:"changes"`         // of the path, the last one last
	Error       string       `json:"error,omitempty"` // why there is no connection
	Reason      string       `json:"reason,omitempty"`
	Do          string       `json:"do,omitempty"` // these two in words, which the command makes
}

// A Connection is one to a member.
type Connection struct {
	Path    string    `json:"path"`
	Relay   string    `json:"relay,omitempty"`
	Addr    string    `json:"addr"`
	Inbound bool      `json:"inbound"`
	Since   time.Time `json:"since"`
	Streams int       `json:"streams"`
}

// An Addr is one address of a member.
type Addr struct {
	Addr    string     `json:"addr"`
	Path    string     `json:"path"`
	Source  string     `json:"source,omitempty"` // who told of it: peer, relay, lan, dht, start
	Tried   *time.Time `json:"tried,omitempty"`  // when last
	Took    float64    `json:"took_ms,omitempty"`
	Verdict string     `json:"verdict"`
	Error   string     `json:"error,omitempty"`
}

// An Upgrade is how the last search for a path that is no relay's went.
type Upgrade struct {
	At     time.Time `json:"at"`
	Tries  int       `json:"tries"`
	Path   string    `json:"path"` // that there was afterwards
	Reason string    `json:"reason"`
}

// A PathChange is when the path to a member changed, and why.
type PathChange struct {
	At    time.Time `json:"at"`
	From  string    `json:"from,omitempty"`
	To    string    `json:"to,omitempty"` // empty without a connection
	Relay string    `json:"relay,omitempty"`
	Why   string    `json:"why"`
}
