package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/p2p"
)

// rosterProtocol is how a member that comes or comes back learns who else is
// there: it opens a stream, and the other end writes the newest presence
// statement of each member it knows, a frame each.
const rosterProtocol = "/p2pnode/roster/1"

// exchangeTimeout bounds one such transfer.
const exchangeTimeout = 30 * time.Second

// maxExchanges bounds how many are served at once. The next waits.
const maxExchanges = 8

// serveRoster writes who is there, to a few at a time.
func (m *Mesh) serveRoster(s *p2p.Stream) error {
	m.exchanges <- struct{}{}
	defer func() { <-m.exchanges }()
	return m.writeRoster(s)
}

func (m *Mesh) writeRoster(w io.Writer) error {
	own, err := m.ownPresence()
	if err != nil {
		return err
	}
	for _, data := range append(m.presences(), own) {
		if err := wire.WriteFrame(w, data); err != nil {
			return err
		}
	}
	return nil
}

// presences returns the newest statement of each member that is up.
func (m *Mesh) presences() [][]byte {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	var out [][]byte
	window := m.roster.window(now)
	for _, e := range m.roster.entries {
		if e.presence != nil && e.up(now, window) {
			out = append(out, e.presence)
		}
	}
	return out
}

// fetchRoster asks a peer who is there.
func (m *Mesh) fetchRoster(ctx context.Context, id peer.ID) error {
	s, err := m.node.Dial(p2p.Plain(ctx), id, rosterProtocol)
	if err != nil {
		return err
	}
	defer s.Close()
	_ = s.CloseWrite()
	return withDeadline(ctx, s, func() error { return m.readRoster(s) })
}

func (m *Mesh) readRoster(r io.Reader) error {
	for range maxRoster {
		data, err := wire.ReadFrame(r, maxPresence)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := m.takePresence(data); err != nil {
			m.log.Debug("presence statement", "err", err)
		}
	}
	return fmt.Errorf("roster has more than %d members", maxRoster)
}

// refreshRoster asks one peer at random who is there, so that what gossip lost is
// made up for.
func (m *Mesh) refreshRoster() {
	m.askAnyone("fetch roster", m.fetchRoster)
}

// refreshRevocations asks one peer at random what is revoked, likewise.
func (m *Mesh) refreshRevocations() {
	m.askAnyone("fetch revocations", m.fetchRevocations)
}

func (m *Mesh) askAnyone(what string, ask func(context.Context, peer.ID) error) {
	conns := m.node.Connections()
	if len(conns) == 0 {
		return
	}
	id := conns[rand.IntN(len(conns))].Peer
	if err := ask(m.ctx, id); err != nil && m.ctx.Err() == nil {
		m.log.Debug(what, "peer", id, "err", err)
	}
}
