package credential

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

func TestNewRoot(t *testing.T) {
	root, err := NewRoot(constant(7))
	if err != nil {
		t.Fatalf("NewRoot = %v, want nil", err)
	}
	if want := MeshID(testPublic(7)); root.Mesh() != want {
		t.Errorf("Mesh = %v, want %v", root.Mesh(), want)
	}
	again, err := RootFromKey(root.Key())
	if err != nil || again.Mesh() != root.Mesh() {
		t.Errorf("RootFromKey(Key()) = %v, %v, want %v", again, err, root)
	}
	_, err = NewRoot(drained{})
	if err == nil {
		t.Errorf("NewRoot without randomness = nil, want an error")
	}
	_, err = RootFromKey(root.Key()[1:])
	checkErr(t, "RootFromKey", err, ErrInvalid, "63 bytes, not 64")
}

func TestNewIssuer(t *testing.T) {
	m := newTestMesh(t, 1)
	_, err := NewIssuer(m.id, testKey(9), m.alice)
	checkErr(t, "NewIssuer with another key", err, ErrInvalid, `issuer with credential of "alice": invalid: it is about another key`)
	_, err = NewIssuer(m.id, testKey(2)[:10], m.alice)
	checkErr(t, "NewIssuer with part of a key", err, ErrInvalid, "10 bytes, not 64")
	_, err = NewIssuer(m.id, testKey(2), new(Credential))
	checkErr(t, "NewIssuer without credential", err, ErrInvalid, "no credential")
}

func TestIssueNode(t *testing.T) {
	m := newTestMesh(t, 1)
	end := now.Add(FounderLifetime)
	for _, tt := range []struct {
		name  string
		key   ed25519.PublicKey
		terms Terms
		until time.Time
		roles Roles
		want  error
		says  string
	}{
		{name: "defaults", key: testPublic(5), terms: Terms{Name: "dave"}, until: end, roles: DefaultRoles},
		{name: "as told", key: testPublic(5), terms: Terms{Name: "dave", Roles: RoleAdmin, NotAfter: now.Add(time.Hour)}, until: now.Add(time.Hour), roles: RoleAdmin},
		{name: "part of a second", key: testPublic(5), terms: Terms{Name: "dave", NotAfter: now.Add(1500 * time.Millisecond)}, until: now.Add(time.Second), roles: DefaultRoles},
		{name: "no name", key: testPublic(5), want: ErrInvalid, says: `name ""`},
		{name: "a bad name", key: testPublic(5), terms: Terms{Name: "Dave"}, want: ErrInvalid, says: `name "Dave"`},
		{name: "no key", terms: Terms{Name: "dave"}, want: ErrInvalid, says: "0 bytes, not 32"},
		{name: "the key of zeros", key: make([]byte, 32), terms: Terms{Name: "dave"}, want: ErrInvalid, says: "no subject"},
		{name: "a role there is not", key: testPublic(5), terms: Terms{Name: "dave", Roles: 64}, want: ErrInvalid, says: "roles"},
		{name: "beyond the issuer", key: testPublic(5), terms: Terms{Name: "dave", NotAfter: end.Add(time.Second)}, want: ErrNotAllowed, says: "after its issuer"},
		{name: "in the past", key: testPublic(5), terms: Terms{Name: "dave", NotAfter: now.Add(-time.Hour)}, want: ErrInvalid, says: `issue credential of "dave"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := m.admin.IssueNode(constant(6), now, tt.key, tt.terms)
			checkErr(t, "IssueNode", err, tt.want, tt.says)
			if err != nil {
				return
			}
			got, err := c.Verify(m.id, now)
			if err != nil {
				t.Fatalf("Verify = %v, want nil", err)
			}
			if got.Name != tt.terms.Name || got.Roles != tt.roles || !got.NotAfter.Equal(tt.until) || got.ByInvite() {
				t.Errorf("IssueNode = %+v, want %s with roles %v until %v", got, tt.terms.Name, tt.roles, tt.until)
			}
		})
	}
}

func TestIssueRefusesWhoMayNot(t *testing.T) {
	m := newTestMesh(t, 1)
	bob := must(NewIssuer(m.id, testKey(4), m.bob))
	other := must(NewIssuer(newTestMesh(t, 101).id, testKey(2), m.alice))
	for _, tt := range []struct {
		name   string
		issuer *Issuer
		now    time.Time
		want   error
		says   string
	}{
		{"a member", bob, now, ErrNotAllowed, "no admin, its roles are member,relay"},
		{"a member of another mesh", other, now, ErrWrongMesh, `issuer's own credential of "alice"`},
		{"an admin whose time has not come", m.admin, now.Add(-time.Hour), ErrNotYetValid, "issuer's own"},
		{"an admin whose time is over", m.admin, now.Add(FounderLifetime + time.Hour), ErrExpired, "issuer's own"},
		{"an admin whose time is just over", m.admin, now.Add(FounderLifetime), ErrExpired, "issuer's own"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.issuer.IssueNode(constant(6), tt.now, testPublic(5), Terms{Name: "dave"})
			checkErr(t, "IssueNode", err, tt.want, tt.says)
			_, err = tt.issuer.IssueInvite(constant(6), tt.now, Terms{}, nil)
			checkErr(t, "IssueInvite", err, tt.want, tt.says)
		})
	}
}

// An issuer whose clock is behind its own credential's start gives what starts
// with that, not before.
func TestIssueWithClockBehind(t *testing.T) {
	m := newTestMesh(t, 1)
	behind := now.Add(-ClockTolerance)
	got := must(must(m.admin.IssueNode(constant(6), behind, testPublic(5), Terms{Name: "dave"})).Verify(m.id, behind))
	if !got.NotBefore.Equal(now) {
		t.Errorf("NotBefore = %v, want the issuer's, %v", got.NotBefore, now)
	}
}

func TestIssueWithoutRandomness(t *testing.T) {
	m := newTestMesh(t, 1)
	if _, err := m.admin.IssueNode(drained{}, now, testPublic(5), Terms{Name: "dave"}); err == nil {
		t.Errorf("IssueNode = nil, want an error")
	}
	// Enough for the key and not for the serial.
	if _, err := m.admin.IssueInvite(bytes.NewReader(make([]byte, 40)), now, Terms{}, nil); err == nil {
		t.Errorf("IssueInvite = nil, want an error")
	}
}

func TestIssueInvite(t *testing.T) {
	m := newTestMesh(t, 1)
	soon := must(m.admin.IssueNode(constant(6), now, testPublic(5), Terms{Name: "dave", Roles: RoleAdmin, NotAfter: now.Add(time.Hour)}))
	dave := must(NewIssuer(m.id, testKey(5), soon))
	for _, tt := range []struct {
		name   string
		issuer *Issuer
		terms  Terms
		want   Grant
	}{
		{"defaults", m.admin, Terms{}, Grant{Roles: DefaultRoles, NotAfter: now.Add(InviteLifetime)}},
		{"as told", m.admin, Terms{Name: "eve", Roles: RoleMember, NotAfter: now.Add(time.Minute)}, Grant{Name: "eve", Roles: RoleMember, NotAfter: now.Add(time.Minute)}},
		{"longer than the default", m.admin, Terms{NotAfter: now.Add(1000 * time.Hour)}, Grant{Roles: DefaultRoles, NotAfter: now.Add(1000 * time.Hour)}},
		{"an issuer that ends sooner", dave, Terms{}, Grant{Roles: DefaultRoles, NotAfter: now.Add(time.Hour)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			invite, err := tt.issuer.IssueInvite(constant(6), now, tt.terms, nil)
			if err != nil {
				t.Fatalf("IssueInvite = %v, want nil", err)
			}
			if err := invite.Verify(now); err != nil {
				t.Errorf("Verify = %v, want nil", err)
			}
			got := invite.Grant()
			if got.Kind != KindInvite || got.Name != tt.want.Name || got.Roles != tt.want.Roles || !got.NotAfter.Equal(tt.want.NotAfter) {
				t.Errorf("Grant = %+v, want %+v", got, tt.want)
			}
			if invite.ID() != (Serial)(bytes.Repeat([]byte{6}, 16)) || invite.Mesh() != m.id {
				t.Errorf("invite %v to mesh %v, want the serial drawn and mesh %v", invite.ID(), invite.Mesh(), m.id)
			}
		})
	}
}

func TestIssueInviteRefuses(t *testing.T) {
	m := newTestMesh(t, 1)
	long := "/dns4/" + string(bytes.Repeat([]byte("n"), MaxAddrLen)) + "/tcp/1"
	one := func(addr string) []peer.AddrInfo {
		return []peer.AddrInfo{{ID: testPeer(t, 2), Addrs: addrs(t, addr)}}
	}
	many := func(peers, each int, addr string) []peer.AddrInfo {
		var start []peer.AddrInfo
		for i := range peers {
			p := peer.AddrInfo{ID: testPeer(t, byte(50+i))}
			for range each {
				p.Addrs = append(p.Addrs, addrs(t, addr)...)
			}
			start = append(start, p)
		}
		return start
	}
	rsaID := must(peer.Decode("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"))
	for _, tt := range []struct {
		name  string
		start []peer.AddrInfo
		want  error
		says  string
	}{
		{"as many as there may be", many(MaxPeers, MaxAddrs, "/ip4/203.0.113.7/udp/4001/quic-v1"), nil, ""},
		{"a relay's address", one("/ip4/203.0.113.7/tcp/4001/p2p/" + testPeer(t, 7).String() + "/p2p-circuit"), nil, ""},
		{"too many peers", many(MaxPeers+1, 1, "/ip4/203.0.113.7/tcp/4001"), ErrInvalid, "9 peers to start from; at most 8"},
		{"too many addresses", many(1, MaxAddrs+1, "/ip4/203.0.113.7/tcp/4001"), ErrInvalid, "9 addresses"},
		{"no address", many(1, 0, ""), nil, ""},
		{"an empty address", []peer.AddrInfo{{ID: testPeer(t, 2), Addrs: []multiaddr.Multiaddr{nil}}}, ErrInvalid, "is empty"},
		{"an address too long", one(long), ErrInvalid, "at most 256"},
		{"an address with its peer", one("/ip4/203.0.113.7/tcp/4001/p2p/" + testPeer(t, 2).String()), ErrInvalid, "ends in /p2p"},
		{"all of it too long for a text", many(MaxPeers, MaxAddrs, "/dns4/"+string(bytes.Repeat([]byte("n"), 200))+"/tcp/1"), ErrInvalid, "at most 8192"},
		{"a peer that is no ed25519 key", []peer.AddrInfo{{ID: rsaID, Addrs: addrs(t, "/ip4/203.0.113.7/tcp/4001")}}, ErrInvalid, "peer ID"},
		{"no peer", []peer.AddrInfo{{Addrs: addrs(t, "/ip4/203.0.113.7/tcp/4001")}}, ErrInvalid, "peer ID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := m.admin.IssueInvite(constant(6), now, Terms{}, tt.start)
			checkErr(t, "IssueInvite", err, tt.want, tt.says)
		})
	}
}

func TestInviteIssueNode(t *testing.T) {
	m := newTestMesh(t, 1)
	bound := must(m.admin.IssueInvite(constant(6), now, Terms{Name: "eve", Roles: RoleMember}, nil))
	over := now.Add(InviteLifetime + ClockTolerance + 1)
	for _, tt := range []struct {
		name   string
		invite *Invite
		now    time.Time
		asked  string
		got    string
		want   error
		says   string
	}{
		{"a name of one's own", m.invite, now, "bob", "bob", nil, ""},
		{"a bound name", bound, now, "eve", "eve", nil, ""},
		{"a bound name, not asked for", bound, now, "", "eve", nil, ""},
		{"another than the bound name", bound, now, "bob", "", ErrNotAllowed, `for the name "eve" alone`},
		{"no name", m.invite, now, "", "", ErrInvalid, `name ""`},
		{"a bad name", m.invite, now, "-", "", ErrInvalid, `name "-"`},
		{"too late", m.invite, over, "bob", "", ErrExpired, "issuer's own invite"},
		{"too early", m.invite, now.Add(-time.Hour), "bob", "", ErrNotYetValid, "issuer's own invite"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := tt.invite.IssueNode(constant(7), tt.now, testPublic(5), tt.asked)
			checkErr(t, "IssueNode", err, tt.want, tt.says)
			if err != nil {
				return
			}
			got := must(c.Verify(m.id, tt.now))
			if want := tt.invite.Grant(); got.Name != tt.got || got.Roles != want.Roles || !got.NotAfter.Equal(want.NotAfter) || !got.ByInvite() {
				t.Errorf("IssueNode = %+v, want %s with what the invite gives, %+v", got, tt.got, want)
			}
		})
	}
}

// One who joined by an invite as an admin can give credentials, and has no room
// for an invite until renewed from above.
func TestChainsEndAndRenewalShortensThem(t *testing.T) {
	m := newTestMesh(t, 1)
	carol := must(m.admin.IssueNode(constant(6), now, testPublic(5), Terms{Name: "carol", Roles: allRoles}))
	admin := must(NewIssuer(m.id, testKey(5), carol))
	invite := must(admin.IssueInvite(constant(6), now, Terms{Roles: allRoles}, nil))
	dave := must(invite.IssueNode(constant(6), now, testPublic(7), "dave"))

	last := must(NewIssuer(m.id, testKey(7), dave))
	_, err := last.IssueNode(constant(6), now, testPublic(8), Terms{Name: "erin"})
	checkErr(t, "IssueNode below four grants", err, ErrInvalid, "a chain of 5 grants; at most 4")
	_, err = last.IssueInvite(constant(6), now, Terms{}, nil)
	checkErr(t, "IssueInvite below four grants", err, ErrInvalid, "a chain of 5 grants; at most 4")

	renewed := must(m.admin.IssueNode(constant(6), now, testPublic(7), Terms{Name: "dave", Roles: allRoles}))
	again := must(NewIssuer(m.id, testKey(7), renewed))
	if _, err := again.IssueInvite(constant(6), now, Terms{}, nil); err != nil {
		t.Errorf("IssueInvite once renewed = %v, want nil", err)
	}
}
