package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"
)

// An Admission decides which peers a node has connections with. Its methods
// are called from many goroutines at once and must not block.
type Admission interface {
	// Proof returns what this node shows to remote, at most [MaxProof] bytes.
	// The node that dials shows it first, to whoever answers, so it should be
	// of no use to anybody else.
	Proof(remote peer.ID) []byte

	// Check judges what remote showed. That the other end holds remote's key is
	// already certain. Nil admits it. If the error is a [Refusal], or wraps
	// one, remote is told that code; otherwise it is told RefusedUnspecified.
	Check(remote peer.ID, proof []byte) error
}

// MaxProof bounds what one end shows to the other, in bytes.
const MaxProof = 9 << 10

// maxExchange is the most that one end sends, in bytes.
const maxExchange = 1 + 1 + 2 + MaxProof

// A Refusal is the reason for which a peer is not admitted, as one byte that
// the peer is told. Package p2p gives a meaning to those below 16; the rest are
// the Admission's own.
type Refusal uint8

// The reasons that package p2p has itself.
const (
	admitted           Refusal = 0
	RefusedUnspecified Refusal = 1 // no reason is given
	RefusedMalformed   Refusal = 2 // what the peer sent is not an admission exchange
	RefusedBusy        Refusal = 3 // too many connections are being admitted; try again
)

// Error says what the code means.
func (r Refusal) Error() string {
	switch r {
	case RefusedUnspecified:
		return "no reason given"
	case RefusedMalformed:
		return "not understood"
	case RefusedBusy:
		return "too busy"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// A RefusedError says that a connection was made and not admitted. Its text
// leaves out the peer, which what wraps it names.
type RefusedError struct {
	Peer peer.ID // the other end
	Here bool    // true if this node refused Peer, false if Peer refused this node
	Err  error   // a Refusal where Peer refused; what Check said where this node did
}

func (e *RefusedError) Error() string {
	if e.Here {
		return fmt.Sprintf("peer is refused: %v", e.Err)
	}
	return fmt.Sprintf("peer refuses: %v", e.Err)
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// The exchange, once on each new connection, on its first stream:
//
//	dialer    version, length of proof, proof
//	listener  version, reason 0, length of proof, proof   or   version, reason
//
// The dialer that then refuses the listener closes the connection, and so does
// the dialer that is refused. The version is one byte, and is not 19, with which
// a libp2p host that knows of no exchange begins to name its protocols.
const admissionVersion = 1

var errNoExchange = errors.New("no admission exchange")

// ask is the dialer's part. It returns nil once both ends admit each other.
func ask(rw io.ReadWriter, a Admission, remote peer.ID) error {
	proof, err := proofFor(a, remote)
	if err != nil {
		return err
	}
	if _, err := rw.Write(append([]byte{admissionVersion}, proof...)); err != nil {
		return fmt.Errorf("%w: %w", errNoExchange, err)
	}
	var head [2]byte // version, reason
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return fmt.Errorf("%w: %w", errNoExchange, err)
	}
	if head[0] != admissionVersion {
		return errNoExchange
	}
	if r := Refusal(head[1]); r != admitted {
		return &RefusedError{Peer: remote, Err: r}
	}
	theirs, err := readProof(rw)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoExchange, err)
	}
	if err := a.Check(remote, theirs); err != nil {
		return &RefusedError{Peer: remote, Here: true, Err: err}
	}
	return nil
}

// answer is the listener's part. It returns nil once it has admitted remote.
func answer(rw io.ReadWriter, a Admission, remote peer.ID) error {
	if err := judge(rw, a, remote); err != nil {
		return refuse(rw, remote, err)
	}
	proof, err := proofFor(a, remote)
	if err != nil {
		return refuse(rw, remote, err)
	}
	_, err = rw.Write(append([]byte{admissionVersion, byte(admitted)}, proof...))
	return err
}

// refuse tells remote the reason. The refusal stands whether or not it arrives.
func refuse(w io.Writer, remote peer.ID, reason error) error {
	var r Refusal
	if !errors.As(reason, &r) || r == admitted {
		r = RefusedUnspecified
	}
	_, _ = w.Write([]byte{admissionVersion, byte(r)})
	return &RefusedError{Peer: remote, Here: true, Err: reason}
}

func judge(r io.Reader, a Admission, remote peer.ID) error {
	var version [1]byte
	if _, err := io.ReadFull(r, version[:]); err != nil {
		return fmt.Errorf("%w: %w", RefusedMalformed, err)
	}
	if version[0] != admissionVersion {
		return RefusedMalformed
	}
	proof, err := readProof(r)
	if err != nil {
		return fmt.Errorf("%w: %w", RefusedMalformed, err)
	}
	return a.Check(remote, proof)
}

// proofFor returns the proof with its length in front.
func proofFor(a Admission, remote peer.ID) ([]byte, error) {
	proof := a.Proof(remote)
	if len(proof) > MaxProof {
		return nil, fmt.Errorf("own proof has %d bytes, more than %d", len(proof), MaxProof)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(proof))), proof...), nil
}

func readProof(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > MaxProof {
		return nil, fmt.Errorf("proof of %d bytes, more than %d", n, MaxProof)
	}
	proof := make([]byte, n)
	_, err := io.ReadFull(r, proof)
	return proof, err
}
