package overlay

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/overlay/wire/wiretest"
)

// seeded returns the key whose seed is one byte 32 times over.
func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	b, err := wire.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func TestStreamVectors(t *testing.T) {
	wiretest.Golden(t, "stream", []wiretest.Vector{
		{Name: "request for web", Value: encoded(t, request{"web", KindStream})},
		{Name: "request for dns, of datagrams", Value: encoded(t, request{"dns", KindDatagram})},
		{Name: "yes", Value: encoded(t, statusOf(nil))},
		{Name: "no such service", Value: encoded(t, statusOf(ErrNoService))},
		{Name: "not permitted", Value: encoded(t, statusOf(ErrNotPermitted))},
		{Name: "too busy", Value: encoded(t, statusOf(ErrBusy))},
		{Name: "not a member", Value: encoded(t, statusOf(ErrNotMember))},
		{Name: "another kind", Value: encoded(t, statusOf(ErrKind))},
	})
}

func TestMembershipVectors(t *testing.T) {
	none := credential.NewRevocations(credential.MeshID{}).Digest()
	serial := credential.Serial(bytes.Repeat([]byte{12}, 16))
	c := claim{Serial: serial, Place: 1, Key: [32]byte(publicOf(seeded(4))), Final: true, Until: 1767323045}
	wiretest.Golden(t, "membership", []wiretest.Vector{
		{Name: "shown, with a credential of 3 bytes", Value: encoded(t, shown{Credential: []byte{1, 2, 3}, Revoked: none})},
		{Name: "shown to one who redeems", Value: encoded(t, shown{Credential: []byte{1, 2, 3}, Revoked: none, Granted: []byte{4, 5}})},
		{Name: "held, nothing", Value: encoded(t, held{Digest: none})},
		{Name: "held, one", Value: encoded(t, held{Digest: none, IDs: []credential.Hash{none}})},
		{Name: "held, and a new one", Value: encoded(t, held{Digest: none, New: []byte{1, 2, 3}})},
		{Name: "redeemed", Value: encoded(t, redeemed{Credential: []byte{4, 5}})},
		{Name: "not redeemed", Value: encoded(t, redeemed{Code: uint8(refusedInviteUsed)})},
		{Name: "claims of an invite", Value: encoded(t, claimsMessage{Serial: serial, Claims: []claim{c}})},
		{Name: "services", Value: encoded(t, listed{Streams: []string{"db", "web"}})},
		{Name: "services of all kinds", Value: encoded(t, listed{[]string{"web"}, []string{"dns"}, []uint16{8000, 8999, 0}})},
	})
}

func TestPresenceVectors(t *testing.T) {
	root, err := credential.RootFromKey(seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	key := seeded(2)
	serial := bytes.NewReader(bytes.Repeat([]byte{11}, 16))
	now := time.Unix(1767323045, 0)
	cred, err := root.Found(serial, now, publicOf(key), "alice")
	if err != nil {
		t.Fatal(err)
	}
	up, err := presence{Credential: cred.Marshal(), Seq: 1}.sign(root.Mesh(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaving, err := presence{Credential: cred.Marshal(), Seq: 2, Leaving: true}.sign(root.Mesh(), key)
	if err != nil {
		t.Fatal(err)
	}
	mesh := root.Mesh()
	wiretest.Golden(t, "presence", []wiretest.Vector{
		{Name: "mesh", Value: hex.EncodeToString(mesh[:])},
		{Name: "up", Value: hex.EncodeToString(up)},
		{Name: "leaving", Value: hex.EncodeToString(leaving)},
	})
}

func TestDHTKeyVectors(t *testing.T) {
	root, err := credential.RootFromKey(seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	m := &Mesh{id: root.Mesh()}
	wiretest.Golden(t, "dht", []wiretest.Vector{
		{Name: "name alice (text)", Value: m.nameKey("alice")},
		{Name: "service web (text)", Value: m.serviceKey("web")},
	})
}
