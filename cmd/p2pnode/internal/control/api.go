package control

import (
	"time"

	"github.com/multiformats/go-multiaddr"
)

// Version is that of the JSON, which only grows.
const Version = 1

// A Node describes the running node.
type Node struct {
	Version  int                   `json:"v"`
	ID       string                `json:"id"`
	Name     string                `json:"name"`
	Roles    string                `json:"roles"`
	Mesh     string                `json:"mesh"`
	Expires  time.Time             `json:"expires"` // when its credential ends
	Addrs    []multiaddr.Multiaddr `json:"addrs"`
	PID      int                   `json:"pid"`
	Since    time.Time             `json:"since"`
	Up       int                   `json:"up"`      // other members that are up
	Members  int                   `json:"members"` // other members known
	Exposed  []Exposed             `json:"exposed"`
	Forwards []Forward             `json:"forwards"`
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
	RTT     float64    `json:"rtt_ms,omitempty"` // milliseconds, as last measured
	Seen    *time.Time `json:"seen,omitempty"`   // when it was last known to be up
}

// Exposed is a service that the node offers.
type Exposed struct {
	Version int    `json:"v"`
	Service string `json:"service"`
	Target  string `json:"target"`
	Counts
}

// A Forward is a local socket tied to a service.
type Forward struct {
	Version int    `json:"v"`
	Listen  string `json:"listen"`
	Target  string `json:"target"`
	Counts
}

// Counts are those of the connections of an Exposed or a Forward.
type Counts struct {
	Open     int    `json:"open"`
	Total    uint64 `json:"total"`
	Failed   uint64 `json:"failed"`
	Sent     uint64 `json:"sent"`     // bytes into the mesh
	Received uint64 `json:"received"` // bytes out of it
	Error    string `json:"error,omitempty"`
}

// InviteOptions say what an invite gives.
type InviteOptions struct {
	Expires time.Duration `json:"expires,omitempty"` // nanoseconds
	Roles   string        `json:"roles,omitempty"`
	Name    string        `json:"name,omitempty"`
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
	RTT     float64 `json:"rtt_ms"`
}

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
)

// The codes of what a command finds by itself.
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
)

// An Error is what can't be done, and why.
type Error struct {
	Version int    `json:"v"`
	Code    Code   `json:"code"`
	Text    string `json:"error"`
	Hint    string `json:"hint,omitempty"` // what to do next, from the command only
}

func (e *Error) Error() string { return e.Text }
