package credential

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCountedInvite follows one from the text to the credential that an admin gives
// for it.
func TestCountedInvite(t *testing.T) {
	m := newTestMesh(t, 1)
	made := must(m.admin.IssueInvite(varied(1), now, Terms{Uses: 2, Services: []string{"web", "db", "web"}}, testStart(t)))
	invite, err := ParseInvite(made.Text())
	if err != nil {
		t.Fatalf("ParseInvite = %v, want nil", err)
	}
	if g := invite.Grant(); g.Uses != 2 || !slices.Equal(g.Services, []string{"db", "web"}) {
		t.Errorf("Grant = %d uses for %v, want 2 for db and web", g.Uses, g.Services)
	}
	if err := invite.Verify(now); err != nil {
		t.Errorf("Invite.Verify = %v, want nil", err)
	}
	shown := must(invite.IssueNode(constant(7), now, testPublic(5), "dave"))
	_, err = shown.Verify(m.id, now)
	checkErr(t, "Verify before it is redeemed", err, ErrUnredeemed, `verify credential of "dave"`)

	member, err := shown.Redeem(m.id, now)
	if err != nil {
		t.Fatalf("Redeem = %v, want nil", err)
	}
	if member.Name != "dave" || !member.NameChosen || member.Issuers[0].Serial != invite.ID() || member.Issuers[0].Uses != 2 {
		t.Errorf("Redeem = %+v, want dave, by the invite", member)
	}
	given := must(m.admin.Renew(constant(8), now, member, now.Add(time.Hour)))
	got, err := given.Verify(m.id, now)
	if err != nil {
		t.Fatalf("Verify once redeemed = %v, want nil", err)
	}
	if got.ByInvite() || !got.NameChosen || !slices.Equal(got.Services, member.Services) || !got.AdmittedSince(invite.Grant().Key, now) {
		t.Errorf("Verify = %+v, want one who chose its name and came by the invite, for its services", got)
	}
}

func TestRedeemRefuses(t *testing.T) {
	m := newTestMesh(t, 1)
	invite := must(m.admin.IssueInvite(varied(1), now, Terms{Uses: 1}, nil))
	shown := must(invite.IssueNode(constant(7), now, testPublic(5), "dave"))
	for _, tt := range []struct {
		name string
		c    *Credential
		mesh MeshID
		now  time.Time
		want error
		says string
	}{
		{"what is to be redeemed", shown, m.id, now, nil, ""},
		{"by an invite that is not counted", m.bob, m.id, now, ErrNotAllowed, "not by an invite whose uses are counted"},
		{"by an admin", m.alice, m.id, now, ErrNotAllowed, "not by an invite"},
		{"the invite itself", must(newCredential(invite.chain)), m.id, now, ErrNotAllowed, "has none"},
		{"of another mesh", shown, newTestMesh(t, 50).id, now, ErrWrongMesh, ""},
		{"too late", shown, m.id, now.Add(InviteLifetime + time.Hour), ErrExpired, ""},
		{"too early", shown, m.id, now.Add(-time.Hour), ErrNotYetValid, ""},
		{"nothing", new(Credential), m.id, now, ErrInvalid, "no credential"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.c.Redeem(tt.mesh, tt.now)
			checkErr(t, "Redeem", err, tt.want, tt.says)
		})
	}
}

// Who has yet to redeem can't go round it by giving others what counts.
func TestUnredeemedGivesNothing(t *testing.T) {
	m := newTestMesh(t, 1)
	invite := must(m.root.Issuer().IssueInvite(varied(1), now, Terms{Uses: 1, Roles: allRoles}, nil))
	shown := must(invite.IssueNode(constant(7), now, testPublic(5), "dave"))
	dave := must(NewIssuer(m.id, testKey(5), shown))
	_, err := dave.IssueNode(constant(8), now, testPublic(6), Terms{Name: "erin"})
	checkErr(t, "IssueNode", err, ErrNotAllowed, `credential of "dave" has yet to be redeemed`)
	_, err = dave.IssueInvite(varied(2), now, Terms{}, nil)
	checkErr(t, "IssueInvite", err, ErrNotAllowed, "has yet to be redeemed")
}

// The rules that go with what a grant may say since there are revocations.
func TestVerifyNewClaims(t *testing.T) {
	const leaf, invite, admin, founder = 0, 1, 2, 3
	keys := func(n int) [][ed25519.PublicKeySize]byte {
		return slices.Repeat([][ed25519.PublicKeySize]byte{{1}}, n)
	}
	web := []string{"web"}
	for _, tt := range []struct {
		name   string
		change func(l []link) []link
		want   error
		says   string
	}{
		{"counted", func(l []link) []link { l[invite].Uses = MaxUses; return l }, nil, ""},
		{"too many uses", func(l []link) []link { l[invite].Uses = MaxUses + 1; return l }, ErrInvalid, "1001 uses"},
		{"uses of a node", func(l []link) []link { l[leaf].Uses = 1; return l }, ErrInvalid, "1 uses"},
		{"below one who came by a counted invite", func(l []link) []link {
			l[invite].Kind, l[invite].Name, l[invite].Roles = KindNode, "dave", allRoles
			l[admin].Kind, l[admin].Uses = KindInvite, 1
			return l
		}, ErrNotAllowed, "yet to be redeemed"},
		{"below one who came by an invite that is not counted", func(l []link) []link {
			l[invite].Kind, l[invite].Name, l[invite].Roles = KindNode, "dave", allRoles
			l[admin].Kind, l[admin].Name = KindInvite, ""
			return l
		}, nil, ""},

		{"services", func(l []link) []link { l[leaf].Services = []string{"db", "web"}; return l }, nil, ""},
		{"services of both", func(l []link) []link { l[leaf].Services, l[invite].Services = web, web; return l }, nil, ""},
		{"services of the invite alone", func(l []link) []link { l[invite].Services = web; return l }, ErrNotAllowed, "for the services [web] alone"},
		{"other services than the invite's", func(l []link) []link {
			l[leaf].Services, l[invite].Services = []string{"db"}, web
			return l
		}, ErrNotAllowed, "for the services [web] alone"},
		{"more services than the invite's", func(l []link) []link {
			l[leaf].Services, l[invite].Services = []string{"db", "web"}, web
			return l
		}, ErrNotAllowed, "for the services [web] alone"},
		{"nine services", func(l []link) []link { l[leaf].Services = strings.Split("abcdefghi", ""); return l }, ErrInvalid, "9 services; at most 8"},
		{"services out of order", func(l []link) []link { l[leaf].Services = []string{"web", "db"}; return l }, ErrInvalid, "out of order"},
		{"a service twice", func(l []link) []link { l[leaf].Services = []string{"web", "web"}; return l }, ErrInvalid, "out of order"},
		{"a service of no name", func(l []link) []link { l[leaf].Services = []string{""}; return l }, ErrInvalid, `service name ""`},
		{"an admin's services", func(l []link) []link { l[admin].Services = web; return l }, ErrInvalid, "an admin restricted"},
		{"services of an invite for admins", func(l []link) []link {
			l[invite].Services, l[invite].Roles, l[leaf].Services = web, allRoles, web
			return l
		}, ErrInvalid, "an admin restricted"},

		{"renewed", func(l []link) []link { l[admin].Admitted, l[admin].AdmittedBy = 1, keys(MaxAdmittedBy); return l }, nil, ""},
		{"renewed, with a name of its own", func(l []link) []link {
			l[admin].Admitted, l[admin].AdmittedBy, l[admin].NameChosen = 1, keys(1), true
			return l
		}, nil, ""},
		{"renewed by an invite", func(l []link) []link { l[leaf].Admitted, l[leaf].AdmittedBy = 1, keys(1); return l }, ErrNotAllowed, "cannot say who admitted"},
		{"an invite renewed", func(l []link) []link { l[invite].Admitted, l[invite].AdmittedBy = 1, keys(1); return l }, ErrInvalid, "an invite that was admitted"},
		{"admitted by nobody", func(l []link) []link { l[admin].Admitted = 1; return l }, ErrInvalid, "by 0 keys"},
		{"admitted by too many", func(l []link) []link { l[admin].Admitted, l[admin].AdmittedBy = 1, keys(MaxAdmittedBy+1); return l }, ErrInvalid, "by 17 keys"},
		{"admitted at no time", func(l []link) []link { l[admin].AdmittedBy = keys(1); return l }, ErrInvalid, "admitted at second 0"},
		{"admitted before 1970", func(l []link) []link { l[admin].Admitted, l[admin].AdmittedBy = -1, keys(1); return l }, ErrInvalid, "admitted at second -1"},
		{"admitted after 9999", func(l []link) []link { l[admin].Admitted, l[admin].AdmittedBy = maxTime+1, keys(1); return l }, ErrInvalid, "admitted at second"},
		{"a name chosen and nothing else", func(l []link) []link { l[admin].NameChosen = true; return l }, ErrInvalid, "by 0 keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := verify(forge(t, 9, tt.change(goodLinks())), MeshID(testPublic(9)), now)
			checkErr(t, "verify", err, tt.want, tt.says)
		})
	}
}

// A renewed credential says how the member came in, and on whose word: of all who
// gave it one but the last.
func TestRenew(t *testing.T) {
	c := newCast()
	keyOf := func(names string) (keys []ed25519.PublicKey) {
		for _, name := range strings.Fields(names) {
			switch {
			case c.invites[name] != nil:
				keys = append(keys, c.invites[name].Grant().Key)
			case name == "root":
				keys = append(keys, c.id[:])
			default:
				keys = append(keys, c.key(name))
			}
		}
		return keys
	}
	for _, tt := range []struct {
		name, who string
		by        []string
		admitted  string
		chosen    bool
	}{
		{"who came by an invite", "gus", []string{"alice"}, "open bob alice", true},
		{"whom an admin admitted", "mia", []string{"ben"}, "bob alice", false},
		{"by the same admin", "mia", []string{"bob", "bob"}, "bob alice", false},
		{"by one admin and another", "mia", []string{"ben", "dora", "bob"}, "bob alice dora ben", false},
		{"whom the root admitted", "amy", []string{"alice"}, "root", false},
		{"whom the root admitted, by one admin and another", "amy", []string{"bob", "ben"}, "root bob", false},
		{"by the root", "mia", []string{"root"}, "bob alice", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			credential := c.members[tt.who]
			first := must(credential.Verify(c.id, now))
			later := now
			for _, by := range tt.by {
				later = later.Add(time.Minute)
				credential = must(c.issuer(by).Renew(c.draw(), later, must(credential.Verify(c.id, later)), later.Add(time.Hour)))
			}
			got := must(credential.Verify(c.id, later))
			if got.Name != first.Name || got.Roles != first.Roles || got.ID != first.ID || !got.NotAfter.Equal(later.Add(time.Hour)) {
				t.Errorf("Renew = %+v, want the same member as %+v until an hour later", got, first)
			}
			if !got.Admitted.Equal(now) || got.NameChosen != tt.chosen {
				t.Errorf("Admitted = %v, NameChosen = %v, want %v, %v", got.Admitted, got.NameChosen, now, tt.chosen)
			}
			want := keyOf(tt.admitted)
			if !slices.EqualFunc(got.AdmittedBy(), want, func(a, b ed25519.PublicKey) bool { return a.Equal(b) }) {
				t.Errorf("AdmittedBy = %x, want those of %s: %x", got.AdmittedBy(), tt.admitted, want)
			}
			if !got.AdmittedSince(want[0], now) || got.AdmittedSince(want[0], later) || got.AdmittedSince(testPublic(99), now) {
				t.Errorf("AdmittedSince does not tell who, or when")
			}
		})
	}
}

// An admin can't hide whom it admitted by saying that it was another: whoever
// renews that adds the admin's own key.
func TestRenewFindsLiars(t *testing.T) {
	c := newCast()
	lie := c.issuer("bob").claims(KindNode, Terms{Name: "mole"}, now)
	lie.Subject = [32]byte(c.key("mole"))
	lie.Admitted, lie.AdmittedBy = now.Unix(), [][32]byte{{1, 2, 3}}
	mole := must(c.issuer("bob").issueNode(c.draw(), now, lie))
	for _, by := range []string{"ben", "dora", "alice"} {
		mole = must(c.issuer(by).Renew(c.draw(), now, must(mole.Verify(c.id, now)), now.Add(time.Hour)))
		set := setOf(c.id, c.revoke(deed{by: "amy", of: "bob", since: time.Unix(1, 0)})...)
		checkErr(t, "Check once renewed by "+by, set.Check(mole), ErrRevoked, "")
	}
	lie.AdmittedBy = slices.Repeat(lie.AdmittedBy, MaxAdmittedBy)
	full := must(c.issuer("bob").issueNode(c.draw(), now, lie))
	_, err := c.issuer("ben").Renew(c.draw(), now, must(full.Verify(c.id, now)), now.Add(time.Hour))
	checkErr(t, "Renew where there is no room for the admin's key", err, ErrInvalid, "by 17 keys; there are 1 to 16")
}

func TestRenewRefuses(t *testing.T) {
	c := newCast()
	member := must(c.members["gus"].Verify(c.id, now))
	_, err := c.issuer("mia").Renew(c.draw(), now, member, now.Add(time.Hour))
	checkErr(t, "Renew by a member", err, ErrNotAllowed, "no admin")
	_, err = c.issuer("bob").Renew(c.draw(), now, member, now.Add(FounderLifetime+time.Second))
	checkErr(t, "Renew beyond the issuer's end", err, ErrNotAllowed, "after its issuer")
	_, err = c.issuer("bob").Renew(drained{}, now, member, now.Add(time.Hour))
	if err == nil {
		t.Errorf("Renew without randomness = nil, want an error")
	}
}

// Whatever is valid can be encoded: the longest names, all services, an end in the
// year 9999, and each member in the chain renewed by as many as there may be.
func TestWhateverIsValidFits(t *testing.T) {
	name := strings.Repeat("n", MaxName)
	var services []string
	for i := range MaxServices {
		services = append(services, fmt.Sprintf("%d%s", i, name[1:]))
	}
	node := func(subject byte, roles Roles, services []string) link {
		l := link{subject, claims{Kind: KindNode, Name: name, Roles: roles, NotBefore: maxTime - 1, NotAfter: maxTime, Services: services}}
		l.Admitted, l.NameChosen = maxTime, true
		for i := range byte(MaxAdmittedBy) {
			l.AdmittedBy = append(l.AdmittedBy, [32]byte(testPublic(i)))
		}
		return l
	}
	joined := node(3, DefaultRoles, services)
	joined.Admitted, joined.NameChosen, joined.AdmittedBy = 0, false, nil
	invite := link{4, joined.claims}
	invite.Kind, invite.Uses = KindInvite, MaxUses
	for _, tt := range []struct {
		name  string
		links []link
	}{
		{"by admins", []link{node(3, DefaultRoles, services), node(4, allRoles, nil), node(5, allRoles, nil), node(6, allRoles, nil)}},
		{"by an invite", []link{joined, invite, node(5, allRoles, nil), node(6, allRoles, nil)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain := forge(t, 9, tt.links)
			if err := verify(chain, MeshID(testPublic(9)), time.Unix(maxTime, 0)); err != nil {
				t.Fatalf("verify = %v, want nil", err)
			}
			c, err := newCredential(chain)
			if err != nil {
				t.Fatalf("encode = %v, want nil", err)
			}
			t.Logf("%d bytes of %d", len(c.Marshal()), MaxSize)
			if _, err := Parse(c.Marshal()); err != nil {
				t.Errorf("Parse = %v, want nil", err)
			}
		})
	}
}
