package overlay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
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

// maxUntil bounds when an invite may end, so that it can be reckoned with; no
// credential is good for as long.
const maxUntil = 1 << 38

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

func (c claim) place() string {
	return string(c.Serial[:]) + string(binary.BigEndian.AppendUint16(nil, c.Place))
}

func (c claim) id() string { return c.place() + string(c.Key[:]) }

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
	if c.Place < 1 || c.Place > credential.MaxUses || c.Until <= 0 || c.Until > maxUntil {
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
	fresh, values := map[string]claim{}, map[string][]byte{}
	for _, c := range list {
		if err := c.checkForm(); err != nil {
			return err
		}
		id := c.id()
		old, known := s.all[id]
		if twin, twice := fresh[id]; twice {
			old, known = twin, true
		}
		if known && (old.Final || !c.Final) {
			continue
		}
		if !known && len(s.all)+len(fresh) >= maxClaims {
			return errManyClaims
		}
		data, err := wire.Marshal(c)
		if err != nil {
			return err
		}
		fresh[id], values[id] = c, data
	}
	if len(values) == 0 {
		return nil
	}
	if err := s.store.put(claimsBucket, values); err != nil {
		return err
	}
	maps.Copy(s.all, fresh)
	return nil
}

// take gives a place of an invite to a key, once the other admins have been told
// and have told what they know.
func (s *claims) take(ctx context.Context, invite credential.Grant, key [ed25519.PublicKeySize]byte, tell func(context.Context, credential.Serial)) error {
	for {
		c, err := s.begin(invite.Serial, key, invite.Uses, invite.NotAfter)
		if err != nil || c.Final {
			return err
		}
		tell(ctx, invite.Serial)
		if err := ctx.Err(); err != nil {
			return err
		}
		if first, _ := s.winner(invite.Serial, c.Place); first.Key != key {
			continue // to the next place, if there is one
		}
		c.Final = true
		return s.merge(c)
	}
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

// losers returns the claims that became final beside one that has the place, of
// keys that have no other: two admins gave it away that could not hear each other.
func (s *claims) losers() []claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := map[string]claim{} // by serial and place
	for _, c := range s.all {
		if old, ok := first[c.place()]; !ok || c.rank(old) < 0 {
			first[c.place()] = c
		}
	}
	type use struct {
		serial credential.Serial
		key    [ed25519.PublicKeySize]byte
	}
	has := map[use]bool{}
	for _, c := range first {
		if c.Final {
			has[use{c.Serial, c.Key}] = true
		}
	}
	var out []claim
	for _, c := range s.all {
		if c.Final && !has[use{c.Serial, c.Key}] {
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
