package credential

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// now is the time of all tests here, after which each fixture's grants are good
// for a day.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// constant is a source of randomness that gives the same byte for ever.
type constant byte

func (c constant) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{byte(c)}, len(p)))
	return len(p), nil
}

// testKey returns the key whose seed is 32 times b.
func testKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func testPublic(b byte) ed25519.PublicKey {
	return testKey(b).Public().(ed25519.PublicKey)
}

func testPeer(t testing.TB, b byte) peer.ID {
	t.Helper()
	id, err := idOf(testPublic(b))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func addrs(t testing.TB, texts ...string) []multiaddr.Multiaddr {
	t.Helper()
	var out []multiaddr.Multiaddr
	for _, text := range texts {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, addr)
	}
	return out
}

// testStart is what a usual invite holds: its issuer with four addresses.
func testStart(t testing.TB) []peer.AddrInfo {
	t.Helper()
	return []peer.AddrInfo{{
		ID: testPeer(t, 2),
		Addrs: addrs(t, "/ip4/203.0.113.7/tcp/4001", "/ip4/203.0.113.7/udp/4001/quic-v1",
			"/ip4/192.168.1.20/tcp/4001", "/ip4/192.168.1.20/udp/4001/quic-v1"),
	}}
}

// must is for fixtures, whose making is tested elsewhere.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A testMesh is a root, its founder alice, an invite of hers, and bob, who
// joined by it.
type testMesh struct {
	root   *Root
	id     MeshID
	alice  *Credential
	admin  *Issuer
	invite *Invite
	bob    *Credential
}

// newTestMesh makes keys and serials from seed on, so that meshes from different
// seeds have nothing in common. Alice's key is testKey(seed+1), bob's seed+3.
func newTestMesh(t testing.TB, seed byte) testMesh {
	t.Helper()
	var m testMesh
	m.root = must(NewRoot(constant(seed)))
	m.id = m.root.Mesh()
	m.alice = must(m.root.Found(constant(seed+10), now, testPublic(seed+1), "alice"))
	m.admin = must(NewIssuer(m.id, testKey(seed+1), m.alice))
	key, serial := io.LimitReader(constant(seed+2), ed25519.SeedSize), constant(seed+11)
	m.invite = must(m.admin.IssueInvite(io.MultiReader(key, serial), now, Terms{}, testStart(t)))
	m.bob = must(m.invite.IssueNode(constant(seed+12), now, testPublic(seed+3), "bob"))
	return m
}

// checkErr fails unless err is the sentinel and says what is wanted. Without a
// sentinel it must be nil.
func checkErr(t *testing.T, what string, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", what, err, want)
	}
	if want != nil && err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("%s = %q, want it to say %q", what, err, says)
	}
}

func TestVerify(t *testing.T) {
	m := newTestMesh(t, 1)
	got, err := m.bob.Verify(m.id, now)
	if err != nil {
		t.Fatalf("Verify = %v, want nil", err)
	}
	if want := testPeer(t, 4); got.ID != want || !got.Key.Equal(testPublic(4)) {
		t.Errorf("Verify = member %v with key %x, want %v", got.ID, got.Key, want)
	}
	if got.Mesh != m.id || got.Kind != KindNode || got.Name != "bob" || got.Roles != DefaultRoles {
		t.Errorf("Verify = %+v, want node bob of mesh %v with roles %v", got, m.id, DefaultRoles)
	}
	if !got.NotBefore.Equal(now) || !got.NotAfter.Equal(now.Add(InviteLifetime)) {
		t.Errorf("Verify = from %v to %v, want from %v to %v", got.NotBefore, got.NotAfter, now, now.Add(InviteLifetime))
	}
	if got.Serial != (Serial)(bytes.Repeat([]byte{13}, 16)) {
		t.Errorf("Verify = serial %x, want the 16 bytes drawn", got.Serial)
	}
	if !got.ByInvite() || len(got.Issuers) != 2 || got.Issuers[0].Serial != m.invite.ID() || got.Issuers[1].Name != "alice" {
		t.Errorf("Verify = issuers %+v, want the invite, then alice", got.Issuers)
	}
}

func TestVerifyFounder(t *testing.T) {
	m := newTestMesh(t, 1)
	got, err := Verify(m.alice.Marshal(), m.id, now)
	if err != nil {
		t.Fatalf("Verify = %v, want nil", err)
	}
	if got.Roles != allRoles || !got.NotAfter.Equal(now.Add(FounderLifetime)) {
		t.Errorf("Verify = roles %v until %v, want %v until %v", got.Roles, got.NotAfter, allRoles, now.Add(FounderLifetime))
	}
	if got.ByInvite() || len(got.Issuers) != 0 {
		t.Errorf("Verify = issuers %+v, want none", got.Issuers)
	}
}

func TestParseMarshal(t *testing.T) {
	m := newTestMesh(t, 1)
	data := m.bob.Marshal()
	c, err := Parse(data)
	if err != nil {
		t.Fatalf("Parse = %v, want nil", err)
	}
	clear(data) // neither side may have kept it
	if got, want := c.Marshal(), m.bob.Marshal(); !bytes.Equal(got, want) {
		t.Errorf("Marshal = %x, want %x", got, want)
	}
	if got := c.Grants(); len(got) != 3 || got[0].Name != "bob" || got[1].Kind != KindInvite || got[2].Name != "alice" {
		t.Errorf("Grants = %+v, want bob, an invite, alice", got)
	}
}

func TestParseRefuses(t *testing.T) {
	m := newTestMesh(t, 1)
	good := m.bob.Marshal()
	replace := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%x is not in the credential", old)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	long := m.bob.chain
	for len(long) <= MaxGrants {
		long = append(long, long[len(long)-1])
	}
	for _, tt := range []struct {
		name string
		data []byte
		says string
	}{
		{"nothing", nil, "malformed"},
		{"an empty chain", []byte{0x80}, "no grant"},
		{"something else", []byte("hello"), "malformed"},
		{"more than the limit", make([]byte, MaxSize+1), "4097 bytes; at most 4096"},
		{"bytes behind it", append(m.bob.Marshal(), 0), "malformed"},
		{"a chain too long", must(newCredential(long)).data, "a chain of 5 grants; at most 4"},
		{"a length in a longer form", replace("\x63bob", "\x78\x03bob"), "canonical"},
		{"a key in a longer form", replace("\x02\x01\x03", "\x18\x02\x01\x03"), "canonical"},
		{"keys out of order", replace("\x02\x01\x03\x63bob", "\x03\x63bob\x02\x01"), "canonical"},
		{"a key twice", replace("\x02\x01\x03\x63bob", "\x02\x01\x02\x01"), "malformed"},
		{"an unknown key", replace("\x03\x63bob", "\x08\x63bob"), "malformed"},
		{"no subject", append([]byte{0x83, 0x82, 0xa6}, good[3+1+34:]...), "no subject"},
		{"a key missing", bytes.Replace(replace("\x02\x01\x03", "\x03"), []byte{0xa7}, []byte{0xa6}, 1), "canonical"},
		{"a tag", replace("\x63bob", "\xc0\x63bob"), "malformed"},
		{"bytes for text", replace("\x63bob", "\x43bob"), "malformed"},
		{"text that is not UTF-8", replace("bob", "b\xffb"), "malformed"},
		{"an unknown kind", replace("\x02\x01\x03", "\x02\x03\x03"), "unknown kind 3"},
		{"a name no member may have", replace("bob", "b b"), `name "b b"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse(tt.data)
			checkErr(t, "Parse", err, ErrInvalid, tt.says)
			if c != nil {
				t.Errorf("Parse = %v along with an error, want nil", c)
			}
		})
	}
}

func TestParseRefusesTruncated(t *testing.T) {
	data := newTestMesh(t, 1).bob.Marshal()
	for n := range data {
		if _, err := Parse(data[:n]); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse of %d bytes of %d = %v, want %v", n, len(data), err, ErrInvalid)
		}
	}
}

// Whatever bit of a credential is changed, it is no credential any more.
func TestVerifyRefusesFlippedBits(t *testing.T) {
	m := newTestMesh(t, 1)
	renewed := must(m.bob.Verify(m.id, now))
	renewed.Services = []string{"db", "web"}
	for _, c := range []*Credential{m.bob, must(m.admin.Renew(constant(14), now, renewed, now.Add(time.Hour)))} {
		data := c.Marshal()
		for bit := range 8 * len(data) {
			data[bit/8] ^= 1 << (bit % 8)
			_, err := Verify(data, m.id, now)
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrWrongMesh) {
				t.Errorf("Verify with bit %d flipped = %v, want %v or %v", bit, err, ErrInvalid, ErrWrongMesh)
			}
			data[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestVerifyWithoutCredential(t *testing.T) {
	c := new(Credential)
	_, err := c.Verify(newTestMesh(t, 1).id, now)
	checkErr(t, "Verify of the zero Credential", err, ErrInvalid, "no credential")
}

// parseSeeds are credentials of each form there is.
func parseSeeds(m testMesh) map[string]*Credential {
	restricted := must(m.admin.IssueNode(constant(21), now, testPublic(5), Terms{Name: "erin", Services: []string{"db", "web"}}))
	counted := must(m.admin.IssueInvite(constant(22), now, Terms{Uses: 2, Services: []string{"db", "web"}}, nil))
	shown := must(counted.IssueNode(constant(23), now, testPublic(6), "frank"))
	return map[string]*Credential{
		"founder":    m.alice,
		"by-invite":  m.bob,
		"restricted": restricted,
		"unredeemed": shown,
		"redeemed":   must(m.admin.Renew(constant(24), now, must(shown.Redeem(m.id, now)), now.Add(time.Hour))),
	}
}

func FuzzParse(f *testing.F) {
	m := newTestMesh(f, 1)
	signed := map[[64]byte]bool{}
	for _, c := range parseSeeds(m) {
		f.Add(c.Marshal())
		for _, g := range c.chain {
			signed[g.Signature] = true
		}
	}
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("Parse = %v, want %v", err, ErrInvalid)
			}
			return
		}
		if got := c.Marshal(); !bytes.Equal(got, data) {
			t.Errorf("Parse, then Marshal = %x, want %x", got, data)
		}
		// The seeds alone were signed, and a signature cannot be found by chance.
		if member, err := c.Verify(m.id, now); err == nil && !signed[c.chain[0].Signature] {
			t.Errorf("Verify of %x = %+v, want an error", data, member)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	m := newTestMesh(b, 1)
	for _, bb := range []struct {
		name string
		data []byte
	}{
		{"founder", m.alice.Marshal()},
		{"joined by invite", m.bob.Marshal()},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(len(bb.data)), "bytes")
			for b.Loop() {
				if _, err := Verify(bb.data, m.id, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// varied is a source of randomness without a pattern in it.
func varied(seed byte) io.Reader {
	return rand.NewChaCha8([32]byte{seed})
}

// drained is a source of randomness that has none.
type drained struct{}

func (drained) Read([]byte) (int, error) { return 0, fmt.Errorf("drained") }

var _ io.Reader = drained{}
