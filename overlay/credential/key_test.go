package credential

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

func TestKeyOf(t *testing.T) {
	// A second way to write the wrapping of a key: the fields in another order.
	raw := append([]byte{0x12, 0x20}, testPublic(2)...)
	raw = append(raw, 0x08, 0x01)
	rewrapped := peer.ID(must(multihash.Sum(raw, multihash.IDENTITY, -1)))

	for _, tt := range []struct {
		name string
		id   peer.ID
		want error
		says string
	}{
		{"ed25519", testPeer(t, 2), nil, ""},
		{"a hash of an RSA key", must(peer.Decode("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")), ErrInvalid, ""},
		{"secp256k1", must(peer.Decode("16Uiu2HAmPvJHWuoxY1BNSxzSPSC8gWXoDAjTbMYKKbaTa2P2C2sn")), ErrInvalid, ""},
		{"written in another way", rewrapped, ErrInvalid, "not the one form"},
		{"nothing", "", ErrInvalid, ""},
		{"no peer ID", "hello", ErrInvalid, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := KeyOf(tt.id)
			checkErr(t, "KeyOf", err, tt.want, tt.says)
			if err == nil && !key.Equal(testPublic(2)) {
				t.Errorf("KeyOf = %x, want %x", key, testPublic(2))
			}
		})
	}
}

func FuzzKeyOf(f *testing.F) {
	f.Add([]byte(testPeer(f, 2)))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := KeyOf(peer.ID(data))
		if err != nil {
			return
		}
		if id, err := PeerID(key); err != nil || string(id) != string(data) {
			t.Errorf("PeerID(KeyOf(%x)) = %x, %v, want the same", data, string(id), err)
		}
	})
}
