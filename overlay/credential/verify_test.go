package credential

import (
	"crypto/ed25519"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A link is a grant still to be signed: claims about the key testKey(subject).
type link struct {
	subject byte
	claims
}

// forge signs a chain, leaf first, whether or not it is allowed: each link by
// the subject of the next, the last by testKey(root).
func forge(t testing.TB, root byte, links []link) []grant {
	t.Helper()
	mesh := MeshID(testPublic(root))
	chain := make([]grant, len(links))
	for i, l := range links {
		signer := root
		if i+1 < len(links) {
			signer = links[i+1].subject
		}
		c := l.claims
		copy(c.Subject[:], testPublic(l.subject))
		message := must(c.message(mesh))
		chain[i] = grant{Claims: c, Signature: [64]byte(ed25519.Sign(testKey(signer), message))}
	}
	return chain
}

// goodLinks is a chain that verifies: bob, by an invite, of admin carol, of the
// founder alice. Times are relative to now.
func goodLinks() []link {
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	return []link{
		{4, claims{Kind: KindNode, Name: "bob", Roles: RoleMember, NotBefore: at(-1 * time.Hour), NotAfter: at(1 * time.Hour)}},
		{3, claims{Kind: KindInvite, Roles: DefaultRoles, NotBefore: at(-2 * time.Hour), NotAfter: at(2 * time.Hour)}},
		{2, claims{Kind: KindNode, Name: "carol", Roles: allRoles, NotBefore: at(-3 * time.Hour), NotAfter: at(3 * time.Hour)}},
		{1, claims{Kind: KindNode, Name: "alice", Roles: allRoles, NotBefore: at(-4 * time.Hour), NotAfter: at(4 * time.Hour)}},
	}
}

func TestVerifyRules(t *testing.T) {
	const leaf, invite, admin, founder = 0, 1, 2, 3
	for _, tt := range []struct {
		name   string
		change func(links []link) []link
		want   error // nil means that it verifies
		says   string
	}{
		{"good", func(l []link) []link { return l }, nil, ""},

		// Form.
		{"no grant", func(l []link) []link { return nil }, ErrInvalid, "no grant"},
		{"more than four", func(l []link) []link { return append(l, l[founder]) }, ErrInvalid, "5 grants; at most 4"},
		{"kind zero", func(l []link) []link { l[leaf].Kind = 0; return l }, ErrInvalid, "grant 1 of 4: invalid: unknown kind 0"},
		{"unknown kind", func(l []link) []link { l[admin].Kind = 3; return l }, ErrInvalid, "grant 3 of 4: invalid: unknown kind 3"},
		{"node without name", func(l []link) []link { l[leaf].Name = ""; return l }, ErrInvalid, `name ""`},
		{"invite with a bad name", func(l []link) []link { l[invite].Name = "Bob"; return l }, ErrInvalid, `name "Bob"`},
		{"no role", func(l []link) []link { l[leaf].Roles = 0; return l }, ErrInvalid, "roles"},
		{"unknown role", func(l []link) []link { l[admin].Roles |= 8; return l }, ErrInvalid, "roles"},
		{"ends before it starts", func(l []link) []link { l[leaf].NotAfter = l[leaf].NotBefore - 1; return l }, ErrInvalid, "no stretch of time"},
		{"ends as it starts", func(l []link) []link { l[leaf].NotAfter = l[leaf].NotBefore; return l }, ErrInvalid, "no stretch of time"},
		{"starts before 1970", func(l []link) []link { l[leaf].NotBefore = -1; return l }, ErrInvalid, "no stretch of time"},
		{"ends after 9999", func(l []link) []link { l[founder].NotAfter = math.MaxInt64; return l }, ErrInvalid, "no stretch of time"},

		// What an admin may give, and who is one.
		{"roles that the admin lacks", func(l []link) []link { l[admin].Roles = RoleAdmin; return l }, nil, ""},
		{"by a member", func(l []link) []link { l[founder].Roles = DefaultRoles; return l[admin:] }, ErrNotAllowed, "no admin"},
		{"invite by a member", func(l []link) []link { l[admin].Roles = DefaultRoles; return l }, ErrNotAllowed, "no admin"},
		{"by the root alone", func(l []link) []link { return l[:1] }, nil, ""},
		{"by an invite of the root", func(l []link) []link { return l[:2] }, nil, ""},

		// What an invite may give.
		{"more roles than the invite has", func(l []link) []link { l[leaf].Roles |= RoleAdmin; return l }, ErrNotAllowed, "not all among"},
		{"as many roles as the invite has", func(l []link) []link { l[leaf].Roles = l[invite].Roles; return l }, nil, ""},
		{"an admin, by an invite for one", func(l []link) []link {
			l[leaf].Roles, l[invite].Roles = RoleAdmin, allRoles
			return l
		}, nil, ""},
		{"the name the invite is for", func(l []link) []link { l[invite].Name = "bob"; return l }, nil, ""},
		{"another name than the invite is for", func(l []link) []link { l[invite].Name = "eve"; return l }, ErrNotAllowed, `for the name "eve" alone`},
		{"an invite by an invite", func(l []link) []link { l[leaf].Kind = KindInvite; return l[:2] }, ErrNotAllowed, "cannot give invites"},
		{"an invite with no room below", func(l []link) []link {
			l[invite].Kind, l[invite].Name, l[leaf].Kind = KindNode, "dave", KindInvite
			l[invite].Roles = allRoles
			return l
		}, ErrNotAllowed, "no room"},

		// Time within the issuer's.
		{"starts before its issuer", func(l []link) []link { l[leaf].NotBefore = l[invite].NotBefore - 1; return l }, ErrNotAllowed, "it starts 2026-01-02T01:04:04Z, before its issuer, 2026-01-02T01:04:05Z"},
		{"starts with its issuer", func(l []link) []link { l[leaf].NotBefore = l[invite].NotBefore; return l }, nil, ""},
		{"ends after its issuer", func(l []link) []link { l[leaf].NotAfter = l[invite].NotAfter + 1; return l }, ErrNotAllowed, "it ends"},
		{"ends with its issuer", func(l []link) []link { l[leaf].NotAfter = l[invite].NotAfter; return l }, nil, ""},
		{"an issuer ends after its own", func(l []link) []link { l[admin].NotAfter = l[founder].NotAfter + 1; return l }, ErrNotAllowed, `credential of "carol", given by credential of "alice"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain := forge(t, 9, tt.change(goodLinks()))
			err := verify(chain, MeshID(testPublic(9)), now)
			checkErr(t, "verify", err, tt.want, tt.says)
		})
	}
}

func TestVerifyRefusesNoSubject(t *testing.T) {
	chain := forge(t, 9, goodLinks())
	chain[0].Claims.Subject = [32]byte{}
	checkErr(t, "verify", verify(chain, MeshID(testPublic(9)), now), ErrInvalid, "no subject")
}

func TestVerifyTime(t *testing.T) {
	links := goodLinks()[:1]
	start, end := time.Unix(links[0].NotBefore, 0), time.Unix(links[0].NotAfter, 0)
	chain := forge(t, 9, links)
	for _, tt := range []struct {
		name string
		now  time.Time
		want error
		says string
	}{
		{"as it starts", start, nil, ""},
		{"within tolerance before", start.Add(-ClockTolerance), nil, ""},
		{"too early", start.Add(-ClockTolerance - time.Nanosecond), ErrNotYetValid, "a clock is wrong, this machine's or the issuer's"},
		{"three hours too early", start.Add(-3 * time.Hour), ErrNotYetValid, "starts 2026-01-02T02:04:05Z, but here it is 2026-01-01T23:04:05Z, 3h0m0s earlier"},
		{"a clock that starts in 1970", time.Unix(0, 0), ErrNotYetValid, "1970-01-01"},
		{"as it ends", end, nil, ""},
		{"within tolerance after", end.Add(ClockTolerance), nil, ""},
		{"too late", end.Add(ClockTolerance + time.Nanosecond), ErrExpired, "ended 2026-01-02T04:04:05Z, 10m0s ago"},
		{"two days late", end.Add(48 * time.Hour), ErrExpired, "48h0m0s ago"},
		{"in another zone", end.Add(time.Hour).In(time.FixedZone("", -3*3600)), ErrExpired, "1h0m0s ago"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkErr(t, "verify", verify(chain, MeshID(testPublic(9)), tt.now), tt.want, tt.says)
		})
	}
}

// A chain that is out of time and out of order is out of order.
func TestVerifyTimeComesLast(t *testing.T) {
	links := goodLinks()
	links[1].Name = "eve"
	err := verify(forge(t, 9, links), MeshID(testPublic(9)), now.Add(100*time.Hour))
	checkErr(t, "verify", err, ErrNotAllowed, "eve")
}

func TestVerifyOtherMesh(t *testing.T) {
	m, other := newTestMesh(t, 1), newTestMesh(t, 101)
	_, err := m.bob.Verify(other.id, now)
	checkErr(t, "Verify", err, ErrWrongMesh, "root's signature")
	checkErr(t, "Verify", err, ErrWrongMesh, other.id.String())
}

// The root of one mesh may be an admin's key in another, and the same admin may
// be in two meshes; a grant still counts in one alone.
func TestVerifyGrantIsOfOneMesh(t *testing.T) {
	links := goodLinks()
	here, there := forge(t, 9, links), forge(t, 8, links)
	mixed := append(here[:1:1], there[1:]...)
	checkErr(t, "verify", verify(mixed, MeshID(testPublic(8)), now), ErrInvalid, `signature on credential of "bob"`)
}

// The key of all zeros is one for which signatures can be made up.
func TestVerifyZeroMesh(t *testing.T) {
	m := newTestMesh(t, 1)
	_, err := m.bob.Verify(MeshID{}, now)
	checkErr(t, "Verify", err, ErrWrongMesh, "zero")
}

func TestVerifyInviteIsNoMember(t *testing.T) {
	m := newTestMesh(t, 1)
	_, err := must(newCredential(m.invite.chain)).Verify(m.id, now)
	checkErr(t, "Verify", err, ErrNotAllowed, "an invite gives membership and has none")
}

// grantFields names the parts of a grant, and how to take each from another.
var grantFields = []struct {
	name string
	take func(to *grant, from grant)
}{
	{"subject", func(to *grant, from grant) { to.Claims.Subject = from.Claims.Subject }},
	{"kind", func(to *grant, from grant) { to.Claims.Kind = from.Claims.Kind }},
	{"name", func(to *grant, from grant) { to.Claims.Name = from.Claims.Name }},
	{"roles", func(to *grant, from grant) { to.Claims.Roles = from.Claims.Roles }},
	{"not before", func(to *grant, from grant) { to.Claims.NotBefore = from.Claims.NotBefore }},
	{"not after", func(to *grant, from grant) { to.Claims.NotAfter = from.Claims.NotAfter }},
	{"serial", func(to *grant, from grant) { to.Claims.Serial = from.Claims.Serial }},
	{"uses", func(to *grant, from grant) { to.Claims.Uses = from.Claims.Uses }},
	{"services", func(to *grant, from grant) { to.Claims.Services = from.Claims.Services }},
	{"admitted", func(to *grant, from grant) { to.Claims.Admitted = from.Claims.Admitted }},
	{"name chosen", func(to *grant, from grant) { to.Claims.NameChosen = from.Claims.NameChosen }},
	{"admitted by", func(to *grant, from grant) { to.Claims.AdmittedBy = from.Claims.AdmittedBy }},
	{"claims", func(to *grant, from grant) { to.Claims = from.Claims }},
	{"signature", func(to *grant, from grant) { to.Signature = from.Signature }},
	{"all", func(to *grant, from grant) { *to = from }},
}

// Nothing of one mesh's credential can stand in another's.
func TestVerifyRefusesSwappedFields(t *testing.T) {
	ours, theirs := goodLinks(), goodLinks()
	for i := range theirs {
		l := &theirs[i]
		l.subject += 100
		l.Name = strings.Repeat("x", i+1)
		l.NotBefore++
		l.NotAfter++
		l.Roles ^= RoleRelay
		l.Serial = Serial{1}
		l.Kind = 3 - l.Kind
		l.Uses, l.Services = 7, []string{"x"}
		l.Admitted, l.NameChosen, l.AdmittedBy = 7, true, [][32]byte{{7}}
	}
	mesh := MeshID(testPublic(9))
	chain, other := forge(t, 9, ours), forge(t, 8, theirs)
	for i := range chain {
		for _, field := range grantFields {
			mixed := append([]grant(nil), chain...)
			field.take(&mixed[i], other[i])
			if reflect.DeepEqual(mixed[i], chain[i]) {
				t.Errorf("grant %d: %s is the same in both chains, which tests nothing", i, field.name)
			}
			if err := verify(mixed, mesh, now); err == nil {
				t.Errorf("verify with %s of grant %d from another mesh = nil, want an error", field.name, i)
			}
		}
	}
}

// Grants are bound to their place: none can be left out or change places.
func TestVerifyRefusesRearrangedChains(t *testing.T) {
	chain := forge(t, 9, goodLinks())
	mesh := MeshID(testPublic(9))
	for i := range chain {
		if i < len(chain)-1 {
			swapped := append([]grant(nil), chain...)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			if err := verify(swapped, mesh, now); err == nil {
				t.Errorf("verify with grants %d and %d swapped = nil, want an error", i, i+1)
			}
		}
		if i > 0 {
			without := append(append([]grant(nil), chain[:i]...), chain[i+1:]...)
			if err := verify(without, mesh, now); err == nil {
				t.Errorf("verify without grant %d = nil, want an error", i)
			}
		}
	}
}
