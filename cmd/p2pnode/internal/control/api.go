package control

import (
	"time"

	"github.com/multiformats/go-multiaddr"
)

// Version is that of the JSON, which only grows.
const Version = 1

// A Node describes the running node.
type Node struct {
	Version int                   `json:"v"`
	ID      string                `json:"id"`
	Name    string                `json:"name"`
	Roles   string                `json:"roles"`
	Mesh    string                `json:"mesh"`
	Expires time.Time             `json:"expires"`                 // when its credential ends
	Renewal time.Time             `json:"renewal"`                 // from when on an admin is asked for another
	Only    []string              `json:"restricted_to,omitempty"` // the services that it may use, if not all
	Addrs   []multiaddr.Multiaddr `json:"addrs"`
	Local   Local                 `json:"local"`
	// Reachable tells whether others have connected from the Internet: yes or unknown.
	Reachable string    `json:"reachable,omitempty"`
	Relays    []Peer    `json:"relays,omitempty"` // through which the node is reached
	Relaying  Relaying  `json:"relaying"`         // what it carries for others
	PID       int       `json:"pid"`
	Since     time.Time `json:"since"`
	Up        int       `json:"up"`      // other members that are up
	Members   int       `json:"members"` // other members known
	Exposed   []Exposed `json:"exposed"`
	Forwards  []Forward `json:"forwards"`
	Proxies   []Proxy   `json:"proxies"`

	Streams      []Stream     `json:"streams"` // that are open, the oldest first, 1,000 at most
	StreamTotals StreamTotals `json:"stream_totals"`
}

// A Stream is an open stream to a service.
type Stream struct {
	Member   string    `json:"member"` // the name of the one at the other end
	Service  string    `json:"service"`
	Dialed   bool      `json:"dialed"`         // by this node, or one that uses a service of it
	Path     string    `json:"path,omitempty"` // the last, if there is none now
	Plain    bool      `json:"plain,omitempty"`
	Since    time.Time `json:"since"`
	Waiting  bool      `json:"waiting,omitempty"` // for a connection
	Moves    int       `json:"moves"`             // to a better connection
	Resumes  int       `json:"resumes"`           // after a connection was lost
	Stalls   int       `json:"stalls"`            // how often the other end was long in acknowledging
	Replayed uint64    `json:"replayed"`          // bytes sent again
	Held     int       `json:"held"`              // bytes of memory
}

// StreamTotals sum up the streams that outlive their connections.
type StreamTotals struct {
	Open     int    `json:"open"`
	Waiting  int    `json:"waiting"`
	Held     int64  `json:"held"` // bytes of memory
	Moves    uint64 `json:"moves"`
	Resumes  uint64 `json:"resumes"`
	Stalls   uint64 `json:"stalls"`
	Replayed uint64 `json:"replayed"` // bytes
	Expired  uint64 `json:"expired"`  // over for want of a connection in time
	Unknown  uint64 `json:"unknown"`  // over as the other end did not know them any more
}

// A Local is the directory of sockets in which a node meets members on its machine.
type Local struct {
	Dir    string `json:"dir,omitempty"`    // empty if there is none
	Error  string `json:"error,omitempty"`  // what is wrong with it, or why there is none
	Remade int    `json:"remade,omitempty"` // how often the node's socket was removed and made again
}

// A Member is another member, or the node itself, as the node sees it.
type Member struct {
	Version int        `json:"v"`
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Roles   string     `json:"roles"`
	Self    bool       `json:"self,omitempty"`
	Up      bool       `json:"up"`
	Path    string     `json:"path,omitempty"`   // empty without a connection
	Relay   string     `json:"relay,omitempty"`  // the member through which it goes, if the path is relay
	RTT     float64    `json:"rtt_ms,omitempty"` // milliseconds, as last measured
	Seen    *time.Time `json:"seen,omitempty"`   // when it was last known to be up

	Expires    time.Time `json:"expires,omitzero"`  // when its credential ends
	Admitted   time.Time `json:"admitted,omitzero"` // when it came in
	NameChosen bool      `json:"name_chosen,omitempty"`
	Only       []string  `json:"restricted_to,omitempty"` // the services that it may use, if not all
}

// A Whois tells of one member.
type Whois struct {
	Member
	Offers   []Offer `json:"offers"`              // the services of it that this node may use
	NoOffers string  `json:"no_offers,omitempty"` // why they are not known
}

// Exposed is a service that the node offers. As a request it has the rules as
// they were typed.
type Exposed struct {
	Version int    `json:"v"`
	Service string `json:"service"`
	Target  string `json:"target"`
	Counts
	Down  string `json:"down,omitempty"`  // why it is not offered now; it is tried again
	Files string `json:"files,omitempty"` // a directory, in the place of a target
	From  string `json:"from,omitempty"`  // FromConfig, or empty: a command
	Allow []Rule `json:"allow,omitempty"`
	Deny  []Rule `json:"deny,omitempty"`

	// IdleTimeout is after how long a connection through which nothing goes ends, in
	// nanoseconds; 0 is a minute for a flow of datagrams, and never for bytes.
	IdleTimeout time.Duration `json:"idle_timeout,omitempty"`

	ProxyProtocol bool `json:"proxy_protocol,omitempty"` // the target is told of the member by a PROXY header, version 2
}

// An Access says who may use a service that the node offers: whom a rule of
// Allow is true of and none of Deny. As a request it has the rules to add to
// either.
type Access struct {
	Version int    `json:"v"`
	Service string `json:"service"`
	Allow   []Rule `json:"allow"`
	Deny    []Rule `json:"deny"`
}

// A Rule says of whom something is true.
type Rule struct {
	Rule string `json:"rule"`           // "everyone", "role:admin", a peer ID or a name
	Name string `json:"name,omitempty"` // of the member that has the peer ID
	Note string `json:"note,omitempty"` // what may surprise whoever made the rule
}

// A Forward is a local socket tied to a service.
type Forward struct {
	Version int    `json:"v"`
	Listen  string `json:"listen"`
	Target  string `json:"target"`
	Counts

	DirectOnly bool          `json:"direct_only,omitempty"` // never through a relay
	WaitDirect time.Duration `json:"wait_direct,omitempty"` // nanoseconds, for a direct path
	Plain      bool          `json:"plain,omitempty"`       // its streams end with their connections
	Spread     bool          `json:"spread,omitempty"`      // its streams go to the members that offer the service in turn
	Down       string        `json:"down,omitempty"`        // why it does not listen now; it is tried again
	From       string        `json:"from,omitempty"`        // FromConfig, or empty: a command

	// IdleTimeout is as that of an Exposed.
	IdleTimeout time.Duration `json:"idle_timeout,omitempty"`

	Mode  string `json:"mode,omitempty"`  // of the unix socket, octal; 0600 if empty
	Owner string `json:"owner,omitempty"` // of the unix socket, as user, user:group or :group
}

// A Proxy is a local socket at which programs that know proxies reach all services,
// by host name.
type Proxy struct {
	Version int    `json:"v"`
	Listen  string `json:"listen"`
	Counts

	Others bool   `json:"others,omitempty"` // other hosts too, straight from this machine
	Down   string `json:"down,omitempty"`   // why it does not listen now; it is tried again
	From   string `json:"from,omitempty"`   // FromConfig, or empty: a command
}

// MaxIdleTimeout bounds how long a connection may be idle before it ends, where it ends.
const MaxIdleTimeout = 24 * time.Hour

// DefaultProxy is where a proxy listens if it is not said where.
const DefaultProxy = "127.0.0.1:1080"

// FromConfig is where that comes from which the node's configuration file has, and
// not a command.
const FromConfig = "config"

// What can be waited for.
const (
	WaitReady   = "ready"   // the node
	WaitPeer    = "peer"    // a member, until it is up
	WaitService = "service" // a target, until this node may use it
)

// A Wait says what to wait for.
type Wait struct {
	For  string `json:"for"`
	What string `json:"what,omitempty"`
}

// Services are those that the node offers, and those of others that it may use.
type Services struct {
	Version int       `json:"v"`
	Offered []Offered `json:"offered"`
	Unasked []Unasked `json:"unasked,omitempty"`
}

// An Offer is a service, or those that are named like ports.
type Offer struct {
	Service string `json:"service"`         // "*" for ports
	Kind    string `json:"kind"`            // stream or datagram
	Ports   string `json:"ports,omitempty"` // of "*": the first and the last, as "8000-8999"
}

// An Offered is a service of a member.
type Offered struct {
	Member string `json:"member"`
	ID     string `json:"id"`
	Offer
	Self bool `json:"self,omitempty"`
}

// An Unasked is a member that is up and did not tell what it offers.
type Unasked struct {
	Member string `json:"member"`
	ID     string `json:"id"`
	Error  string `json:"error"`
}

// Reloaded tells what a configuration file has changed.
type Reloaded struct {
	Version   int      `json:"v"`
	File      string   `json:"file"`
	Added     int      `json:"added"` // services and forwards
	Changed   int      `json:"changed"`
	Removed   int      `json:"removed"`
	Unchanged int      `json:"unchanged"`
	Notes     []string `json:"notes,omitempty"` // what may surprise
}

// MaxWaitDirect bounds how long a forward may wait for a direct path: who connects to
// it gives up sooner.
const MaxWaitDirect = 10 * time.Minute

// Counts are those of the connections of an Exposed, a Forward or a Proxy.
type Counts struct {
	Open     int    `json:"open"`
	Total    uint64 `json:"total"`
	Failed   uint64 `json:"failed"`
	Sent     uint64 `json:"sent"`     // bytes into the mesh
	Received uint64 `json:"received"` // bytes out of it
	Error    string `json:"error,omitempty"`

	Dropped uint64            `json:"dropped,omitempty"` // datagrams
	Reasons map[string]uint64 `json:"reasons,omitempty"` // why connections failed or broke
}

// InviteOptions say what an invite gives.
type InviteOptions struct {
	Expires time.Duration `json:"expires,omitempty"` // nanoseconds
	Roles   string        `json:"roles,omitempty"`
	Name    string        `json:"name,omitempty"`

	Uses     int      `json:"uses,omitempty"` // 0 is any number
	Services []string `json:"services,omitempty"`
}

// An InviteInfo is what is known of an invite that the node made.
type InviteInfo struct {
	Version  int         `json:"v"`
	ID       string      `json:"id"`
	Name     string      `json:"name,omitempty"`
	Roles    string      `json:"roles"`
	Services []string    `json:"services,omitempty"` // the only ones that who joins may use
	Uses     int         `json:"uses"`               // 0 is any number
	Used     []string    `json:"used"`               // peer IDs of who joined by it
	Made     time.Time   `json:"made"`
	Expires  time.Time   `json:"expires"`
	State    InviteState `json:"state"`
}

// An InviteState tells what an invite is still good for.
type InviteState string

// The states of an invite.
const (
	InviteOpen    InviteState = "open"
	InviteUsedUp  InviteState = "used-up"
	InviteExpired InviteState = "expired"
	InviteRevoked InviteState = "revoked"
)

// A Revocation puts out a member or an invite, and with it those that it
// admitted from a time on, if one is given.
type Revocation struct {
	Who   string    `json:"who"`
	Since time.Time `json:"with_admitted_since,omitzero"`
}

// Revoked tells who is out.
type Revoked struct {
	Version int    `json:"v"`
	Invite  string `json:"invite,omitempty"`  // its ID, if it was an invite
	Unknown bool   `json:"unknown,omitempty"` // this node had not heard of that invite
	Out     []Out  `json:"out"`
}

// Out is a member that was put out.
type Out struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Left tells what a node gave up.
type Left struct {
	Version int    `json:"v"`
	ID      string `json:"id"`
	Name    string `json:"name"`
	Mesh    string `json:"mesh"`
	RootKey string `json:"root_key,omitempty"` // the file that stays, from the command only
}

// An Invite is the text that lets its holder join.
type Invite struct {
	Version int       `json:"v"`
	ID      string    `json:"id"` // names it; no secret
	Invite  string    `json:"invite"`
	Expires time.Time `json:"expires"`
}

// A Pong is one answered ping.
type Pong struct {
	Version int     `json:"v"`
	Member  string  `json:"member"`
	Path    string  `json:"path"`
	Relay   string  `json:"relay,omitempty"`
	RTT     float64 `json:"rtt_ms"`
	Reason  string  `json:"reason,omitempty"` // why the path is a relay's, if a better one was asked for
}

// An Outcome tells how a raw stream stands.
type Outcome struct {
	Version int         `json:"v"`
	ID      string      `json:"id"`
	State   StreamState `json:"state"`
	Error   *Error      `json:"error,omitempty"` // why it broke
}

// A StreamState tells whether a raw stream is over, and how.
type StreamState string

// The states of a raw stream.
const (
	StreamOpen   StreamState = "open"   // in one direction at least
	StreamEnded  StreamState = "ended"  // both ends have ended it
	StreamBroken StreamState = "broken" // before that
)

// A Code tells programs why something failed.
type Code string

// The codes of what a node answers.
const (
	CodeOther         Code = "failed"
	CodeBadRequest    Code = "bad-request" // it makes no sense, whatever the state of things
	CodeUnknownMember Code = "unknown-member"
	CodeAmbiguous     Code = "ambiguous-name"
	CodeNoProvider    Code = "no-provider"
	CodeNoService     Code = "no-such-service"
	CodeNotPermitted  Code = "not-permitted" // by the other member
	CodeBusy          Code = "too-busy"
	CodeUnreachable   Code = "unreachable"
	CodeBroken        Code = "stream-broke" // before its end
	CodeNotAdmin      Code = "not-admin"
	CodeExists        Code = "exists"
	CodeNotFound      Code = "not-found"
	CodeInUse         Code = "address-in-use"
	CodeNoAddress     Code = "no-such-address" // this machine does not have it
	CodeDenied        Code = "access-denied"   // by the system
	CodeOnlyRelay     Code = "only-relay"      // where that was not good enough
	CodeUnknownInvite Code = "unknown-invite"
	CodeForeign       Code = "foreign-request" // by a page of the web, or to another host
	CodeNotMesh       Code = "not-of-the-mesh" // the host that a proxy was asked for
	CodeNoConfig      Code = "no-config"       // the node has no configuration file
	CodeBadConfig     Code = "bad-config"
	CodeFromConfig    Code = "from-config" // what is in the configuration file is changed there
)

// The codes of what a command finds by itself, and some of them a node too.
const (
	CodeNotRunning  Code = "not-running"
	CodeDirInUse    Code = "directory-in-use"
	CodeBadDir      Code = "bad-directory" // it can't be one, or can't be written
	CodeDiskFull    Code = "disk-full"
	CodeBadInvite   Code = "bad-invite"
	CodeExpired     Code = "expired"
	CodeBadClock    Code = "not-yet-valid"
	CodeNotMember   Code = "not-a-member"
	CodeOtherMesh   Code = "other-mesh"
	CodeNameFixed   Code = "name-fixed"
	CodeAlone       Code = "no-member-reached"
	CodeCorrupt     Code = "corrupt"
	CodeKeyExposed  Code = "key-exposed"
	CodeInterrupted Code = "interrupted"
	CodeNotYet      Code = "not-yet" // what was waited for has not come in time
	CodeRevoked     Code = "revoked"
	CodeInviteUsed  Code = "invite-used"
	CodeNoAdmin     Code = "no-admin"
	CodeNoLocal     Code = "bad-local-directory" // it can't be one, or can't be used
)

// An Error is what can't be done, and why.
type Error struct {
	Version int    `json:"v"`
	Code    Code   `json:"code"`
	Text    string `json:"error"`
	Hint    string `json:"hint,omitempty"` // what to do next, from the command only
}

func (e *Error) Error() string { return e.Text }
