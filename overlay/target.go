package overlay

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// ErrBadTarget says that a text names no service of a mesh.
var ErrBadTarget = errors.New("not a target")

// A Target names a service: at one member, given by name or by peer ID, or at
// whichever member that offers it is nearest.
type Target struct {
	Member  string // a member's name; empty if ID is set or any member will do
	ID      peer.ID
	Service string
	Kind    Kind // of the service; a Target's text does not tell it
}

// maxTarget is the longest text that can be a target: two names, or a peer ID
// and a name.
const maxTarget = 256

// ParseTarget reads "alice/web", "12D3Koo…/web" or "/web".
func ParseTarget(s string) (Target, error) {
	if len(s) > maxTarget {
		return Target{}, fmt.Errorf("%w: %d characters, more than %d", ErrBadTarget, len(s), maxTarget)
	}
	member, service, found := strings.Cut(s, "/")
	if !found {
		return Target{}, fmt.Errorf(`%w: %q: want MEMBER/SERVICE, or /SERVICE for the nearest`, ErrBadTarget, s)
	}
	t := Target{Service: service}
	if err := credential.CheckName(service); err != nil {
		return Target{}, fmt.Errorf("%w: %q: service %w", ErrBadTarget, s, err)
	}
	if member == "" {
		return t, nil
	}
	notName := credential.CheckName(member)
	if notName == nil {
		t.Member = member
		return t, nil
	}
	id, err := parseID(member)
	if err != nil {
		return Target{}, fmt.Errorf("%w: %q: member %w, and no peer ID", ErrBadTarget, s, notName)
	}
	t.ID = id
	return t, nil
}

// parseID reads the peer ID of what can be a member. A name is none: libp2p
// would take "11" and others for IDs too.
func parseID(s string) (peer.ID, error) {
	id, err := peer.Decode(s)
	if err != nil {
		return "", err
	}
	_, err = credential.KeyOf(id)
	return id, err
}

// String returns the text that ParseTarget reads.
func (t Target) String() string {
	if t.ID != "" {
		return t.ID.String() + "/" + t.Service
	}
	return t.Member + "/" + t.Service
}

func (t Target) request() request { return request{t.Service, t.Kind} }

// meshDomain ends the host names under which a mesh's services appear to
// programs that know only host names: web.alice.mesh, and web.mesh for the
// nearest.
const meshDomain = ".mesh"

// ParseHost reads what [Mesh.DialContext] takes: a target, or a host name such as
// "web.alice.mesh" or "web.mesh", of which only the case does not matter, with a port,
// which says nothing here. The error wraps [ErrBadTarget].
func ParseHost(addr string) (Target, error) {
	if strings.Contains(addr, "/") {
		return ParseTarget(addr)
	}
	host := addr
	if h, _, err := net.SplitHostPort(addr); err == nil {
		host = h
	}
	labels, ok := strings.CutSuffix(strings.ToLower(host), meshDomain)
	if !ok {
		return Target{}, fmt.Errorf(`%w: host %q: want SERVICE.MEMBER%s or SERVICE%s`, ErrBadTarget, host, meshDomain, meshDomain)
	}
	service, member, found := strings.Cut(labels, ".")
	if found && member == "" {
		return Target{}, fmt.Errorf("%w: host %q: no member before %s", ErrBadTarget, host, meshDomain)
	}
	return ParseTarget(member + "/" + service)
}
