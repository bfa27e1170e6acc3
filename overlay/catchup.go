package overlay

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

const (
	// catchUpPeers is how many have to tell a node that comes back what was
	// revoked in the meantime, before it serves anyone: one alone might be whom
	// the others put out.
	catchUpPeers = 3

	// catchUpTimeout bounds the wait where others that were known don't answer.
	catchUpTimeout = 2 * time.Second
)

// A catchUp is the time at the start in which a node hears what it missed.
type catchUp struct {
	done chan struct{}
	once sync.Once // closes it

	mu    sync.Mutex
	heard map[peer.ID]bool
}

func newCatchUp() *catchUp {
	return &catchUp{done: make(chan struct{}), heard: map[peer.ID]bool{}}
}

// hear takes in that a peer has told what it knows.
func (c *catchUp) hear(id peer.ID) {
	c.mu.Lock()
	c.heard[id] = true
	enough := len(c.heard) >= catchUpPeers
	c.mu.Unlock()
	if enough {
		c.end()
	}
}

func (c *catchUp) end() { c.once.Do(func() { close(c.done) }) }

// finishCatchUp ends the catching up once enough peers have told, or all have
// been tried that there are.
func (m *Mesh) finishCatchUp(tried <-chan struct{}) {
	defer m.caughtUp.end()
	ctx, cancel := context.WithTimeout(m.ctx, catchUpTimeout)
	defer cancel()
	select {
	case <-m.caughtUp.done:
		return
	case <-ctx.Done():
		return
	case <-tried:
	}
	for _, id := range m.neighbours() {
		m.hearFrom(ctx, id)
	}
}

// hearFrom gets from a peer what this node does not know to be revoked, and if
// both are admins which invites were used.
func (m *Mesh) hearFrom(ctx context.Context, id peer.ID) {
	if err := m.catchUpWith(ctx, id); err != nil {
		if m.ctx.Err() == nil {
			m.log.Debug("catch up", "peer", id, "err", err)
		}
		return
	}
	m.caughtUp.hear(id)
}

func (m *Mesh) catchUpWith(ctx context.Context, id peer.ID) error {
	digest := m.digest()
	m.mu.Lock()
	e := m.roster.entries[id]
	news := e != nil && e.revoked != digest
	both := e != nil && !e.told && e.member.Roles.Has(credential.RoleAdmin) && m.self.Roles.Has(credential.RoleAdmin)
	if e != nil {
		e.told = e.told || both
		e.revoked = digest // which it is after this, or when it has heard from here
	}
	m.mu.Unlock()
	if news {
		if err := m.fetchRevocations(ctx, id); err != nil {
			return err
		}
	}
	if both {
		return m.exchangeClaims(ctx, id, credential.Serial{})
	}
	return nil
}

// each serves the streams of a protocol with a function that answers one.
func (m *Mesh) each(serve func(*p2p.Stream) error) func(*p2p.Listener) {
	return func(l *p2p.Listener) {
		m.acceptAll(l, func(s *p2p.Stream) {
			defer s.Close()
			_ = s.SetDeadline(time.Now().Add(exchangeTimeout))
			if err := m.serveMember(s, serve); err != nil {
				m.log.Debug("serve", "peer", s.Peer(), "stream", s.LocalAddr(), "err", err)
				s.Reset()
			}
		})
	}
}

// acceptAll handles each stream in a goroutine of its own.
func (m *Mesh) acceptAll(l *p2p.Listener, handle func(*p2p.Stream)) {
	for {
		s, err := l.AcceptStream()
		if err != nil {
			return
		}
		m.wg.Go(func() { handle(s) })
	}
}

func (m *Mesh) isCaughtUp() bool {
	select {
	case <-m.caughtUp.done:
		return true
	default:
		return false
	}
}

// serveMember serves one who is not about to be shown out.
func (m *Mesh) serveMember(s *p2p.Stream, serve func(*p2p.Stream) error) error {
	if _, ok := m.Member(s.Peer()); !ok {
		return ErrNotMember
	}
	return serve(s)
}

// afterCatchUp is for what a node must not serve before it has heard what it
// missed.
func (m *Mesh) afterCatchUp(serve func(*p2p.Stream) error) func(*p2p.Stream) error {
	return func(s *p2p.Stream) error {
		select {
		case <-m.caughtUp.done:
			return serve(s)
		case <-m.ctx.Done():
			return ErrClosed
		}
	}
}
