package credential

import (
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// KeyOf returns the ed25519 key that a peer ID holds. An ID of another kind of
// key, which no member has, is [ErrInvalid].
func KeyOf(id peer.ID) (ed25519.PublicKey, error) {
	public, err := id.ExtractPublicKey()
	if err != nil {
		return nil, fmt.Errorf("peer ID %q: %w: %w", id, ErrInvalid, err)
	}
	if public.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("peer ID %q: %w: a key of type %v, not ed25519", id, ErrInvalid, public.Type())
	}
	raw, err := public.Raw()
	if err != nil {
		return nil, fmt.Errorf("peer ID %q: %w: %w", id, ErrInvalid, err)
	}
	// The key in an ID is wrapped, and the wrapping can be written in more ways
	// than one. A second ID for the same key would be a second identity.
	if again, err := idOf(raw); err != nil || again != id {
		return nil, fmt.Errorf("peer ID %q: %w: not the one form of it", id, ErrInvalid)
	}
	return raw, nil
}

func idOf(key ed25519.PublicKey) (peer.ID, error) {
	public, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(public)
}

// A privateKey signs. It is a function that returns the seed: package fmt shows a
// function as an address, even deep in somebody's struct, where it calls no
// method that could hide a secret, and even under a wrong verb, where it follows
// pointers. The zero privateKey has the seed of zeros, and nobody's trust.
type privateKey func() [ed25519.SeedSize]byte

func newPrivateKey(seed [ed25519.SeedSize]byte) privateKey {
	return func() [ed25519.SeedSize]byte { return seed }
}

func privateKeyOf(key ed25519.PrivateKey) (privateKey, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("%w: a private key of %d bytes, not %d", ErrInvalid, len(key), ed25519.PrivateKeySize)
	}
	return newPrivateKey([ed25519.SeedSize]byte(key.Seed())), nil
}

// bytes returns a copy of the seed.
func (k privateKey) bytes() (seed [ed25519.SeedSize]byte) {
	if k != nil {
		seed = k()
	}
	return seed
}

func (k privateKey) expand() ed25519.PrivateKey {
	seed := k.bytes()
	return ed25519.NewKeyFromSeed(seed[:])
}

func (k privateKey) public() [ed25519.PublicKeySize]byte {
	// The second half of a private key, as crypto/ed25519 lays it out.
	return [ed25519.PublicKeySize]byte(k.expand()[ed25519.SeedSize:])
}

func (k privateKey) sign(message []byte) [ed25519.SignatureSize]byte {
	return [ed25519.SignatureSize]byte(ed25519.Sign(k.expand(), message))
}

// PeerID returns the peer ID of a node's public key.
func PeerID(key ed25519.PublicKey) (peer.ID, error) {
	id, err := idOf(key)
	if err != nil {
		return "", fmt.Errorf("peer ID of a key: %w: %w", ErrInvalid, err)
	}
	return id, nil
}
