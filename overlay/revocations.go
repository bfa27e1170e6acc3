package overlay

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/p2p"
	"golang.org/x/sync/errgroup"
)

// revocationsBucket holds each revocation under its ID.
const revocationsBucket = "revocations"

// revoked is what this node knows to be revoked. It only grows, and what is in it
// is on the disk.
type revoked struct {
	mesh  credential.MeshID
	store store

	mu  sync.Mutex
	set *credential.Revocations
}

func loadRevoked(s store, mesh credential.MeshID) (*revoked, error) {
	values, err := s.all(revocationsBucket)
	if err != nil {
		return nil, err
	}
	var all []*credential.Revocation
	for _, data := range values {
		r, err := credential.ParseRevocation(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrStateCorrupt, err)
		}
		all = append(all, r) // verified before it was written
	}
	out := &revoked{mesh: mesh, store: s, set: credential.NewRevocations(mesh)}
	out.set.Add(all...)
	return out, nil
}

// take takes in revocations that may come from anywhere, and returns those that
// are new. They count even if they can't be written down.
func (r *revoked) take(list ...*credential.Revocation) ([]*credential.Revocation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	fresh := slices.DeleteFunc(slices.Clone(list), func(x *credential.Revocation) bool {
		if r.set.Has(x.ID()) {
			return true
		}
		err := x.Verify(r.mesh)
		errs = append(errs, err)
		return err != nil
	})
	added := r.set.Add(fresh...)
	if len(added) == 0 {
		return nil, errors.Join(errs...)
	}
	values := map[string][]byte{}
	for _, x := range added {
		id := x.ID()
		values[string(id[:])] = x.Marshal()
	}
	return added, errors.Join(append(errs, r.store.put(revocationsBucket, values))...)
}

// check returns an error that is [credential.ErrRevoked] for a credential that
// is.
func (r *revoked) check(c *credential.Credential) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.Check(c)
}

func (r *revoked) has(x *credential.Revocation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.Has(x.ID())
}

// madeBy returns those that a key made, or one whose credential rested on it.
func (r *revoked) madeBy(key ed25519.PublicKey) []*credential.Revocation {
	return slices.DeleteFunc(r.all(), func(x *credential.Revocation) bool { return !x.RestsOn(key) })
}

func (r *revoked) targets(key ed25519.PublicKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.Targets(key)
}

func (r *revoked) restsOnRevoked(c *credential.Credential) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.RestsOnRevoked(c)
}

func (r *revoked) digest() credential.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.Digest()
}

func (r *revoked) all() []*credential.Revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.All()
}

// revocationsProtocol is how a node gets the revocations that it does not know of:
// it opens a stream, and writes the digest of its set and the IDs of those it has.
// The other end writes the rest, a frame each, and closes. One that has just made
// a revocation gives it to the other first; then the end of the stream says that
// the other has it.
const revocationsProtocol = "/p2pnode/revocations/1"

const (
	// maxHeld bounds the IDs that one who asks may write, and maxIDs those of one
	// frame: more than a full set has.
	maxHeld = 1 << 15
	maxIDs  = 1024

	// maxFetched is more bytes than a full set has, which ends with what fills it.
	maxFetched = credential.MaxRevocations + 16*credential.MaxRevocation

	// maxHeldFrame is that of a frame with IDs or a revocation.
	maxHeldFrame = max(maxIDs*40, credential.MaxRevocation) + 64
)

// held says what a node has: the digest of all in each frame, and either some IDs
// or a new revocation. The last has neither.
type held struct {
	Digest credential.Hash   `cbor:"1,keyasint"`
	IDs    []credential.Hash `cbor:"2,keyasint,omitempty"`
	New    []byte            `cbor:"3,keyasint,omitempty"`
}

func (m *Mesh) serveRevocations(s *p2p.Stream) error { return m.answerRevocations(s) }

func (m *Mesh) answerRevocations(s io.ReadWriter) error {
	has := map[credential.Hash]bool{}
	for len(has) <= maxHeld {
		var h held
		if err := readMessage(s, maxHeldFrame, &h); err != nil {
			return err
		}
		if len(h.New) > 0 {
			if err := m.takeNew(h.New); err != nil {
				return err
			}
		}
		if h.Digest == m.revoked.digest() {
			return nil
		}
		if len(h.IDs) == 0 && len(h.New) == 0 {
			return m.writeRevocations(s, has)
		}
		for _, id := range h.IDs {
			has[id] = true
		}
	}
	return fmt.Errorf("more than %d revocations", maxHeld)
}

func (m *Mesh) takeNew(data []byte) error {
	r, err := credential.ParseRevocation(data)
	if err != nil {
		return err
	}
	_, err = m.takeRevocations(r)
	return err
}

func (m *Mesh) writeRevocations(w io.Writer, has map[credential.Hash]bool) error {
	for _, r := range m.revoked.all() {
		if has[r.ID()] {
			continue
		}
		if err := wire.WriteFrame(w, r.Marshal()); err != nil {
			return err
		}
	}
	return nil
}

// tellRevocation gives a revocation to all that this node is connected to, and
// returns how many have not said that they have it.
func (m *Mesh) tellRevocation(ctx context.Context, r *credential.Revocation) (missed int) {
	var g errgroup.Group
	g.SetLimit(tellWidth)
	var failed atomic.Int64
	for _, id := range m.neighbours() {
		g.Go(func() error {
			if err := m.syncRevocations(ctx, id, r.Marshal()); err != nil {
				m.log.Debug("tell of a revocation", "peer", id, "err", err)
				failed.Add(1)
			}
			return nil
		})
	}
	_ = g.Wait()
	return int(failed.Load())
}

// tellWidth is how many are told at once.
const tellWidth = 64

// fetchRevocations asks a peer for those that this node does not have.
func (m *Mesh) fetchRevocations(ctx context.Context, id peer.ID) error {
	return m.syncRevocations(ctx, id, nil)
}

func (m *Mesh) syncRevocations(ctx context.Context, id peer.ID, fresh []byte) error {
	s, err := m.node.Dial(p2p.Plain(ctx), id, revocationsProtocol)
	if err != nil {
		return err
	}
	defer s.Close()
	var got []*credential.Revocation
	err = withDeadline(ctx, s, func() error {
		if err := writeHeld(s, m.digest(), m.revoked.all(), fresh); err != nil {
			return err
		}
		got, err = readRevocations(s)
		return err
	})
	_, errTake := m.takeRevocations(got...)
	return errors.Join(err, errTake)
}

func writeHeld(w io.Writer, digest credential.Hash, all []*credential.Revocation, fresh []byte) error {
	if len(fresh) > 0 {
		if err := writeMessage(w, held{Digest: digest, New: fresh}); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(all, maxIDs) {
		h := held{Digest: digest}
		for _, r := range chunk {
			h.IDs = append(h.IDs, r.ID())
		}
		if err := writeMessage(w, h); err != nil {
			return err
		}
	}
	return writeMessage(w, held{Digest: digest})
}

// readRevocations reads up to the end of the stream. What came before an error
// is good.
func readRevocations(r io.Reader) ([]*credential.Revocation, error) {
	var out []*credential.Revocation
	for size := 0; size <= maxFetched; {
		data, err := wire.ReadFrame(r, credential.MaxRevocation)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		x, err := credential.ParseRevocation(data)
		if err != nil {
			return out, err
		}
		out = append(out, x)
		size += len(data)
	}
	return out, fmt.Errorf("more than %d bytes of revocations", maxFetched)
}

// receiveRevocation takes in what came by gossip. What is valid and news goes on
// to others.
func (m *Mesh) receiveRevocation(data []byte) pubsub.ValidationResult {
	r, err := credential.ParseRevocation(data)
	if err != nil {
		m.log.Debug("revocation", "err", err)
		return pubsub.ValidationReject
	}
	fresh, err := m.takeRevocations(r)
	switch {
	case err != nil && !fresh:
		m.log.Debug("revocation", "err", err)
		return pubsub.ValidationReject
	case !fresh:
		return pubsub.ValidationIgnore
	case err != nil:
		m.log.Error("keep revocation", "err", err)
	}
	return pubsub.ValidationAccept
}

// takeRevocations takes in revocations, acts on those that are news, and tells
// whether there were any.
func (m *Mesh) takeRevocations(list ...*credential.Revocation) (fresh bool, err error) {
	added, err := m.revoked.take(list...)
	for _, r := range added {
		m.log.Info("revoked", "revocation", r)
	}
	if len(added) > 0 {
		m.enforce()
	}
	return len(added) > 0, err
}
