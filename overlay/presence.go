package overlay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// A presence is what a member says of itself to all others: here I am, or I am
// going, and this is my credential. It is signed by the member's key, so
// whoever passes it on can't change it.
type presence struct {
	Credential []byte `cbor:"1,keyasint"`
	Seq        uint64 `cbor:"2,keyasint"` // the later statement has the larger one
	Leaving    bool   `cbor:"3,keyasint"`
	Signature  []byte `cbor:"4,keyasint"`
}

// maxPresence bounds an encoded presence: a credential and 100 bytes.
const maxPresence = credential.MaxSize + 128

// presenceContext keeps the signature from counting for anything else. The
// mesh's ID follows, then the presence without its signature.
const presenceContext = "p2pnode presence v1\x00"

func (p presence) signed(mesh credential.MeshID) ([]byte, error) {
	p.Signature = nil
	body, err := wire.Marshal(p)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(presenceContext), mesh[:]...), body...), nil
}

// sign returns p's encoding with a signature.
func (p presence) sign(mesh credential.MeshID, key ed25519.PrivateKey) ([]byte, error) {
	message, err := p.signed(mesh)
	if err != nil {
		return nil, err
	}
	p.Signature = ed25519.Sign(key, message)
	return wire.Marshal(p)
}

var errPresence = errors.New("presence statement is not valid")

// parsePresence decodes a statement without judging it.
func parsePresence(data []byte) (presence, error) {
	var p presence
	if len(data) > maxPresence {
		return p, fmt.Errorf("%w: %d bytes, more than %d", errPresence, len(data), maxPresence)
	}
	if err := wire.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("%w: %w", errPresence, err)
	}
	return p, nil
}

// verify returns the member that made the statement, and its credential.
func (p presence) verify(mesh credential.MeshID, now time.Time) (*credential.Member, *credential.Credential, error) {
	c, err := credential.Parse(p.Credential)
	if err != nil {
		return nil, nil, err
	}
	m, err := c.Verify(mesh, now)
	if err != nil {
		return nil, nil, err
	}
	return m, c, p.verifyBy(mesh, m)
}

// verifyBy returns nil if the statement was made by a member whose credential in it
// has been verified.
func (p presence) verifyBy(mesh credential.MeshID, m *credential.Member) error {
	message, err := p.signed(mesh)
	if err != nil {
		return err
	}
	if !ed25519.Verify(m.Key, message, p.Signature) {
		return fmt.Errorf("%w: signature is not by %s's key", errPresence, m.Name)
	}
	return nil
}

// A holder is a member and the credential that was verified to be its.
type holder struct {
	member     *credential.Member
	credential *credential.Credential
}

// recognize looks for what need not be verified again of a statement, which may
// come from each member there is: the credential in it, or all of it. It is held if
// it is, byte for byte, the newest that this node has of its member.
func (m *Mesh) recognize(proof, data []byte) (_ *holder, held bool) {
	c, err := credential.Parse(proof)
	if err != nil {
		return nil, false
	}
	id, err := credential.PeerID(c.Grants()[0].Key)
	if err != nil {
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.roster.entries[id]
	if e == nil || e.credential == nil || !bytes.Equal(e.credential.Marshal(), proof) {
		return nil, false
	}
	member := e.member
	return &holder{&member, e.credential}, bytes.Equal(e.presence, data)
}

// receivePresence takes in a statement that came by gossip. What is valid and
// news goes on to others.
func (m *Mesh) receivePresence(data []byte) pubsub.ValidationResult {
	fresh, err := m.takePresence(data)
	switch {
	case err != nil:
		m.log.Debug("presence statement", "err", err)
		return pubsub.ValidationReject
	case !fresh:
		return pubsub.ValidationIgnore
	}
	return pubsub.ValidationAccept
}

// takePresence verifies a statement, from whomever, and takes it in if it is
// news.
func (m *Mesh) takePresence(data []byte) (fresh bool, err error) {
	p, err := parsePresence(data)
	if err != nil {
		return false, err
	}
	now := time.Now()
	known, held := m.recognize(p.Credential, data)
	if held {
		return false, nil
	}
	var member *credential.Member
	var c *credential.Credential
	if known != nil {
		member, c, err = known.member, known.credential, p.verifyBy(m.id, known.member)
	} else {
		member, c, err = p.verify(m.id, now)
	}
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// While the lock is held, or else enforce may have been there in between.
	if err := m.standing(member, c, now); err != nil {
		return false, err
	}
	if member.ID == m.self.ID {
		// This node's own, on its way out; or from before the clock was set
		// back, in which case the next one has to have a larger number.
		m.seq = max(m.seq, p.Seq)
		return true, nil
	}
	fresh = m.roster.announce(*member, c, p, data, now)
	if fresh {
		m.changeLocked()
	}
	return fresh, nil
}

// runPresence says that this node is up: at once, regularly, and when somebody new
// can hear it while few could.
func (m *Mesh) runPresence() {
	heard := m.newListeners()
	for {
		again := heard
		if len(m.gossip.presence.ListPeers()) >= enoughHeard {
			again = nil // all hear of it; who comes later asks whom it turns to
		}
		if err := m.announce(m.ctx); err != nil && m.ctx.Err() == nil {
			m.log.Warn("announce presence", "err", err)
		}
		said := time.Now()
		select {
		case <-m.ctx.Done():
			return
		case <-again:
			m.pause(presenceSettle) // more may be coming
			m.pause(m.presenceSpacing() - time.Since(said))
		case <-time.After(jitter(m.presenceInterval())):
		}
	}
}

// newListeners returns a channel that has something in it when a member has come
// since to whom this node's statements go directly.
func (m *Mesh) newListeners() <-chan struct{} {
	heard := make(chan struct{}, 1)
	m.wg.Go(func() {
		for m.gossip.presence.nextPeer(m.ctx) == nil {
			select {
			case heard <- struct{}{}:
			default:
			}
		}
	})
	return heard
}

// refreshFirst is how soon a node that has started asks again who is there: others
// may have started with it.
const refreshFirst = 4 * time.Second

// runRefresh asks others, one at a time, for what gossip may have lost: who is
// there, soon after the start and then less and less often, until it is as often as
// members say so; and what is revoked, which costs no more than a digest.
func (m *Mesh) runRefresh() {
	roster := refreshFirst
	rosterDue := time.After(jitter(roster))
	revocations := time.NewTicker(jitter(presenceInterval))
	defer revocations.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-rosterDue:
			m.refreshRoster()
			roster = min(2*roster, m.presenceInterval())
			rosterDue = time.After(jitter(roster))
		case <-revocations.C:
			m.refreshRevocations()
			m.wakeWatchers() // who is up changes with time, too
		}
	}
}

// jitter spreads what many nodes that started together do regularly.
func jitter(t time.Duration) time.Duration { return t*3/4 + rand.N(t/2) }

func (m *Mesh) presenceInterval() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.interval(time.Now())
}

// enoughHeard is how many have to hear a statement at once for it to reach all: more
// than pass it on to any one, see gossipParams.
const enoughHeard = 6

func (m *Mesh) presenceSpacing() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.spacing(time.Now())
}

func (m *Mesh) wakeWatchers() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changeLocked()
}

// presenceSettle keeps a node that meets many at once from telling each alone.
const presenceSettle = 300 * time.Millisecond

func (m *Mesh) pause(d time.Duration) {
	select {
	case <-m.ctx.Done():
	case <-time.After(d):
	}
}

// announce publishes a statement about this node.
func (m *Mesh) announce(ctx context.Context) error {
	data, err := m.ownPresence()
	if err != nil {
		return err
	}
	return m.gossip.presence.publish(ctx, data)
}

// ownPresence returns a new statement about this node, which is going once
// Close has begun. Its number is the time, so that it is larger than those from
// before a restart, unless the clock was set back since the last one.
func (m *Mesh) ownPresence() ([]byte, error) {
	m.mu.Lock()
	m.seq = max(m.seq+1, uint64(time.Now().UnixNano()))
	p := presence{Credential: m.credential.Marshal(), Seq: m.seq, Leaving: m.closed}
	m.mu.Unlock()
	return p.sign(m.id, m.keys.key)
}

// sayGoodbye tells the others that this node is going.
func (m *Mesh) sayGoodbye() error {
	ctx, cancel := context.WithTimeout(context.Background(), presenceSettle)
	defer cancel()
	data, err := m.ownPresence()
	if err == nil {
		err = m.gossip.presence.publishLast(ctx, data)
	}
	if err != nil {
		m.log.Debug("announce leaving", "err", err)
	}
	return nil
}
