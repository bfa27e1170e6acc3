package credential

import (
	"fmt"
	"strings"
)

// Roles is a set of roles: what a credential lets its holder do.
type Roles uint8

// The roles there are.
const (
	RoleMember Roles = 1 << iota // may use the mesh: dial, listen, look up
	RoleAdmin                    // may give credentials and invites, with any roles
	RoleRelay                    // may carry streams for others
)

// DefaultRoles is what an issuer gives unless told otherwise.
const DefaultRoles = RoleMember | RoleRelay

const allRoles = RoleMember | RoleAdmin | RoleRelay

// roleNames are in the order in which they are written.
var roleNames = []struct {
	role Roles
	name string
}{
	{RoleMember, "member"},
	{RoleAdmin, "admin"},
	{RoleRelay, "relay"},
}

// ParseRoles reads names of roles with commas between, such as "member,admin",
// in any order and with white space around them. At least one is needed. It is
// the inverse of [Roles.String].
func ParseRoles(s string) (Roles, error) {
	var roles Roles
	for name := range strings.SplitSeq(s, ",") {
		role, err := parseRole(strings.TrimSpace(name))
		if err != nil {
			return 0, fmt.Errorf("roles %.80q: %w", s, err)
		}
		roles |= role
	}
	return roles, nil
}

func parseRole(s string) (Roles, error) {
	for _, r := range roleNames {
		if r.name == s {
			return r.role, nil
		}
	}
	return 0, fmt.Errorf("%w: no role %.80q; there are %v", ErrInvalid, s, allRoles)
}

// Has reports whether all of the given roles are in r.
func (r Roles) Has(roles Roles) bool { return r&roles == roles }

// String returns the roles' names with commas between, such as "member,admin";
// for no role the empty string. Bits that stand for no role, which no credential
// has, follow as a number.
func (r Roles) String() string {
	var names []string
	for _, known := range roleNames {
		if r.Has(known.role) {
			names = append(names, known.name)
		}
	}
	if rest := r &^ allRoles; rest != 0 {
		names = append(names, fmt.Sprintf("%#02x", uint8(rest)))
	}
	return strings.Join(names, ",")
}
