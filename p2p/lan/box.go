package lan

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// A box is what a node says of itself, under AES-256-GCM: a nonce of 12 random
// bytes, the content, the tag of 16. The key is HKDF-SHA256 of the group's secret
// with no salt and the info boxKeyInfo; the additional data is boxVersion and the
// name of the instance that the box is under. The content is
//
//	4 bytes  when it expires, in seconds since 1970
//	4 bytes  its number among the boxes of this run
//	1 byte   the length of the peer ID, and that ID
//	1 byte   how many addresses, and for each 2 bytes of length and the address
//	zeros    up to a multiple of boxPadding
//
// with all numbers big-endian. A box without an address is a goodbye.
const (
	boxKeyInfo  = "p2pnode lan boxes"
	boxVersion  = "p2pnode lan box 1 "
	boxOverhead = 12 + 16

	// Lengths say nothing of how many addresses there are, but roughly.
	boxPadding = 128
	maxContent = 7 * boxPadding // so that a message fits in any link's packet
	maxBox     = boxOverhead + maxContent

	maxPeerID = 64
	maxAddrs  = 12 // of a box: a node has few on one link
)

const (
	// A box is good for an hour and some, whatever is done with it elsewhere.
	boxLife    = time.Hour
	boxRounded = 15 * time.Minute // so that it does not tell when a node began
	maxSkew    = 15 * time.Minute // of the clocks of two nodes
)

var (
	errForeign = errors.New("box is not of this group")
	errFormat  = errors.New("box has no such form")
	errExpired = errors.New("box is out of its time")
)

// A note is the content of a box.
type note struct {
	peer   peer.ID
	addrs  []multiaddr.Multiaddr // none: the node is leaving
	number uint32
	until  time.Time
}

// boxes makes boxes of notes and back.
type boxes struct{ aead cipher.AEAD }

func newBoxes(secret []byte) (boxes, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, boxKeyInfo, 32)
	if err != nil {
		return boxes{}, fmt.Errorf("key of boxes: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return boxes{}, fmt.Errorf("key of boxes: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return boxes{}, fmt.Errorf("key of boxes: %w", err)
	}
	return boxes{aead}, nil
}

// seal returns a box to be shown under the name instance from now on. Addresses
// that find no room are left out, the last ones first.
func (b boxes) seal(instance string, n note, now time.Time) []byte {
	until := now.Add(boxLife).Truncate(boxRounded).Add(boxRounded)
	content := make([]byte, 0, maxContent)
	content = binary.BigEndian.AppendUint32(content, uint32(until.Unix()))
	content = binary.BigEndian.AppendUint32(content, n.number)
	content = append(content, byte(len(n.peer)))
	content = append(content, n.peer...)
	count := len(content)
	content = append(content, 0)
	for _, a := range n.addrs {
		raw := a.Bytes()
		if content[count] == maxAddrs || len(content)+2+len(raw) > maxContent {
			continue
		}
		content[count]++
		content = binary.BigEndian.AppendUint16(content, uint16(len(raw)))
		content = append(content, raw...)
	}
	padded := (len(content) + boxPadding - 1) / boxPadding * boxPadding
	content = content[:padded] // it was made of zeros
	return b.aead.Seal(nil, nil, content, []byte(boxVersion+instance))
}

// open returns what is in a box that was shown under the name instance.
func (b boxes) open(instance string, box []byte, now time.Time) (note, error) {
	if len(box) <= boxOverhead || len(box) > maxBox {
		return note{}, errFormat
	}
	content, err := b.aead.Open(nil, nil, box, []byte(boxVersion+instance))
	if err != nil {
		return note{}, errForeign
	}
	n, err := parseNote(content)
	if err != nil {
		return note{}, err
	}
	if n.until.Before(now.Add(-maxSkew)) || n.until.After(now.Add(boxLife+boxRounded+maxSkew)) {
		return note{}, errExpired
	}
	return n, nil
}

// parseNote reads what a member wrote, which may still be wrong.
func parseNote(b []byte) (note, error) {
	r := reader{rest: b}
	n := note{
		until:  time.Unix(int64(binary.BigEndian.Uint32(r.take(4))), 0),
		number: binary.BigEndian.Uint32(r.take(4)),
	}
	size := int(r.take(1)[0])
	id := r.take(size)
	count := int(r.take(1)[0])
	if r.short || size > maxPeerID || count > maxAddrs {
		return note{}, errFormat
	}
	var err error
	if n.peer, err = peer.IDFromBytes(id); err != nil {
		return note{}, errFormat
	}
	for range count {
		raw := r.take(int(binary.BigEndian.Uint16(r.take(2))))
		addr, err := multiaddr.NewMultiaddrBytes(raw)
		if r.short || err != nil {
			return note{}, errFormat
		}
		n.addrs = append(n.addrs, addr)
	}
	return n, nil
}

// A reader takes a message apart. Past its end there are zeros.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.short = true
		return make([]byte, n)
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}
