package overlay

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
)

// ownedBy makes a Mesh that knows who it is and no more.
func ownedBy(t testing.TB, s speaker) *Mesh {
	t.Helper()
	member, err := s.own.Verify(s.mesh, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m := newListening(s.mesh)
	m.keys = &identity{key: s.key, mesh: s.mesh}
	m.self, m.credential = *member, s.own
	m.store, m.admission = newMemoryStore(), &admission{}
	return m
}

func TestRenewalDue(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	root := rootOf(t, 1)
	founder := newFounder(t, root, seeded(2), "alice", now)
	inv := inviteFrom(t, founder, now, credential.Terms{})
	invited, err := inv.IssueNode(zeros{}, now, publicOf(seeded(3)), "bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		who  speaker
		root *credential.Root
		want time.Time
	}{
		{"who joined by an invite, at once", speaker{founder.mesh, seeded(3), invited}, nil, now},
		{"who got it from an admin, half-way", founder.admit(t, seeded(3), now, credential.Terms{Name: "bob", NotAfter: now.Add(time.Hour)}), nil, now.Add(30 * time.Minute)},
		{"who has the root, never", founder, root, now.Add(credential.FounderLifetime)},
		{"a founder without the root, half-way", founder, nil, now.Add(credential.FounderLifetime / 2)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := ownedBy(t, tt.who)
			m.keys.root = tt.root
			if got := m.RenewalDue(); !got.Equal(tt.want) {
				t.Errorf("renewalDue = %v, want %v", got, tt.want)
			}
		})
	}
}

// What a renewed credential is like, and how long it lasts.
func TestIssueRenewed(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	admin := credential.DefaultRoles | credential.RoleAdmin
	brief := founder.admit(t, seeded(4), now, credential.Terms{Name: "carol", Roles: admin, NotAfter: now.Add(time.Hour)})
	plain := founder.admit(t, seeded(5), now, credential.Terms{Name: "dave"})
	year := 365 * 24 * time.Hour
	for _, tt := range []struct {
		name string
		by   speaker
		ends time.Duration // the member's present credential
		want time.Duration
		err  error
	}{
		{"by a founder", founder, time.Minute, memberLifetime, nil},
		{"one that lasts longer already", founder, year, year, nil},
		{"by an admin who has little time left", brief, time.Minute, time.Hour, nil},
		{"by who is no admin", plain, time.Minute, 0, ErrNotAdmin},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bob := founder.admit(t, seeded(3), now, credential.Terms{Name: "bob", Roles: admin, NotAfter: now.Add(tt.ends)})
			member, err := bob.own.Verify(bob.mesh, now)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ownedBy(t, tt.by).issue(*member)
			if tt.err != nil {
				if !errors.Is(err, tt.err) {
					t.Errorf("issue = %v, %v, want %v", c, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Verify(founder.mesh, time.Now())
			if err != nil || got.ID != member.ID || got.Name != "bob" || got.Roles != admin {
				t.Errorf("issue = %+v, %v, want one for bob with the same roles", got, err)
			}
			if early, late := now.Add(tt.want), time.Now().Add(tt.want); got.NotAfter.Before(early) || got.NotAfter.After(late) {
				t.Errorf("issue gives one until %v, want %v", got.NotAfter, early)
			}
		})
	}
}

// A node takes on what is its own and not less than what it has.
func TestAdopt(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	stranger := newFounder(t, rootOf(t, 6), seeded(2), "alice", now)
	bob := seeded(3)
	terms := func(name string, roles credential.Roles, d time.Duration) credential.Terms {
		return credential.Terms{Name: name, Roles: roles, NotAfter: now.Add(d)}
	}
	const member = credential.DefaultRoles
	for _, tt := range []struct {
		name  string
		proof []byte
		says  string // empty: it is taken on
	}{
		{"a longer one", founder.admit(t, bob, now, terms("bob", member, 2*time.Hour)).own.Marshal(), ""},
		{"one as long", founder.admit(t, bob, now, terms("bob", member, time.Hour)).own.Marshal(), ""},
		{"a shorter one", founder.admit(t, bob, now, terms("bob", member, time.Minute)).own.Marshal(), "before the present one"},
		{"another name", founder.admit(t, bob, now, terms("rob", member, 2*time.Hour)).own.Marshal(), "another peer, name, roles or services"},
		{"more roles", founder.admit(t, bob, now, terms("bob", member|credential.RoleAdmin, 2*time.Hour)).own.Marshal(), "another peer, name, roles or services"},
		{"another's", founder.admit(t, seeded(4), now, terms("bob", member, 2*time.Hour)).own.Marshal(), "another peer, name, roles or services"},
		{"another mesh's", stranger.admit(t, bob, now, terms("bob", member, 2*time.Hour)).own.Marshal(), "not of this mesh"},
		{"expired", founder.admit(t, bob, now, terms("bob", member, time.Second)).own.Marshal(), "before the present one"},
		{"nothing", nil, "invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := ownedBy(t, founder.admit(t, bob, now, terms("bob", member, time.Hour)))
			before := m.credential.Marshal()
			watched := m.changed
			err := m.adopt(tt.proof)
			kept, _ := m.store.get(selfBucket, keyCredential)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("adopt = %v, want it to say %q", err, tt.says)
				}
				if kept != nil || string(m.credential.Marshal()) != string(before) {
					t.Error("the credential is another than before")
				}
				return
			}
			if err != nil || string(kept) != string(tt.proof) || string(m.admission.proof) != string(tt.proof) || string(m.credential.Marshal()) != string(tt.proof) {
				t.Errorf("adopt = %v, want it kept, shown and used", err)
			}
			select {
			case <-watched:
			default:
				t.Error("who watches was not woken")
			}
		})
	}
}
