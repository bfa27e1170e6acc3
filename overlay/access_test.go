package overlay

import (
	"errors"
	"slices"
	"testing"

	"github.com/p2pnode/p2pnode/overlay/credential"
)

func TestParseRuleRoundTrip(t *testing.T) {
	id := peerOf(t, 2)
	for _, tt := range []struct {
		text string
		want Rule
	}{
		{"everyone", Everyone},
		{"role:admin", RoleRule(credential.RoleAdmin)},
		{"role:member,admin", RoleRule(credential.RoleMember | credential.RoleAdmin)},
		{id.String(), PeerRule(id)},
		{"alice", NameRule("alice")},
		{"admin", NameRule("admin")},
	} {
		t.Run(tt.text, func(t *testing.T) {
			got, err := ParseRule(tt.text)
			if err != nil || got != tt.want {
				t.Errorf("ParseRule = %#v, %v, want %#v", got, err, tt.want)
			}
			if got := tt.want.String(); got != tt.text {
				t.Errorf("String = %q, want %q", got, tt.text)
			}
		})
	}
}

func TestParseRuleRefuses(t *testing.T) {
	for _, text := range []string{"", "Alice", "role:", "role:king", "role:admin,king", "a/b", "everyone else", "x y"} {
		if got, err := ParseRule(text); !errors.Is(err, ErrBadRule) || got != (Rule{}) {
			t.Errorf("ParseRule(%q) = %v, %v, want %v", text, got, err, ErrBadRule)
		}
	}
}

func TestRuleMatches(t *testing.T) {
	const admin = credential.DefaultRoles | credential.RoleAdmin
	alice := Member{ID: peerOf(t, 2), Name: "alice", Roles: credential.DefaultRoles}
	for _, tt := range []struct {
		name string
		rule Rule
		of   Member
		want bool
	}{
		{"everyone", Everyone, alice, true},
		{"no rule", Rule{}, alice, false},
		{"no rule, no name", Rule{}, Member{}, false},
		{"the name", NameRule("alice"), alice, true},
		{"another name", NameRule("bob"), alice, false},
		{"the name, that it chose", NameRule("alice"), Member{ID: alice.ID, Name: "alice", NameChosen: true}, false},
		{"the peer, whose name it chose", PeerRule(alice.ID), Member{ID: alice.ID, Name: "alice", NameChosen: true}, true},
		{"another peer of that name", PeerRule(peerOf(t, 3)), alice, false},
		{"the role", RoleRule(credential.RoleMember), alice, true},
		{"a role that it has not", RoleRule(credential.RoleAdmin), alice, false},
		{"one role of two", RoleRule(credential.RoleMember | credential.RoleAdmin), alice, false},
		{"both roles", RoleRule(credential.RoleMember | credential.RoleAdmin), Member{Roles: admin}, true},
		{"no role", RoleRule(0), alice, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.rule.matches(tt.of); got != tt.want {
				t.Errorf("%v matches %+v = %v, want %v", tt.rule, tt.of, got, tt.want)
			}
		})
	}
}

func TestAccessChanges(t *testing.T) {
	a, b := NameRule("alice"), NameRule("bob")
	for _, tt := range []struct {
		name string
		got  Access
		want Access
	}{
		{"allow", Access{}.With(a), Access{Allow: []Rule{a}}},
		{"allow twice", Access{}.With(a).With(a), Access{Allow: []Rule{a}}},
		{"allow what was denied", Access{}.With(Everyone).Without(a).With(a), Access{Allow: []Rule{Everyone, a}}},
		{"deny one of all", Access{}.With(Everyone).Without(a), Access{Allow: []Rule{Everyone}, Deny: []Rule{a}}},
		{"deny twice", Access{}.With(Everyone).Without(a).Without(a), Access{Allow: []Rule{Everyone}, Deny: []Rule{a}}},
		{"deny one of two", Access{}.With(a).With(b).Without(a), Access{Allow: []Rule{b}, Deny: []Rule{a}}},
		{"deny the last", Access{}.With(a).Without(a), Access{}},
		{"deny where nobody is allowed", Access{}.Without(a), Access{}},
		{"deny everyone", Access{}.With(a).With(Everyone).Without(b).Without(Everyone), Access{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !slices.Equal(tt.got.Allow, tt.want.Allow) || !slices.Equal(tt.got.Deny, tt.want.Deny) {
				t.Errorf("Access = %+v, want %+v", tt.got, tt.want)
			}
		})
	}
}

// An Access that was made of another leaves it as it was.
func TestAccessIsNotShared(t *testing.T) {
	base := Access{Allow: make([]Rule, 1, 8), Deny: make([]Rule, 1, 8)}
	base.Allow[0], base.Deny[0] = Everyone, NameRule("carol")
	with, without := base.With(NameRule("alice")), base.Without(NameRule("bob"))
	base.With(NameRule("dave"))
	base.Without(NameRule("eve"))
	if len(base.Allow) != 1 || len(base.Deny) != 1 || with.Allow[1] != NameRule("alice") || without.Deny[1] != NameRule("bob") {
		t.Errorf("With = %+v and Without = %+v of %+v, want each its own", with, without, base)
	}
}

func TestAccessPermits(t *testing.T) {
	alice := Member{ID: peerOf(t, 2), Name: "alice", Roles: credential.DefaultRoles}
	restricted := alice
	restricted.Services = []string{"db", "web"}
	elsewhere := alice
	elsewhere.Services = []string{"db"}
	all := Access{Allow: []Rule{Everyone}}
	for _, tt := range []struct {
		name   string
		access Access
		member Member
		want   bool
	}{
		{"everyone", all, alice, true},
		{"nobody", Access{}, alice, false},
		{"nobody, but the node itself", Access{}, Member{Self: true}, true},
		{"allowed by name", Access{}.With(NameRule("alice")), alice, true},
		{"another is allowed", Access{}.With(NameRule("bob")), alice, false},
		{"denied by name", all.Without(NameRule("alice")), alice, false},
		{"denied by role, allowed by name", Access{[]Rule{NameRule("alice")}, []Rule{RoleRule(credential.RoleMember)}}, alice, false},
		{"denied alone", Access{Deny: []Rule{NameRule("bob")}}, alice, false},
		{"the last was removed", Access{}.With(NameRule("bob")).Without(NameRule("bob")), alice, false},
		{"restricted to it", all, restricted, true},
		{"restricted to another", all, elsewhere, false},
		{"restricted to it, and not allowed", Access{}, restricted, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.access.permits(tt.member, "web"); got != tt.want {
				t.Errorf("permits = %v, want %v", got, tt.want)
			}
		})
	}
}
