package unixsock

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The name of a socket tells the members of its mesh whose it is, and others
// nothing: neither the peer, nor the mesh, nor that two names are of one peer.
// It is the peer's 32 byte Ed25519 key under AES-256-GCM, with a nonce of 12
// random bytes before it and the tag of 16 behind it, in base64url without
// padding. The key is HKDF-SHA256 of the mesh's secret with no salt and the
// info namesKeyInfo; the additional data is namesVersion.
const (
	namesKeyInfo = "p2pnode unix socket names"
	namesVersion = "p2pnode unix socket name 1"

	sealedLen = 12 + 32 + 16
	nameLen   = sealedLen / 3 * 4 // of every name
)

// names encrypts peers into names of files and back.
type names struct{ aead cipher.AEAD }

func newNames(secret []byte) (names, error) {
	if len(secret) == 0 {
		return names{}, errors.New("the secret is empty, so names would hide nothing")
	}
	key, err := hkdf.Key(sha256.New, secret, nil, namesKeyInfo, 32)
	if err != nil {
		return names{}, fmt.Errorf("key of names: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return names{}, fmt.Errorf("key of names: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return names{}, fmt.Errorf("key of names: %w", err)
	}
	return names{aead}, nil
}

// encode returns a name for id that was never there before.
func (n names) encode(id peer.ID) (string, error) {
	key, err := id.ExtractPublicKey()
	if err != nil {
		return "", fmt.Errorf("peer %v is not named by an Ed25519 key: %w", id, err)
	}
	if key.Type() != pb.KeyType_Ed25519 {
		return "", fmt.Errorf("peer %v is not named by an Ed25519 key but by one of type %v", id, key.Type())
	}
	raw, err := key.Raw()
	if err != nil {
		return "", fmt.Errorf("key of peer %v: %w", id, err)
	}
	return base64.RawURLEncoding.EncodeToString(n.aead.Seal(nil, nil, raw, []byte(namesVersion))), nil
}

// decode returns whose name it is. Names of other meshes, of temporaries and
// of whatever else lies about are nobody's.
func (n names) decode(name string) (peer.ID, bool) {
	if len(name) != nameLen {
		return "", false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil || len(sealed) != sealedLen {
		return "", false
	}
	raw, err := n.aead.Open(nil, nil, sealed, []byte(namesVersion))
	if err != nil {
		return "", false
	}
	key, err := crypto.UnmarshalEd25519PublicKey(raw)
	if err != nil {
		return "", false
	}
	id, err := peer.IDFromPublicKey(key)
	return id, err == nil
}

// temporaryName returns a name for a socket that is not ready yet. It is as
// long as a name and, for its dot, never one.
func temporaryName() string {
	var b [sealedLen - 1]byte
	_, _ = rand.Read(b[:]) // never fails
	return "." + base64.RawURLEncoding.EncodeToString(b[:])
}

func isTemporaryName(name string) bool {
	return len(name) == nameLen && name[0] == '.'
}
