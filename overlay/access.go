package overlay

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// A Rule says of which members something is true. Everyone, RoleRule, PeerRule,
// NameRule and ParseRule make one; the zero Rule is true of nobody.
type Rule struct {
	everyone bool
	role     credential.Roles
	id       peer.ID
	name     string
}

// Everyone is true of each member of the mesh.
var Everyone = Rule{everyone: true}

// RoleRule is true of the members that have all of the roles.
func RoleRule(roles credential.Roles) Rule { return Rule{role: roles} }

// PeerRule is true of one member, whatever it is called.
func PeerRule(id peer.ID) Rule { return Rule{id: id} }

// NameRule is true of a member that an admin gave this name: by an invite that is
// bound to it, or by a credential. Of a member that chose the name itself it is
// not, for anybody with an invite could.
func NameRule(name string) Rule { return Rule{name: name} }

// How rules are written.
const (
	everyoneText = "everyone"
	rolePrefix   = "role:"
)

// ErrBadRule says that a text is no rule.
var ErrBadRule = errors.New("not a rule")

// ParseRule reads "everyone", "role:admin", a peer ID or a name.
func ParseRule(s string) (Rule, error) {
	if s == everyoneText {
		return Everyone, nil
	}
	if role, found := strings.CutPrefix(s, rolePrefix); found {
		roles, err := credential.ParseRoles(role)
		if err != nil {
			return Rule{}, fmt.Errorf("%w: %w", ErrBadRule, err)
		}
		return RoleRule(roles), nil
	}
	notName := credential.CheckName(s)
	if notName == nil {
		return NameRule(s), nil
	}
	id, err := parseID(s)
	if err != nil {
		return Rule{}, fmt.Errorf("%w: want everyone, role:ROLE, a peer ID or a name; %w", ErrBadRule, notName)
	}
	return PeerRule(id), nil
}

// String writes the rule as ParseRule reads it.
func (r Rule) String() string {
	switch {
	case r.everyone:
		return everyoneText
	case r.role != 0:
		return rolePrefix + r.role.String()
	case r.id != "":
		return r.id.String()
	}
	return r.name
}

func (r Rule) matches(m Member) bool {
	switch {
	case r.everyone:
		return true
	case r.role != 0:
		return m.Roles.Has(r.role)
	case r.id != "":
		return m.ID == r.id
	}
	return r.name != "" && r.name == m.Name && !m.NameChosen
}

// An Access says who may use a service: whom a rule of Allow is true of and none
// of Deny. The zero Access is nobody. The node itself always may.
type Access struct {
	Allow, Deny []Rule
}

// With returns an Access in which a rule is allowed as well.
func (a Access) With(r Rule) Access {
	out := Access{slices.Clone(a.Allow), without(a.Deny, r)}
	if !slices.Contains(out.Allow, r) {
		out.Allow = append(out.Allow, r)
	}
	return out
}

// Without returns an Access in which a rule is denied. Denying everyone leaves
// nobody.
func (a Access) Without(r Rule) Access {
	if r == Everyone {
		return Access{}
	}
	out := Access{without(a.Allow, r), slices.Clone(a.Deny)}
	if len(out.Allow) > 0 && !slices.Contains(out.Deny, r) {
		out.Deny = append(out.Deny, r) // another rule may be true of it too
	}
	return out
}

func without(rules []Rule, r Rule) []Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(other Rule) bool { return other == r })
}

// open tells whether all may find out that the service is there.
func (a Access) open() bool { return slices.Contains(a.Allow, Everyone) }

func (a Access) clone() Access { return Access{slices.Clone(a.Allow), slices.Clone(a.Deny)} }

// permits tells whether a member may use a service, by the service's rules and by
// what the member's own credential is restricted to.
func (a Access) permits(m Member, service string) bool {
	if m.Self {
		return true
	}
	if len(m.Services) > 0 && !slices.Contains(m.Services, service) {
		return false
	}
	is := func(r Rule) bool { return r.matches(m) }
	return slices.ContainsFunc(a.Allow, is) && !slices.ContainsFunc(a.Deny, is)
}
