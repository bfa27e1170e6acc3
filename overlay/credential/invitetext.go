package credential

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

// MaxInviteText is the most bytes the text of an invite has, white space
// included. One with four addresses has about 600.
const MaxInviteText = 8 << 10

const (
	invitePrefix  = "p2pnode"
	inviteVersion = '1' // not a character of base32, so the prefix ends where it seems to
	inviteHead    = len(invitePrefix) + 1

	lengthSize   = 2
	lengthChars  = 4 // of base32, for the length and four bits more
	checksumSize = 4

	inviteContext = "p2pnode invite v1\x00"
)

// errForeign does not say which character: errors repeat nothing of an invite.
var errForeign = errors.New("mistyped: a character in it is none that an invite has, a to z and 2 to 7")

// inviteWire is the encoded invite. It is a list and not a map, since a new
// version of it gets a new prefix.
type inviteWire struct {
	_     struct{} `cbor:",toarray"`
	Seed  [ed25519.SeedSize]byte
	Mesh  MeshID
	Chain []grant // the first without subject: that is the seed's public key
	Start []startWire
}

// startWire is a peer to start from.
type startWire struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte   // empty for the peer that issued the invite, whose key is in the chain
	Addrs [][]byte
}

// LooksLikeInvite reports whether a text starts as an invite of this or a later
// version does, white space aside: so that what a user typed can be told from
// the name of a file.
func LooksLikeInvite(text string) bool {
	err := checkPrefix(strings.Map(normalize, text))
	return err == nil || errors.Is(err, ErrNewerInvite)
}

// ParseInvite reads the text of an invite. Upper case, and white space or line
// breaks anywhere, make no difference. It checks the form; whether the invite is
// good, and still good, is for [Invite.Verify].
//
// An error is [ErrNotInvite], [ErrNewerInvite] or [ErrInvalid]; if copying did
// the harm it is also [ErrMistyped], and its text tells apart an invite that is
// cut off, one with more text behind it, and one with a mistake in it. No error
// repeats the invite.
func ParseInvite(text string) (*Invite, error) {
	if len(text) > MaxInviteText {
		return nil, fmt.Errorf("parse invite: %w: %d bytes of text; at most %d", ErrInvalid, len(text), MaxInviteText)
	}
	text = strings.Map(normalize, text)
	if err := checkPrefix(text); err != nil {
		return nil, fmt.Errorf("parse invite: %w", err)
	}
	payload, err := unwrap(text)
	if err != nil {
		return nil, fmt.Errorf("parse invite: %w, %w: %w", ErrInvalid, ErrMistyped, err)
	}
	inv, err := decodeInvite(payload)
	if err != nil {
		return nil, fmt.Errorf("parse invite: %w", err)
	}
	if inv.Text() != text {
		return nil, fmt.Errorf("parse invite: %w: not in canonical form", ErrInvalid)
	}
	return inv, nil
}

// normalize drops white space and lowers ASCII. Other letters stay, so that none
// is taken for one that it merely resembles.
func normalize(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return -1
	case 'A' <= r && r <= 'Z':
		return r - 'A' + 'a'
	}
	return r
}

func checkPrefix(text string) error {
	rest, found := strings.CutPrefix(text, invitePrefix)
	switch {
	case !found || rest == "" || rest[0] < '1' || rest[0] > '9':
		return fmt.Errorf("%w: it does not start with %q", ErrNotInvite, invitePrefix+string(inviteVersion))
	case rest[0] != inviteVersion:
		return fmt.Errorf("%w: version %c; this program knows version %c", ErrNewerInvite, rest[0], inviteVersion)
	}
	return nil
}

// wrap makes the text of a payload: a length, so that a text cut off is known as
// such, the payload, and a checksum against mistyping.
func wrap(payload []byte) string {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(payload)))
	body = append(body, payload...)
	body = append(body, checksum(payload)...)
	return invitePrefix + string(inviteVersion) + base32Text.EncodeToString(body)
}

// unwrap is the inverse of wrap, for a text whose prefix is right.
func unwrap(text string) ([]byte, error) {
	want, err := announced(text)
	if err != nil {
		return nil, err
	}
	if len(text) < want {
		return nil, fmt.Errorf("cut off: %d characters of %d", len(text), want)
	}
	body, err := base32Text.DecodeString(text[inviteHead:want])
	if err != nil {
		return nil, errForeign
	}
	payload, sum := body[lengthSize:len(body)-checksumSize], body[len(body)-checksumSize:]
	if !slices.Equal(sum, checksum(payload)) {
		return nil, errors.New("mistyped: the checksum does not match")
	}
	if len(text) > want {
		return nil, fmt.Errorf("more text behind it: %d characters, of which the invite is %d", len(text), want)
	}
	return payload, nil
}

// announced returns how long the text says it is, prefix included.
func announced(text string) (int, error) {
	head := text[inviteHead:]
	if len(head) < lengthChars {
		return 0, fmt.Errorf("cut off: %d characters, which is only its beginning", len(text))
	}
	length, err := base32Text.DecodeString(head[:lengthChars])
	if err != nil {
		return 0, errForeign
	}
	body := lengthSize + int(binary.BigEndian.Uint16(length)) + checksumSize
	n := inviteHead + base32Text.EncodedLen(body)
	if n > MaxInviteText {
		return 0, fmt.Errorf("mistyped near its beginning: it says that it has %d characters; at most %d", n, MaxInviteText)
	}
	return n, nil
}

func checksum(payload []byte) []byte {
	sum := sha256.Sum256(slices.Concat([]byte(inviteContext), payload))
	return sum[:checksumSize]
}

// encode makes the text.
func (inv *Invite) encode() (string, error) {
	chain := slices.Clone(inv.chain)
	chain[0].Claims.Subject = [ed25519.PublicKeySize]byte{}
	w := inviteWire{Seed: inv.key.bytes(), Mesh: inv.mesh, Chain: chain}
	for _, p := range inv.start {
		start, err := encodeStart(p, issuerKey(chain))
		if err != nil {
			return "", err
		}
		w.Start = append(w.Start, start)
	}
	payload, err := wire.Marshal(w)
	if err != nil {
		return "", err
	}
	if n := inviteHead + base32Text.EncodedLen(lengthSize+len(payload)+checksumSize); n > MaxInviteText {
		return "", fmt.Errorf("%w: %d characters; at most %d, which fewer or shorter addresses would meet", ErrInvalid, n, MaxInviteText)
	}
	return wrap(payload), nil
}

// decodeInvite is the inverse of encode, but for the text around the payload.
func decodeInvite(payload []byte) (*Invite, error) {
	var w inviteWire
	if err := wire.Unmarshal(payload, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(w.Chain) == 0 {
		return nil, fmt.Errorf("%w: no grant in it", ErrInvalid)
	}
	key := newPrivateKey(w.Seed)
	w.Chain[0].Claims.Subject = key.public()
	var start []peer.AddrInfo
	for _, s := range w.Start {
		p, err := decodeStart(s, issuerKey(w.Chain))
		if err != nil {
			return nil, fmt.Errorf("%w: peer to start from: %w", ErrInvalid, err)
		}
		start = append(start, p)
	}
	return newInvite(key, w.Mesh, w.Chain, start)
}

// issuerKey is the key of the node that issued the invite; nil if the root did,
// which is no node.
func issuerKey(chain []grant) ed25519.PublicKey {
	if len(chain) < 2 {
		return nil
	}
	return chain[1].Claims.Subject[:]
}

// encodeStart leaves the issuer's key out: most invites start at their issuer,
// and it is fifty characters.
func encodeStart(p peer.AddrInfo, issuer ed25519.PublicKey) (startWire, error) {
	key, err := KeyOf(p.ID)
	if err != nil {
		return startWire{}, err
	}
	if key.Equal(issuer) {
		key = nil
	}
	w := startWire{Key: key}
	for _, addr := range p.Addrs {
		w.Addrs = append(w.Addrs, addr.Bytes())
	}
	return w, nil
}

func decodeStart(w startWire, issuer ed25519.PublicKey) (peer.AddrInfo, error) {
	key := ed25519.PublicKey(w.Key)
	if len(key) == 0 {
		key = issuer
	}
	id, err := idOf(key)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	p := peer.AddrInfo{ID: id}
	for _, data := range w.Addrs {
		addr, err := multiaddr.NewMultiaddrBytes(data)
		if err != nil {
			return peer.AddrInfo{}, err
		}
		p.Addrs = append(p.Addrs, addr)
	}
	return p, nil
}
