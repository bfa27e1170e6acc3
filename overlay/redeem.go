package overlay

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/p2p"
)

// ErrNoAdmin says that an invite whose uses are counted can't be redeemed, since
// no admin is up.
var ErrNoAdmin = errors.New("no admin of the mesh can be reached")

// redeemProtocol is how a member has an admin give a credential to somebody who
// came to the member with a counted invite: it writes a frame with what was
// shown, and the admin answers with the outcome.
const redeemProtocol = "/p2pnode/redeem/1"

// redeemed is that outcome: a refusal's code, or a credential.
type redeemed struct {
	Code       uint8  `cbor:"1,keyasint"`
	Credential []byte `cbor:"2,keyasint,omitempty"`
}

// claimsProtocol is how admins tell each other their claims: one writes a frame,
// and the other answers with those it has of the same invite, or with all.
const claimsProtocol = "/p2pnode/claims/1"

type claimsMessage struct {
	Serial credential.Serial `cbor:"1,keyasint"` // zero: of all invites
	Claims []claim           `cbor:"2,keyasint,omitempty"`
	More   bool              `cbor:"3,keyasint,omitempty"` // another frame follows
}

const (
	claimsPerFrame  = 512
	maxClaimsFrame  = claimsPerFrame*80 + 64
	maxClaimsFrames = maxClaims/claimsPerFrame + 1

	// askTimeout is how long another admin has to say what it knows. One that is
	// up answers within a round trip and a write to disk.
	askTimeout = 2 * time.Second
)

// redeem gives a credential for one that was made with a counted invite, by
// this node if it is an admin, and by another otherwise.
func (m *Mesh) redeem(ctx context.Context, c *credential.Credential) ([]byte, error) {
	select {
	case <-m.caughtUp.done: // what was used or revoked while this node was away
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	errs := []error{ErrNoAdmin}
	if m.Self().Roles.Has(credential.RoleAdmin) {
		proof, err := m.redeemHere(ctx, c)
		if !errors.Is(err, ErrNoAdmin) {
			return proof, err
		}
		errs = append(errs, err)
	}
	for _, id := range m.otherAdmins() {
		proof, err := m.redeemWith(ctx, id, c)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errNotAsked) {
			return proof, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// errNotAsked says that another admin may do better.
var errNotAsked = errors.New("no answer")

func (m *Mesh) redeemWith(ctx context.Context, id peer.ID, c *credential.Credential) ([]byte, error) {
	s, err := m.node.Dial(p2p.Plain(ctx), id, redeemProtocol)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotAsked, err)
	}
	defer s.Close()
	var out redeemed
	err = withDeadline(ctx, s, func() error {
		if err := wire.WriteFrame(s, c.Marshal()); err != nil {
			return err
		}
		return readMessage(s, credential.MaxSize+16, &out)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotAsked, err)
	}
	switch code := p2p.Refusal(out.Code); code {
	case 0:
		return out.Credential, nil
	case refusedNoAdmin: // for this invite
		return nil, fmt.Errorf("%w: %w", errNotAsked, explain(code))
	default:
		return nil, explain(code)
	}
}

func (m *Mesh) serveRedeem(s *p2p.Stream) error {
	if !m.Self().Roles.Has(credential.RoleAdmin) {
		return ErrNotAdmin
	}
	proof, err := wire.ReadFrame(s, credential.MaxSize)
	if err != nil {
		return err
	}
	c, err := credential.Parse(proof)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(m.ctx, redeemTimeout)
	defer cancel()
	var out redeemed
	if out.Credential, err = m.redeemHere(ctx, c); err != nil {
		m.log.Info("invite not redeemed", "credential", c, "err", err)
		var code p2p.Refusal
		errors.As(refusalFor(err), &code)
		out.Code = uint8(code)
	}
	return writeMessage(s, out)
}

// A keyedMutex is a lock for each invite that is being redeemed.
type keyedMutex struct {
	mu    sync.Mutex
	locks map[credential.Serial]*countedLock
}

type countedLock struct {
	sync.Mutex
	users int
}

func (k *keyedMutex) lock(s credential.Serial) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[credential.Serial]*countedLock{}
	}
	l := k.locks[s]
	if l == nil {
		l = &countedLock{}
		k.locks[s] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, s)
		}
	}
}

// redeemHere gives the credential, if there is a place left for its key.
func (m *Mesh) redeemHere(ctx context.Context, c *credential.Credential) ([]byte, error) {
	member, err := c.Redeem(m.id, time.Now())
	if err != nil {
		return nil, err
	}
	if err := m.revoked.check(c); err != nil {
		return nil, err
	}
	given, err := m.exchangeFor(member)
	if err != nil {
		return nil, err
	}
	defer m.redeeming.lock(member.Issuers[0].Serial)()
	if err := m.takePlace(ctx, member); err != nil {
		return nil, err
	}
	return given.Marshal(), nil
}

// exchangeFor makes the credential. [ErrNoAdmin] says that this node can't give as
// much as the invite does, so that no place is taken for nothing.
func (m *Mesh) exchangeFor(member *credential.Member) (*credential.Credential, error) {
	given, err := m.issue(*member)
	if err != nil {
		return nil, fmt.Errorf("%w that may give it: %w", ErrNoAdmin, err)
	}
	if given.Grants()[0].NotAfter.Before(member.NotAfter) {
		return nil, fmt.Errorf("%w that may give it: this one's own credential ends before the invite", ErrNoAdmin)
	}
	return given, nil
}

// takePlace makes sure that a member has a place of its invite that nobody else
// has.
func (m *Mesh) takePlace(ctx context.Context, member *credential.Member) error {
	invite := member.Issuers[0]
	if err := m.claims.take(ctx, invite, [ed25519.PublicKeySize]byte(member.Key), m.tellClaims); err != nil {
		return err
	}
	m.wg.Go(func() { m.tellClaims(m.ctx, invite.Serial) })
	return nil
}

// otherAdmins returns the admins that are up, without this node.
func (m *Mesh) otherAdmins() []peer.ID {
	var out []peer.ID
	for _, other := range m.Members() {
		if !other.Self && other.Up && other.Roles.Has(credential.RoleAdmin) {
			out = append(out, other.ID)
		}
	}
	return out
}

// tellClaims tells all admins that are up of the claims to an invite, or to all,
// and takes in theirs. Of those that don't answer nothing can be known.
func (m *Mesh) tellClaims(ctx context.Context, serial credential.Serial) {
	var wg sync.WaitGroup
	for _, id := range m.otherAdmins() {
		wg.Go(func() {
			if err := m.exchangeClaims(ctx, id, serial); err != nil && ctx.Err() == nil {
				m.log.Warn("tell claims", "peer", id, "err", err)
			}
		})
	}
	wg.Wait()
}

func (m *Mesh) exchangeClaims(ctx context.Context, id peer.ID, serial credential.Serial) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := m.node.Dial(p2p.Plain(ctx), id, claimsProtocol)
	if err != nil {
		return err
	}
	defer s.Close()
	err = withDeadline(ctx, s, func() error {
		if err := writeClaims(s, serial, m.claims.of(serial)); err != nil {
			return err
		}
		_, err := m.readClaims(s)
		return err
	})
	m.settleClaims()
	return err
}

func (m *Mesh) serveClaims(s *p2p.Stream) error {
	peer, _ := m.Member(s.Peer())
	if !(m.Self().Roles & peer.Roles).Has(credential.RoleAdmin) {
		return ErrNotAdmin
	}
	if err := m.answerClaims(s); err != nil {
		return err
	}
	m.settleClaims() // which may take longer than who asked waits
	return nil
}

func (m *Mesh) answerClaims(s io.ReadWriter) error {
	serial, err := m.readClaims(s)
	if err != nil {
		return err
	}
	return writeClaims(s, serial, m.claims.of(serial))
}

func writeClaims(s io.Writer, serial credential.Serial, list []claim) error {
	for {
		n := min(len(list), claimsPerFrame)
		msg := claimsMessage{Serial: serial, Claims: list[:n], More: n < len(list)}
		if err := writeMessage(s, msg); err != nil {
			return err
		}
		if list = list[n:]; !msg.More {
			return nil
		}
	}
}

// readClaims reads claims and takes them in.
func (m *Mesh) readClaims(s io.Reader) (credential.Serial, error) {
	for range maxClaimsFrames {
		var msg claimsMessage
		if err := readMessage(s, maxClaimsFrame, &msg); err != nil {
			return msg.Serial, err
		}
		if err := m.claims.merge(msg.Claims...); err != nil {
			return msg.Serial, err
		}
		if !msg.More {
			return msg.Serial, nil
		}
	}
	return credential.Serial{}, fmt.Errorf("more than %d claims", maxClaims)
}

// settleClaims revokes who was given a place that somebody else has: it was done
// by two admins that could not hear each other, and all agree on whom.
func (m *Mesh) settleClaims() {
	if !m.Self().Roles.Has(credential.RoleAdmin) {
		return
	}
	for _, c := range m.claims.losers() {
		terms := credential.RevokeTerms{Key: c.Key[:]}
		if m.revoked.targets(c.Key[:]) {
			continue
		}
		err := m.keep(&terms) // should it have been an admin
		if err == nil {
			err = m.publishRevocation(m.ctx, terms)
		}
		switch {
		case err == nil:
			m.log.Warn("an invite was used once too often; the later is put out", "invite", c.Serial)
		case errors.Is(err, ErrNotPermitted): // by this one; there are admins above it
			m.log.Debug("an invite was used once too often", "invite", c.Serial, "err", err)
		case m.ctx.Err() == nil:
			m.log.Error("an invite was used once too often", "invite", c.Serial, "err", err)
		}
	}
}
