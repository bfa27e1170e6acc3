package overlay

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// claimsBucket holds each claim under its serial, place and key.
const claimsBucket = "claims"

// maxClaims bounds the claims an admin keeps. Each is dropped when its invite has
// ended.
const maxClaims = 4096

// A claim is that a node has one of the places of an invite whose uses are
// counted. Admins alone know claims: each writes down those of its own and those
// it hears of, before it answers.
type claim struct {
	_      struct{} `cbor:",toarray"`
	Serial credential.Serial
	Place  uint16 // from 1 on
	Key    [ed25519.PublicKeySize]byte
	Final  bool  // a credential was given for it
	Until  int64 // when the invite ends, Unix seconds
}

func (c claim) id() string {
	return string(c.Serial[:]) + string(binary.BigEndian.AppendUint16(nil, c.Place)) + string(c.Key[:])
}

// rank orders claims to one place: the final ones, then by a hash that nobody
// chooses freely.
func (c claim) rank(other claim) int {
	if c.Final != other.Final {
		if c.Final {
			return -1
		}
		return 1
	}
	a, b := sha256.Sum256([]byte(c.id())), sha256.Sum256([]byte(other.id()))
	return bytes.Compare(a[:], b[:])
}

func (c claim) checkForm() error {
	if c.Place < 1 || c.Place > credential.MaxUses || c.Until <= 0 {
		return fmt.Errorf("claim to place %d until second %d is not valid", c.Place, c.Until)
	}
	return nil
}

// ErrInviteUsed says that an invite has admitted as many as it was made for.
var ErrInviteUsed = errors.New("the invite has been used")

var errManyClaims = fmt.Errorf("%w: more than %d invites in use", ErrBusy, maxClaims)

// claims are those an admin knows.
//
// An admin that is to give a place writes down its claim, unless it knows of one
// to that place already, and then tells all the others and hears theirs. Whoever
// claims at the same time hears of it the same way, so both know all claims to
// the place when they decide, and they decide by the same order. A claim that an
// admin made and could tell nobody does not stand against one that is final.
type claims struct {
	store store

	mu  sync.Mutex
	all map[string]claim
}

func loadClaims(s store, now time.Time) (*claims, error) {
	values, err := s.all(claimsBucket)
	if err != nil {
		return nil, err
	}
	out := &claims{store: s, all: map[string]claim{}}
	for id, data := range values {
		var c claim
		if err := wire.Unmarshal(data, &c); err != nil || c.id() != id {
			return nil, fmt.Errorf("%w: claim %x: %w", ErrStateCorrupt, id, err)
		}
		out.all[id] = c
	}
	return out, out.prune(now)
}

// prune drops what an invite that has ended leaves behind.
func (s *claims) prune(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[string][]byte{}
	for id, c := range s.all {
		if now.Sub(time.Unix(c.Until, 0)) > 2*credential.ClockTolerance {
			delete(s.all, id)
			gone[id] = nil
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return s.store.put(claimsBucket, gone)
}

// merge takes in claims of others. When it returns nil they are on the disk.
func (s *claims) merge(list ...claim) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mergeLocked(list...)
}

func (s *claims) mergeLocked(list ...claim) error {
	values := map[string][]byte{}
	for _, c := range list {
		if err := c.checkForm(); err != nil {
			return err
		}
		id := c.id()
		old, known := s.all[id]
		if known && (old.Final || !c.Final) {
			continue
		}
		if !known && len(s.all)+len(values) >= maxClaims {
			return errManyClaims
		}
		data, err := wire.Marshal(c)
		if err != nil {
			return err
		}
		values[id] = data
	}
	if len(values) == 0 {
		return nil
	}
	if err := s.store.put(claimsBucket, values); err != nil {
		return err
	}
	for _, c := range list {
		if old := s.all[c.id()]; !old.Final {
			s.all[c.id()] = c
		}
	}
	return nil
}

// begin writes down a claim of a key to the first place that nobody claims, or
// returns the one that there is. [ErrInviteUsed] says that all places are taken.
func (s *claims) begin(serial credential.Serial, key [ed25519.PublicKeySize]byte, uses uint16, until time.Time) (claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for place := uint16(1); place <= uses; place++ {
		first, taken := s.winnerLocked(serial, place)
		switch {
		case taken && first.Key == key:
			return first, nil
		case taken:
			continue
		}
		c := claim{Serial: serial, Place: place, Key: key, Until: until.Unix()}
		return c, s.mergeLocked(c)
	}
	return claim{}, fmt.Errorf("%w by %d of %d", ErrInviteUsed, uses, uses)
}

// winner returns who has a place, as far as is known.
func (s *claims) winner(serial credential.Serial, place uint16) (claim, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.winnerLocked(serial, place)
}

func (s *claims) winnerLocked(serial credential.Serial, place uint16) (claim, bool) {
	var all []claim
	for _, c := range s.all {
		if c.Serial == serial && c.Place == place {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return claim{}, false
	}
	return slices.MinFunc(all, claim.rank), true
}

// losers returns the claims that became final beside one that has the place:
// two admins gave it away that could not hear each other.
func (s *claims) losers() []claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []claim
	for _, c := range s.all {
		if first, _ := s.winnerLocked(c.Serial, c.Place); c.Final && first.Key != c.Key {
			out = append(out, c)
		}
	}
	return out
}

// of returns the claims to the places of one invite, or of all for the zero
// serial.
func (s *claims) of(serial credential.Serial) []claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []claim
	for _, c := range s.all {
		if serial == (credential.Serial{}) || c.Serial == serial {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b claim) int { return cmp.Compare(a.id(), b.id()) })
	return out
}

// used returns the keys of those who were admitted by an invite.
func (s *claims) used(serial credential.Serial) [][ed25519.PublicKeySize]byte {
	var out [][ed25519.PublicKeySize]byte
	for _, c := range s.of(serial) {
		if c.Final {
			out = append(out, c.Key)
		}
	}
	return out
}
