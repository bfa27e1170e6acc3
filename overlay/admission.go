package overlay

import (
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
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
)

// refusalMeaning ties each code to the error that stands for it on both sides.
var refusalMeaning = map[p2p.Refusal]error{
	refusedNotMember:   ErrNotMember,
	refusedWrongMesh:   credential.ErrWrongMesh,
	refusedExpired:     credential.ErrExpired,
	refusedNotYetValid: credential.ErrNotYetValid,
}

// A refusalError is a reason here and a code on the wire.
type refusalError struct {
	code p2p.Refusal
	err  error
}

func (e *refusalError) Error() string   { return e.err.Error() }
func (e *refusalError) Unwrap() []error { return []error{e.code, e.err} }

func refusalFor(err error) error {
	for code, meaning := range refusalMeaning {
		if errors.Is(err, meaning) {
			return &refusalError{code, err}
		}
	}
	return &refusalError{refusedNotMember, errors.Join(ErrNotMember, err)}
}

// admission lets members in and nobody else: it shows this node's credential
// and verifies the other's. It is a [p2p.Admission].
type admission struct {
	mesh  credential.MeshID
	learn func(m credential.Member, proof []byte) // told of each member that proved to be one
	ready chan struct{}                           // closed once the mesh answers what a member asks

	mu    sync.Mutex
	proof []byte
}

func (a *admission) Proof(peer.ID) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.proof
}

// renew replaces what is shown from now on.
func (a *admission) renew(proof []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proof = proof
}

func (a *admission) Check(remote peer.ID, proof []byte) error {
	if len(proof) == 0 {
		return &refusalError{refusedNotMember, errors.Join(ErrNotMember, errNoProof)}
	}
	m, err := credential.Verify(proof, a.mesh, time.Now())
	if err != nil {
		return refusalFor(err)
	}
	if m.ID != remote {
		return &refusalError{refusedNotMember, ErrNotMember}
	}
	<-a.ready // the few milliseconds in which this node starts
	a.learn(*m, proof)
	return nil
}
