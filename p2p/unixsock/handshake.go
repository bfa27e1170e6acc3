package unixsock

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The handshake proves to each end which key the other holds. The kernel keeps
// others from reading and writing what follows, so nothing is encrypted.
//
//	dialer    hello
//	listener  hello, proof
//	dialer    proof
//
//	hello     version 1, length of key, key (the protobuf of libp2p), 32 random bytes, user ID
//	proof     length, signature
//
// Lengths have two bytes, the user ID four. What is signed is the signer's
// role and the SHA-256 of both hellos. That each names its user, and the kernel
// says the same to the other end, keeps a third process of another user from
// standing between the two.
const (
	handshakeVersion = 1
	nonceSize        = 32
	maxKey           = 1 << 10
	maxSignature     = 1 << 10

	handshakeTimeout = 5 * time.Second // with a machine that is busy
)

const (
	signedByDialer   = "p2pnode unixsock 1 dialer\n"
	signedByListener = "p2pnode unixsock 1 listener\n"
)

type hello struct {
	key   []byte
	nonce [nonceSize]byte
	user  uint32
}

func (h hello) bytes() []byte {
	b := append(binary.BigEndian.AppendUint16([]byte{handshakeVersion}, uint16(len(h.key))), h.key...)
	return binary.BigEndian.AppendUint32(append(b, h.nonce[:]...), h.user)
}

func readHello(r io.Reader) (h hello, err error) {
	var version [1]byte
	if _, err := io.ReadFull(r, version[:]); err != nil {
		return h, err
	}
	if version[0] != handshakeVersion {
		return h, fmt.Errorf("%w: version %d of the handshake, not %d", errProtocol, version[0], handshakeVersion)
	}
	if h.key, err = readPart(r, maxKey); err != nil {
		return h, err
	}
	var rest [nonceSize + 4]byte
	if _, err := io.ReadFull(r, rest[:]); err != nil {
		return h, err
	}
	copy(h.nonce[:], rest[:])
	h.user = binary.BigEndian.Uint32(rest[nonceSize:])
	return h, nil
}

// readPart reads a length and as many bytes.
func readPart(r io.Reader, max int) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > max {
		return nil, fmt.Errorf("%w: %d bytes where there are at most %d", errProtocol, n, max)
	}
	part := make([]byte, n)
	_, err := io.ReadFull(r, part)
	return part, err
}

// A party is the other end of a handshake that has succeeded.
type party struct {
	id   peer.ID
	key  crypto.PubKey
	user uint32
	pid  int32 // 0 if it is in another PID namespace
}

// shake runs the handshake on a socket, as the dialer or the listener. expect is
// the only peer to be content with, unless it is empty.
func shake(ctx context.Context, c *net.UnixConn, key crypto.PrivKey, dialer bool, expect peer.ID) (party, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	p, err := exchangeProofs(c, key, dialer, expect)
	if !stop() {
		return party{}, fmt.Errorf("handshake: %w", context.Cause(ctx))
	}
	if err != nil {
		return party{}, fmt.Errorf("handshake: %w", err)
	}
	return p, nil
}

func exchangeProofs(c *net.UnixConn, key crypto.PrivKey, dialer bool, expect peer.ID) (p party, err error) {
	if p.user, p.pid, err = PeerUser(c); err != nil {
		return p, err
	}
	own := hello{user: ownUser()}
	if own.key, err = crypto.MarshalPublicKey(key.GetPublic()); err != nil {
		return p, err
	}
	_, _ = rand.Read(own.nonce[:]) // never fails
	var theirs hello
	if dialer {
		if _, err := c.Write(own.bytes()); err != nil {
			return p, err
		}
		if theirs, err = readHello(c); err != nil {
			return p, err
		}
		transcript := sha256.Sum256(append(own.bytes(), theirs.bytes()...))
		if err := p.verify(c, theirs, signedByListener, transcript[:], expect); err != nil {
			return p, err
		}
		return p, prove(c, nil, key, signedByDialer, transcript[:])
	}
	if theirs, err = readHello(c); err != nil {
		return p, err
	}
	transcript := sha256.Sum256(append(theirs.bytes(), own.bytes()...))
	if err := prove(c, own.bytes(), key, signedByListener, transcript[:]); err != nil {
		return p, err
	}
	return p, p.verify(c, theirs, signedByDialer, transcript[:], expect)
}

// prove writes this end's proof, behind what is to go before it.
func prove(w io.Writer, before []byte, key crypto.PrivKey, role string, transcript []byte) error {
	sig, err := key.Sign(append([]byte(role), transcript...))
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(before, uint16(len(sig))), sig...))
	return err
}

// verify reads the other end's proof and takes in who it is.
func (p *party) verify(r io.Reader, h hello, role string, transcript []byte, expect peer.ID) error {
	sig, err := readPart(r, maxSignature)
	if err != nil {
		return err
	}
	if p.key, err = crypto.UnmarshalPublicKey(h.key); err != nil {
		return fmt.Errorf("%w: key: %w", errProtocol, err)
	}
	if p.id, err = peer.IDFromPublicKey(p.key); err != nil {
		return err
	}
	ok, err := p.key.Verify(append([]byte(role), transcript...), sig)
	switch {
	case err != nil || !ok:
		return errors.New("the other end does not hold the key that it shows")
	case h.user != p.user:
		return fmt.Errorf("the other end says it is user %d and is user %d", h.user, p.user)
	case expect != "" && expect != p.id:
		return fmt.Errorf("another peer is there: %v", p.id)
	}
	return nil
}
