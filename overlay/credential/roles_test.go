package credential

import "testing"

func TestParseRoles(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Roles
		err  error
		says string
	}{
		{"member", RoleMember, nil, ""},
		{"member,admin,relay", allRoles, nil, ""},
		{" relay , admin ", RoleRelay | RoleAdmin, nil, ""},
		{"member,member", RoleMember, nil, ""},
		{"", 0, ErrInvalid, `no role ""; there are member,admin,relay`},
		{"member,", 0, ErrInvalid, `no role ""`},
		{"owner", 0, ErrInvalid, `no role "owner"`},
		{"Member", 0, ErrInvalid, `no role "Member"`},
	} {
		t.Run(tt.text, func(t *testing.T) {
			got, err := ParseRoles(tt.text)
			checkErr(t, "ParseRoles", err, tt.err, tt.says)
			if got != tt.want {
				t.Errorf("ParseRoles(%q) = %v, want %v", tt.text, got, tt.want)
			}
		})
	}
}

func TestRolesString(t *testing.T) {
	for _, tt := range []struct {
		roles Roles
		want  string
	}{
		{0, ""},
		{RoleAdmin, "admin"},
		{DefaultRoles, "member,relay"},
		{allRoles, "member,admin,relay"},
		{RoleMember | 0x48, "member,0x48"},
	} {
		if got := tt.roles.String(); got != tt.want {
			t.Errorf("Roles(%d).String() = %q, want %q", uint8(tt.roles), got, tt.want)
		}
	}
}

func TestRolesHas(t *testing.T) {
	for _, tt := range []struct {
		roles, asked Roles
		want         bool
	}{
		{DefaultRoles, RoleMember, true},
		{DefaultRoles, DefaultRoles, true},
		{DefaultRoles, RoleAdmin, false},
		{DefaultRoles, RoleMember | RoleAdmin, false},
		{0, 0, true},
	} {
		if got := tt.roles.Has(tt.asked); got != tt.want {
			t.Errorf("%q.Has(%q) = %v, want %v", tt.roles, tt.asked, got, tt.want)
		}
	}
}

func FuzzParseRoles(f *testing.F) {
	f.Add("member,admin,relay")
	f.Add(" admin ,relay")
	f.Fuzz(func(t *testing.T, s string) {
		roles, err := ParseRoles(s)
		if err != nil {
			return
		}
		if again, err := ParseRoles(roles.String()); err != nil || again != roles {
			t.Errorf("ParseRoles(%q).String() = %q, which parses to %v, %v", s, roles, again, err)
		}
	})
}
