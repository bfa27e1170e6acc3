package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/p2pnode/p2pnode/dht"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

const (
	// retryFirst and retryLast bound the wait between two tries to find the
	// mesh again.
	retryFirst = time.Second
	retryLast  = 30 * time.Second

	// reviveSpread is over how long members whose connection ended are dialed
	// again, so that those who lost the same one don't do it all at once.
	reviveSpread = 500 * time.Millisecond

	// saveDelay gathers what is learned of peers in a burst into one write. A
	// crash loses no more than that.
	saveDelay = 100 * time.Millisecond
)

// connect makes sure that there is a connection to a member.
func (m *Mesh) connect(ctx context.Context, id peer.ID) error {
	err := m.node.Connect(ctx, id)
	if err == nil {
		return nil
	}
	return m.search(ctx, id, err)
}

// search connects to a peer at the addresses that the DHT knows, after those
// known here have failed.
func (m *Mesh) search(ctx context.Context, id peer.ID, failed error) error {
	if !m.worthSearching(ctx, failed) {
		return explain(failed)
	}
	addrs, err := m.table.FindPeer(p2p.AnyPath(ctx), id)
	if errors.Is(err, dht.ErrNotFound) {
		// The table may have had it at an address where it is no more, and has
		// found that out now. Until then it does not hear of any other.
		addrs, err = m.table.FindPeer(p2p.AnyPath(ctx), id)
	}
	m.node.NoteSource(id, p2p.SourceDHT, addrs...)
	if _, known := m.Member(id); err != nil && !known {
		err = fmt.Errorf("%w: %w", ErrUnknownMember, err)
	}
	if err != nil {
		err = fmt.Errorf("%w; %w", failed, err)
	} else {
		err = explain(m.node.Connect(ctx, id, addrs...))
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		m.markUnreachable(id)
	}
	return err
}

// explain puts the error that a refusal code stands for into err's chain.
func explain(err error) error {
	meaning := meaningOf(err)
	if meaning == nil || errors.Is(err, meaning) {
		return err
	}
	return fmt.Errorf("%w: %w", meaning, err)
}

// meaningOf returns the error for the first refusal in err that has one.
func meaningOf(err error) error {
	var code p2p.Refusal
	means := func(r *p2p.RefusedError) bool { return errors.As(r, &code) && refusalMeaning[code] != nil }
	if errorWhere(err, means) == nil && !errors.As(err, &code) {
		return nil
	}
	return refusalMeaning[code]
}

// neighbours returns the peers that there are connections to, each once.
func (m *Mesh) neighbours() []peer.ID {
	var out []peer.ID
	for _, c := range m.node.Connections() { // ordered by peer
		out = append(out, c.Peer)
	}
	return slices.Compact(out)
}

// note takes in that there is a connection to a peer, and where the peer is.
func (m *Mesh) note(id peer.ID) {
	now := time.Now()
	m.mu.Lock()
	m.roster.connected(id, true, now)
	e := m.roster.entries[id]
	admin := e != nil && e.member.Roles.Has(credential.RoleAdmin)
	m.changeLocked()
	m.mu.Unlock()
	if e == nil { // it was put out while it connected
		m.wg.Go(func() { m.showOut([]peer.ID{id}) })
		return
	}
	m.wg.Go(func() { m.hearFrom(m.ctx, id) })
	if admin {
		select {
		case m.renewNow <- struct{}{}:
		default: // it is about to look
		}
	}
	m.known.see(id, m.node.KnownAddrs(id), now)
}

// runConnections follows the node's connections: who is there, where they say
// they are, and who is gone.
func (m *Mesh) runConnections() {
	sub, err := m.node.Host().EventBus().Subscribe(
		[]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerConnectednessChanged)},
		eventbus.BufSize(1024))
	if err != nil {
		m.log.Error("follow connections", "err", err)
		return
	}
	defer sub.Close()
	for _, o := range m.Members() { // what came before the subscription
		if !o.Self {
			m.follow(o.ID)
		}
	}
	save := time.After(saveDelay)
	for {
		select {
		case <-m.ctx.Done():
			return
		case e, ok := <-sub.Out():
			if !ok {
				return
			}
			m.handleEvent(e)
			if save == nil {
				save = time.After(saveDelay)
			}
		case <-save:
			save = nil
			if err := m.known.save(); err != nil {
				m.log.Warn("save known peers", "err", err)
			}
		}
	}
}

func (m *Mesh) handleEvent(e any) {
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		m.node.NoteSource(e.Peer, p2p.SourcePeer, e.ListenAddrs...)
		m.follow(e.Peer)
	case event.EvtPeerConnectednessChanged:
		m.follow(e.Peer)
	}
}

// follow takes in whether there is a connection to a peer now, whatever event
// says that something has changed: those of two kinds overtake each other.
func (m *Mesh) follow(id peer.ID) {
	if m.node.PathTo(id) == p2p.PathUnknown {
		m.lost(id)
		return
	}
	m.note(id)
}

// lost takes in that the last connection to a peer ended, and finds out
// whether the peer is gone too.
func (m *Mesh) lost(id peer.ID) {
	m.mu.Lock()
	e := m.roster.entries[id]
	unexpected := e != nil && e.connected && !e.left
	m.roster.connected(id, false, time.Now())
	m.changeLocked()
	m.mu.Unlock()
	if !unexpected || m.node.Trimmed(id) {
		return
	}
	m.wg.Go(func() {
		select {
		case <-time.After(rand.N(reviveSpread)):
		case <-m.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(m.ctx, enterTimeout)
		defer cancel()
		if err := m.node.Connect(ctx, id); err != nil && m.ctx.Err() == nil {
			m.log.Info("member gone", "peer", id, "err", err)
			m.markUnreachable(id)
		}
	})
}

// runReconnect looks for those who are gone: for all of them, and soon, when
// this node is alone, and for a few at a time otherwise, so that a mesh that was
// cut in two becomes one again.
func (m *Mesh) runReconnect() {
	wait := retryFirst
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(jitter(wait)):
		}
		gone := m.gone()
		wait = min(2*wait, retryLast)
		if len(m.node.Connections()) > 0 {
			wait = retryLast
			gone = gone[:min(len(gone), reviveAtOnce)]
		}
		if len(gone) == 0 {
			continue
		}
		id, _, err := m.connectAny(m.ctx, gone)
		if id == "" {
			m.log.Debug("look for members", "tried", len(gone), "err", err)
			if wasRevoked(err) && len(m.node.Connections()) == 0 {
				m.end(credential.ErrRevoked)
			}
			continue
		}
		m.log.Info("member found again", "peer", id)
		if err := m.fetchRoster(m.ctx, id); err != nil {
			m.log.Debug("fetch roster", "peer", id, "err", err)
		}
	}
}

// reviveAtOnce is how many that are gone a node looks for at a time.
const reviveAtOnce = 3

// gone returns the members known from connections or named by the caller that
// are not up now and did not say that they were going, in random order.
func (m *Mesh) gone() []peer.AddrInfo {
	now := time.Now()
	peers := m.candidates()
	m.mu.Lock()
	defer m.mu.Unlock()
	window := m.roster.window(now)
	peers = slices.DeleteFunc(peers, func(p peer.AddrInfo) bool {
		e := m.roster.entries[p.ID]
		return e != nil && (e.up(now, window) || e.left)
	})
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	return peers
}
