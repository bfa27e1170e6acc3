package unixsock

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// numberedPeer returns the n-th of the peers that tests use.
func numberedPeer(t testing.TB, n byte) peer.ID {
	t.Helper()
	seed := bytes.Repeat([]byte{n}, ed25519.SeedSize)
	key, err := crypto.UnmarshalEd25519PublicKey(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newTestNames(t testing.TB, secret string) names {
	t.Helper()
	n, err := newNames([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Processes of different releases find each other by these, so they stay.
var nameVectors = []struct {
	secret, name string
	peer         byte
}{
	{"a mesh's secret", "DVbm5eddwsssSkzgaIu1_pJ7_GnZuN4KCfN-TXwmLfPFj7oLn43m6U5lM835rKowq25D6QN2r0BTIac2", 1},
	{"a mesh's secret", "y8Zf26REOxGFNDHnuXUxWeNYdYDU7wWLrmC_h1vZSLklfN5KvBiDZSVvr3rQSN0zdcceilY9WFLNh4hR", 2},
	{strings.Repeat("\x00", 32), "TLvFqhjup7dVENCP-Cx_XQvZjGi0kEyD7kfCziYGQhriMjqLEUG0_OlxjPDPYZv2W1_bTRCAdJW2a3FX", 1},
}

func TestNameVectors(t *testing.T) {
	for _, v := range nameVectors {
		got, ok := newTestNames(t, v.secret).decode(v.name)
		if want := numberedPeer(t, v.peer); !ok || got != want {
			t.Errorf("decode(%q) = %v, %v, want %v", v.name, got, ok, want)
		}
	}
}

// sealName makes a name as the format says, by other means than encode.
func sealName(t testing.TB, secret string, nonce, plain, version []byte) string {
	t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "p2pnode unix socket names", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, version))
}

func TestNamesAreMadeAsDescribed(t *testing.T) {
	n := newTestNames(t, "secret")
	id := numberedPeer(t, 1)
	key, err := id.ExtractPublicKey()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Raw()
	if err != nil {
		t.Fatal(err)
	}
	version, nonce := []byte("p2pnode unix socket name 1"), bytes.Repeat([]byte{7}, 12)
	for _, tt := range []struct {
		what, name string
		ok         bool
	}{
		{"as described", sealName(t, "secret", nonce, raw, version), true},
		{"another secret", sealName(t, "secrets", nonce, raw, version), false},
		{"another version", sealName(t, "secret", nonce, raw, []byte("p2pnode unix socket name 2")), false},
		{"a shorter key", sealName(t, "secret", nonce, raw[1:], version), false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if got, ok := n.decode(tt.name); ok != tt.ok || ok && got != id {
				t.Errorf("decode(%q) = %v, %v, want %v", tt.name, got, ok, tt.ok)
			}
		})
	}
}

func TestNamesOfNobody(t *testing.T) {
	n := newTestNames(t, "secret")
	name, err := n.encode(numberedPeer(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(name)
	flipped[40] ^= 1
	for _, tt := range []struct{ what, name string }{
		{"empty", ""},
		{"short", name[1:]},
		{"long", name + "A"},
		{"changed", string(flipped)},
		{"with a line feed", name[:40] + "\n" + name[41:]},
		{"padded", name[:79] + "="},
		{"temporary", temporaryName()},
		{"the file by which removal is noticed", keepName},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if id, ok := n.decode(tt.name); ok {
				t.Errorf("decode(%q) = %v, want nobody", tt.name, id)
			}
		})
	}
}

func TestNamesTellNothing(t *testing.T) {
	n := newTestNames(t, "secret")
	seen := map[string]bool{}
	for i := range 100 {
		name, err := n.encode(numberedPeer(t, byte(i%2)))
		if err != nil {
			t.Fatal(err)
		}
		if len(name) != nameLen || strings.ContainsAny(name, "/.\x00") || seen[name] {
			t.Fatalf("encode = %q, want a new one of %d characters", name, nameLen)
		}
		seen[name] = true
		if tmp := temporaryName(); len(tmp) != nameLen || !isTemporaryName(tmp) || isTemporaryName(name) {
			t.Fatalf("temporaryName() = %q, want one of %d characters", tmp, nameLen)
		}
	}
}

func TestNamesAreForEd25519Only(t *testing.T) {
	_, key, err := crypto.GenerateSecp256k1Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := peer.IDFromPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := multihash.Sum([]byte("a long key"), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []peer.ID{other, peer.ID(hash), ""} {
		if name, err := newTestNames(t, "secret").encode(id); err == nil || !strings.Contains(err.Error(), "Ed25519") {
			t.Errorf("encode(%v) = %q, %v, want an error that says Ed25519", id, name, err)
		}
	}
	if _, err := newNames(nil); err == nil {
		t.Error("newNames(nil) = nil, want an error")
	}
}

func FuzzDecodeName(f *testing.F) {
	v := nameVectors[0]
	n, known := newTestNames(f, v.secret), numberedPeer(f, v.peer)
	f.Add(v.name[1:])
	f.Add(temporaryName())
	for _, v := range nameVectors {
		f.Add(v.name)
	}
	f.Fuzz(func(t *testing.T, s string) {
		made := s == v.name || s == nameVectors[1].name
		if id, ok := n.decode(s); ok != made || s == v.name && id != known {
			t.Errorf("decode(%q) = %v, %v, want %v", s, id, ok, made)
		}
	})
}

func BenchmarkDecodeName(b *testing.B) {
	n := newTestNames(b, "secret")
	name, err := n.encode(numberedPeer(b, 1))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		n.decode(name)
	}
}
