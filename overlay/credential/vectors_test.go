package credential

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"testing"

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
		{"not yet valid", changed(func(l []link) { l[0].NotBefore = now.Unix() + 601 }), ErrNotYetValid},
		{"expired", changed(func(l []link) { l[0].NotAfter = now.Unix() - 601 }), ErrExpired},
	} {
		_, err := Verify(tt.data, m.id, now)
		checkErr(t, "Verify of "+tt.name, err, tt.want, "")
		v.hex(tt.name, tt.data)
	}
	wiretest.Golden(t, "refused", v)
}
