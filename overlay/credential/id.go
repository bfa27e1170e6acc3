package credential

import (
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"fmt"
)

// base32Text is how bytes are written for people: RFC 4648 in lower case and
// without padding. It has no 0, 1, 8 and 9.
var base32Text = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// A MeshID names a mesh: it is the public half of the mesh's root key. It is no
// secret, and knowing it lets nobody in. The zero MeshID is no mesh.
type MeshID [ed25519.PublicKeySize]byte

// ParseMeshID is the inverse of [MeshID.String]. It takes exactly what String
// gives: 52 characters, lower case.
func ParseMeshID(s string) (MeshID, error) {
	var id MeshID
	if err := parseBase32(s, id[:]); err != nil {
		return MeshID{}, fmt.Errorf("mesh ID %.80q: %w: %w", s, ErrInvalid, err)
	}
	return id, nil
}

// String returns the ID in base32, 52 characters.
func (id MeshID) String() string { return base32Text.EncodeToString(id[:]) }

// short is enough of the ID for a person to tell meshes apart.
func (id MeshID) short() string { return id.String()[:8] + "…" }

// A Serial is drawn at random for each grant and so names it: an invite, or one
// credential out of several for the same key. Those who list and revoke go by it.
type Serial [16]byte

// ParseSerial is the inverse of [Serial.String]. It takes exactly what String
// gives: 26 characters, lower case.
func ParseSerial(s string) (Serial, error) {
	var serial Serial
	if err := parseBase32(s, serial[:]); err != nil {
		return Serial{}, fmt.Errorf("serial %.80q: %w: %w", s, ErrInvalid, err)
	}
	return serial, nil
}

// String returns the serial in base32, 26 characters.
func (s Serial) String() string { return base32Text.EncodeToString(s[:]) }

// parseBase32 fills dst from the one text that stands for it.
func parseBase32(s string, dst []byte) error {
	if want := base32Text.EncodedLen(len(dst)); len(s) != want {
		return fmt.Errorf("%d characters, not %d", len(s), want)
	}
	data, err := base32Text.DecodeString(s)
	if err != nil {
		return err
	}
	// The decoder skips line breaks and ignores bits left over at the end.
	if base32Text.EncodeToString(data) != s {
		return errors.New("not the one way to write it")
	}
	copy(dst, data)
	return nil
}
