package overlay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/p2p"
)

// Why a node is not let into a mesh, or does not let another in.
var (
	// ErrNotMember says that what was shown is not a credential of the mesh.
	ErrNotMember = errors.New("not a member of the mesh")

	errNoProof = errors.New("no credential was shown")
)

// The refusals of this mesh's admission, as they go over the wire. They are
// never given another meaning.
const (
	refusedNotMember   p2p.Refusal = 16
	refusedWrongMesh   p2p.Refusal = 17
	refusedExpired     p2p.Refusal = 18
	refusedNotYetValid p2p.Refusal = 19
	refusedRevoked     p2p.Refusal = 20
	refusedInviteUsed  p2p.Refusal = 21
	refusedNoAdmin     p2p.Refusal = 22
)

// refusalMeaning ties each code to the error that stands for it on both sides.
var refusalMeaning = map[p2p.Refusal]error{
	refusedNotMember:   ErrNotMember,
	refusedWrongMesh:   credential.ErrWrongMesh,
	refusedExpired:     credential.ErrExpired,
	refusedNotYetValid: credential.ErrNotYetValid,
	refusedRevoked:     credential.ErrRevoked,
	refusedInviteUsed:  ErrInviteUsed,
	refusedNoAdmin:     ErrNoAdmin,
}

// A refusalError is a reason here and a code on the wire.
type refusalError struct {
	code p2p.Refusal
	err  error
}

func (e *refusalError) Error() string   { return e.err.Error() }
func (e *refusalError) Unwrap() []error { return []error{e.code, e.err} }

func refusalFor(err error) error {
	var known *refusalError
	if errors.As(err, &known) {
		return err
	}
	for code, meaning := range refusalMeaning {
		if errors.Is(err, meaning) {
			return &refusalError{code, err}
		}
	}
	return &refusalError{refusedNotMember, errors.Join(ErrNotMember, err)}
}

// What one end shows to the other: its credential, and the digest of what it
// knows to be revoked, so that the two find out whether one has news for the
// other. To one who redeems an invite it is also what the other gets for it.
type shown struct {
	Credential []byte          `cbor:"1,keyasint"`
	Revoked    credential.Hash `cbor:"2,keyasint"`
	Granted    []byte          `cbor:"3,keyasint,omitempty"`
}

// An admitter is what admission needs to know and can have done.
type admitter interface {
	// digest is that of the set of what is revoked.
	digest() credential.Hash
	// verify says who is a member by a credential now.
	verify(c *credential.Credential) (*credential.Member, error)
	// redeem gives a credential for one that was made with a counted invite.
	redeem(ctx context.Context, c *credential.Credential) ([]byte, error)
	// adopt takes on a credential that was given to this node.
	adopt(proof []byte) error
	// learn takes in a member that proved to be one, and was not revoked since.
	learn(m credential.Member, c *credential.Credential, revoked credential.Hash) error
}

// admission lets members in and nobody else: it shows this node's credential
// and verifies the other's. It is a [p2p.Admission].
type admission struct {
	admitter
	ready chan struct{} // closed once the mesh answers what a member asks

	mu      sync.Mutex
	proof   []byte
	granted map[peer.ID][]byte // to be shown next
}

func newAdmission(a admitter, proof []byte) *admission {
	return &admission{admitter: a, proof: proof, ready: make(chan struct{}), granted: map[peer.ID][]byte{}}
}

func (a *admission) Proof(remote peer.ID) []byte {
	a.mu.Lock()
	s := shown{Credential: a.proof, Granted: a.granted[remote]}
	delete(a.granted, remote)
	a.mu.Unlock()
	s.Revoked = a.digest()
	data, err := wire.Marshal(s)
	if err != nil {
		return nil // which the other end refuses; a credential always fits
	}
	return data
}

// renew replaces what is shown from now on.
func (a *admission) renew(proof []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proof = proof
}

func (a *admission) grant(remote peer.ID, proof []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.granted[remote] = proof
}

func (a *admission) Check(remote peer.ID, proof []byte) error {
	if len(proof) == 0 {
		return &refusalError{refusedNotMember, errors.Join(ErrNotMember, errNoProof)}
	}
	if err := a.check(remote, proof); err != nil {
		return refusalFor(err)
	}
	return nil
}

func (a *admission) check(remote peer.ID, proof []byte) error {
	var s shown
	if err := wire.Unmarshal(proof, &s); err != nil {
		return err
	}
	c, err := credential.Parse(s.Credential)
	if err != nil {
		return err
	}
	if !c.IsFor(remote) {
		return ErrNotMember
	}
	m, err := a.verify(c)
	if errors.Is(err, credential.ErrUnredeemed) {
		m, c, err = a.exchange(remote, c)
	}
	if err != nil {
		return err
	}
	if len(s.Granted) > 0 {
		if err := a.adopt(s.Granted); err != nil {
			return fmt.Errorf("given a credential: %w", err)
		}
	}
	<-a.ready // the few milliseconds in which this node starts
	return a.learn(*m, c, s.Revoked)
}

// exchange gives remote a member's credential for one that it made with an
// invite.
func (a *admission) exchange(remote peer.ID, c *credential.Credential) (*credential.Member, *credential.Credential, error) {
	<-a.ready
	ctx, cancel := context.WithTimeout(context.Background(), redeemTimeout)
	defer cancel()
	proof, err := a.redeem(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	given, err := credential.Parse(proof)
	if err != nil {
		return nil, nil, err
	}
	m, err := a.verify(given)
	if err != nil {
		return nil, nil, err
	}
	a.grant(remote, proof)
	return m, given, nil
}

// redeemTimeout leaves the exchange time to tell how it went.
const redeemTimeout = 4 * time.Second

// digest, verify and learn are for admission.
func (m *Mesh) digest() credential.Hash { return m.revoked.digest() }

func (m *Mesh) verify(c *credential.Credential) (*credential.Member, error) {
	if err := m.alive(); err != nil {
		// Not the error itself: that this node is out does not mean that the other is.
		return nil, &refusalError{p2p.RefusedBusy, fmt.Errorf("this node is going: %v", err)}
	}
	member, err := c.Verify(m.id, time.Now())
	if err != nil {
		return nil, err
	}
	return member, m.revoked.check(c)
}

// learn takes in a member that admission let in.
func (m *Mesh) learn(member credential.Member, c *credential.Credential, revoked credential.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	// While the lock is held, or else enforce may have been there in between.
	if err := m.revoked.check(c); err != nil {
		return err
	}
	m.roster.learn(member, c, time.Now()).revoked = revoked
	m.changeLocked()
	return nil
}
