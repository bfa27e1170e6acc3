package credential

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/overlay/wire/wiretest"
)

type vectors []wiretest.Vector

func (v *vectors) text(name, value string) {
	*v = append(*v, wiretest.Vector{Name: name, Value: value})
}

func (v *vectors) hex(name string, value []byte) { v.text(name, hex.EncodeToString(value)) }

func seedOf(b byte) []byte { return testKey(b).Seed() }

func TestVectorsMesh(t *testing.T) {
	m := newTestMesh(t, 1)
	var v vectors
	v.hex("root seed", seedOf(1))
	v.hex("mesh ID", m.id[:])
	v.text("mesh ID as text", m.id.String())
	wiretest.Golden(t, "mesh", v)
}

func TestVectorsGrant(t *testing.T) {
	m := newTestMesh(t, 1)
	g := m.alice.chain[0]
	var v vectors
	v.hex("node seed", seedOf(2))
	v.hex("subject", g.Claims.Subject[:])
	v.text("not before", strconv.FormatInt(g.Claims.NotBefore, 10))
	v.text("not after", strconv.FormatInt(g.Claims.NotAfter, 10))
	v.hex("serial", g.Claims.Serial[:])
	v.hex("claims", must(wire.Marshal(g.Claims)))
	v.hex("signed message", must(g.Claims.message(m.id)))
	v.hex("signature", g.Signature[:])
	v.hex("credential", m.alice.Marshal())
	wiretest.Golden(t, "grant", v)
}

func TestVectorsCredential(t *testing.T) {
	m := newTestMesh(t, 1)
	member := must(m.bob.Verify(m.id, now))
	var v vectors
	v.hex("node seed", seedOf(4))
	v.hex("invite seed", seedOf(3))
	v.text("now", strconv.FormatInt(now.Unix(), 10))
	v.hex("credential", m.bob.Marshal())
	v.text("peer ID", member.ID.String())
	v.text("name", member.Name)
	v.text("roles", member.Roles.String())
	v.text("serial as text", member.Serial.String())
	wiretest.Golden(t, "credential", v)
}

func TestVectorsInvite(t *testing.T) {
	m := newTestMesh(t, 1)
	payload := must(unwrap(m.invite.Text()))
	other := peer.AddrInfo{ID: testPeer(t, 5), Addrs: addrs(t, "/ip6/2001:db8::7/udp/4001/quic-v1")}
	bound := must(m.admin.IssueInvite(constant(6), now, Terms{Name: "carol", Roles: RoleMember}, []peer.AddrInfo{other}))
	var v vectors
	v.hex("payload", payload)
	v.hex("checksum", checksum(payload))
	v.text("text", m.invite.Text())
	v.text("start peer", m.invite.Start()[0].ID.String())
	for _, addr := range m.invite.Start()[0].Addrs {
		v.text("start address", addr.String())
	}
	v.hex("bound payload", must(unwrap(bound.Text())))
	v.text("bound text", bound.Text())
	v.text("bound start peer", other.ID.String())
	v.text("bound start address", other.Addrs[0].String())
	near := must(m.admin.IssueInvite(constant(8), now, Terms{}, []peer.AddrInfo{{ID: testPeer(t, 2)}}))
	v.hex("payload without an address", must(unwrap(near.Text())))
	v.text("text without an address", near.Text())
	v.text("start peer without an address", near.Start()[0].ID.String())
	wiretest.Golden(t, "invite", v)
}

// What another implementation must refuse, and why.
func TestVectorsRefused(t *testing.T) {
	m, good := newTestMesh(t, 1), newTestMesh(t, 1).bob.Marshal()
	changed := func(change func(l []link)) []byte {
		l := goodLinks()
		change(l)
		return must(newCredential(forge(t, 1, l))).data
	}
	elsewhere := must(newCredential(forge(t, 9, goodLinks()))).data
	var v vectors
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"invalid: a length in a longer form", bytes.Replace(good, []byte("\x63bob"), []byte("\x78\x03bob"), 1), ErrInvalid},
		{"invalid: another name than was signed", bytes.Replace(good, []byte("bob"), []byte("eve"), 1), ErrInvalid},
		{"not of this mesh: signed by another root", elsewhere, ErrWrongMesh},
		{"not allowed: the invite's issuer is no admin", changed(func(l []link) { l[2].Roles = DefaultRoles }), ErrNotAllowed},
		{"not allowed: more roles than the invite's", changed(func(l []link) { l[0].Roles = RoleAdmin }), ErrNotAllowed},
		{"not allowed: another name than the invite's", changed(func(l []link) { l[1].Name = "eve" }), ErrNotAllowed},
		{"not allowed: ends after its issuer", changed(func(l []link) { l[0].NotAfter = l[1].NotAfter + 1 }), ErrNotAllowed},
		{"not allowed: an invite as a member", must(newCredential(m.invite.chain)).data, ErrNotAllowed},
		{"invalid: services out of order", changed(func(l []link) { l[0].Services = []string{"web", "db"} }), ErrInvalid},
		{"invalid: an admin restricted to services", changed(func(l []link) { l[2].Services = []string{"web"} }), ErrInvalid},
		{"invalid: uses of a node", changed(func(l []link) { l[0].Uses = 1 }), ErrInvalid},
		{"invalid: admitted by nobody", changed(func(l []link) { l[2].Admitted = now.Unix() }), ErrInvalid},
		{"not allowed: other services than the invite's", changed(func(l []link) { l[1].Services = []string{"web"} }), ErrNotAllowed},
		{"not allowed: an invite that says who admitted", changed(func(l []link) {
			l[0].Admitted, l[0].AdmittedBy = now.Unix(), [][32]byte{[32]byte(testPublic(2))}
		}), ErrNotAllowed},
		{"not allowed: by one who has yet to redeem", changed(func(l []link) {
			l[1].Kind, l[1].Name, l[1].Roles = KindNode, "dave", allRoles
			l[2].Kind, l[2].Uses = KindInvite, 1
		}), ErrNotAllowed},
		{"not yet redeemed", changed(func(l []link) { l[1].Uses = 2 }), ErrUnredeemed},
		{"not yet valid", changed(func(l []link) { l[0].NotBefore = now.Unix() + 601 }), ErrNotYetValid},
		{"expired", changed(func(l []link) { l[0].NotAfter = now.Unix() - 601 }), ErrExpired},
	} {
		_, err := Verify(tt.data, m.id, now)
		checkErr(t, "Verify of "+tt.name, err, tt.want, "")
		v.hex(tt.name, tt.data)
	}
	wiretest.Golden(t, "refused", v)
}

// A member whom an admin restricted to services, then renewed by another admin, and
// one who came by a counted invite.
func TestVectorsAdmitted(t *testing.T) {
	m := newTestMesh(t, 1)
	erin := must(m.admin.IssueNode(constant(21), now, testPublic(5), Terms{Name: "erin", Services: []string{"db", "web"}}))
	first := must(erin.Verify(m.id, now))
	counted := must(m.admin.IssueInvite(constant(22), now, Terms{Uses: 2}, nil))
	shown := must(counted.IssueNode(constant(23), now, testPublic(6), "frank"))
	given := must(m.admin.Renew(constant(24), now, must(shown.Redeem(m.id, now)), now.Add(time.Hour)))
	var v vectors
	v.hex("restricted", erin.Marshal())
	v.text("services", strings.Join(first.Services, ","))
	v.hex("renewed by the root", must(m.root.Issuer().Renew(constant(25), now, first, now.Add(time.Hour))).Marshal())
	v.text("counted invite", counted.Text())
	v.hex("not yet redeemed", shown.Marshal())
	v.hex("redeemed", given.Marshal())
	wiretest.Golden(t, "admitted", v)
}

// vectorRevocations are some by everybody who may make one.
func vectorRevocations(t testing.TB) (m testMesh, members map[string]*Credential, rs map[string]*Revocation) {
	m = newTestMesh(t, 1)
	carol := must(m.admin.IssueNode(constant(31), now, testPublic(5), Terms{Name: "carol", Roles: allRoles}))
	admin := must(NewIssuer(m.id, testKey(5), carol))
	dave := must(admin.IssueNode(constant(32), now, testPublic(6), Terms{Name: "dave"}))
	member := must(NewIssuer(m.id, testKey(6), dave))
	members = map[string]*Credential{"alice": m.alice, "bob": m.bob, "carol": carol, "dave": dave}
	rs = map[string]*Revocation{
		"the root, bob's invite":               must(m.root.Issuer().Revoke(now, RevokeTerms{Invite: m.invite.ID()})),
		"alice, carol and whom she admitted":   must(m.admin.Revoke(now, RevokeTerms{Key: testPublic(5), Since: now})),
		"alice, carol but not dave":            must(m.admin.Revoke(now, RevokeTerms{Key: testPublic(5), Keep: []*Credential{dave}})),
		"carol, bob":                           must(admin.Revoke(now, RevokeTerms{Key: testPublic(4)})),
		"carol, alice, who is nearer the root": must(admin.Revoke(now, RevokeTerms{Key: testPublic(2)})),
		"dave, himself":                        must(member.Revoke(now, RevokeTerms{Key: testPublic(6)})),
	}
	return m, members, rs
}

func TestVectorsRevocation(t *testing.T) {
	m, members, rs := vectorRevocations(t)
	var v vectors
	for _, name := range slices.Sorted(maps.Keys(members)) {
		v.hex("credential of "+name, members[name].Marshal())
	}
	holder := holderOf(members["dave"].chain)
	v.hex("dave, as he is kept", holder[:])
	one := rs["alice, carol but not dave"]
	v.hex("claims", must(wire.Marshal(one.wire.Claims)))
	v.hex("signed message", must(one.wire.Claims.message(m.id)))
	for _, name := range slices.Sorted(maps.Keys(rs)) {
		id := rs[name].ID()
		v.hex("by "+name, rs[name].Marshal())
		v.hex("its ID", id[:])
	}
	wiretest.Golden(t, "revocation", v)
}

func TestVectorsRevocations(t *testing.T) {
	m, members, rs := vectorRevocations(t)
	all := slices.Sorted(maps.Keys(rs))
	var v vectors
	for _, names := range [][]string{
		nil,
		{"the root, bob's invite"},
		{"carol, bob"},
		{"carol, alice, who is nearer the root"},
		{"dave, himself"},
		{"alice, carol and whom she admitted", "carol, bob"},
		{"alice, carol but not dave", "carol, bob"},
		all,
	} {
		set := NewRevocations(m.id)
		for _, name := range names {
			set.Add(rs[name])
		}
		var out []string
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if set.Check(members[name]) != nil {
				out = append(out, name)
			}
		}
		digest := set.Digest()
		v.text("set", cmp.Or(strings.Join(names, "; "), "nothing"))
		v.hex("digest", digest[:])
		v.text("out", cmp.Or(strings.Join(out, ","), "nobody"))
	}
	wiretest.Golden(t, "revocations", v)
}

// Revocations that another implementation must refuse, and why.
func TestVectorsRevocationsRefused(t *testing.T) {
	m, members, rs := vectorRevocations(t)
	good := rs["carol, bob"]
	by := func(name string, key byte, change func(*revocationClaims)) []byte {
		claims := revocationClaims{Target: testPublic(4), Made: now.Unix(), Issuer: members[name].chain}
		change(&claims)
		return forgeRevocation(m.id, key, claims)
	}
	other := good.Marshal()
	other[len(other)-1] ^= 1
	var v vectors
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"invalid: a target of no length there is", by("carol", 5, func(c *revocationClaims) { c.Target = c.Target[:31] }), ErrInvalid},
		{"invalid: a target of zeros", by("carol", 5, func(c *revocationClaims) { c.Target = make([]byte, 32) }), ErrInvalid},
		{"invalid: since with a serial", by("carol", 5, func(c *revocationClaims) { c.Target, c.Since = m.invite.chain[0].Claims.Serial[:], 1 }), ErrInvalid},
		{"invalid: kept out of order", by("carol", 5, func(c *revocationClaims) { c.Kept = []Hash{{2}, {1}} }), ErrInvalid},
		{"invalid: another signature", other, ErrInvalid},
		{"not of this mesh: by the root of another", forgeRevocation(m.id, 9, revocationClaims{Target: testPublic(4), Made: now.Unix()}), ErrWrongMesh},
		{"not allowed: a member, another", by("dave", 6, func(*revocationClaims) {}), ErrNotAllowed},
		{"not allowed: a member, itself and others", by("dave", 6, func(c *revocationClaims) { c.Target, c.Since = testPublic(6), 1 }), ErrNotAllowed},
		{"not yet valid: before its issuer was an admin", by("carol", 5, func(c *revocationClaims) { c.Made -= 601 }), ErrNotYetValid},
		{"expired: after its issuer was an admin", by("carol", 5, func(c *revocationClaims) { c.Made = c.Issuer[0].Claims.NotAfter + 601 }), ErrExpired},
	} {
		r, err := ParseRevocation(tt.data)
		if err == nil {
			err = r.Verify(m.id)
		}
		checkErr(t, tt.name, err, tt.want, "")
		v.hex(tt.name, tt.data)
	}
	wiretest.Golden(t, "revocations refused", v)
}
